"""What the fake engine says under `/metrics` when it is asked to say all that a real engine says.

The recorded answer is vLLM's after some traffic. What only ever grows in it grows with the requests here.
"""

from functools import cache
from pathlib import Path

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

RECORDED = Path(__file__).parent / "data" / "vllm-0.32.0.metrics"


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
