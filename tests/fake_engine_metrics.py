"""What the fake engine says under `/metrics` when it is asked to say all that a real engine says.

The recorded answer is vLLM's after some traffic. What only ever grows in it grows with the requests here.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.fake_engine_weights import BLOCK_TOKENS

if TYPE_CHECKING:
    from tests.fake_engine import FakeEngine

RECORDED = Path(__file__).parent / "data" / "vllm-0.32.0.metrics"


def said(engine: "FakeEngine") -> str:
    """Return what an engine answers: what Turnout reads of it, and with `all_metrics` all the rest."""
    ended = f"{engine.steps.ended}.0"
    labels = f'engine="0",model_name="{engine.base_model}"'
    own = (
        "# TYPE process_start_time_seconds gauge\n"
        f"process_start_time_seconds {engine.incarnation}\n"
        "# TYPE vllm:num_requests_running gauge\n"
        f"vllm:num_requests_running{{{labels}}} {float(engine.running)}\n"
        "# TYPE vllm:num_requests_waiting gauge\n"
        f"vllm:num_requests_waiting{{{labels}}} 0.0\n"
        "# TYPE vllm:request_success counter\n"
        f'vllm:request_success_total{{engine="0",finished_reason="stop",model_name="x"}} {ended}\n'
        f'vllm:request_success_total{{engine="0",finished_reason="abort",model_name="x"}} 0.0\n'
        "# TYPE vllm:iteration_tokens_total histogram\n"
        f'vllm:iteration_tokens_total_bucket{{engine="0",le="8.0"}} {engine.steps.small}.0\n'
        f'vllm:iteration_tokens_total_bucket{{engine="0",le="+Inf"}} {engine.steps.all}.0\n'
        f'vllm:iteration_tokens_total_count{{engine="0"}} {engine.steps.all}.0\n'
        f"vllm:kv_cache_usage_perc{{{labels}}} 0.0\n"
        f'vllm:cache_config_info{{block_size="{BLOCK_TOKENS}",'
        f'enable_prefix_caching="{engine.knobs.caches_prefixes}"}} 1.0\n'
    )
    if engine.knobs.all_metrics:
        own += recorded(grown=1 + len(engine.posts()), without=own)
    return own


def recorded(*, grown: int, without: str) -> str:
    """Return the recorded samples of families that are not in `without`; what counts is times `grown`."""
    lines = []
    for family in _families():
        if f" {family.name} " in without or family.name.startswith(("python_", "process_")):
            continue
        factor = grown if family.type in ("counter", "histogram", "summary") else 1
        lines.append(f"# TYPE {family.name} {family.type}")
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            if not sample.name.endswith("_created"):
                lines.append(f"{sample.name}{{{labels}}} {sample.value * factor}")
    return "\n".join(lines) + "\n"


@cache
def _families() -> tuple[Metric, ...]:
    return tuple(text_string_to_metric_families(RECORDED.read_text(encoding="utf-8")))
