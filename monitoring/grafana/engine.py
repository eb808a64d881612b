"""Engine: what vLLM says of itself, beside what the gateway sees of it.

vLLM's series carry the label `replica` because the scrape adds it (monitoring/prometheus/prometheus.yml).
"""

from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.grafana.agents import agent_panels
from monitoring.grafana.page import Limits, Page, newest, quantile, rate
from monitoring.prometheus.slos import GAP_S, TTFT_S

_IT = 'replica=~"$replica"'


def dashboard() -> Dashboard:
    """Return the dashboard."""
    page = Page("engine", "Engine", "vLLM's own metrics beside the gateway's, replica by replica.")
    page.choose("replica", "Replica", "label_values(turnout_replica_up, replica)", several=True)
    _load(page)
    _latency(page)
    _cache(page)
    _outcomes(page)
    agent_panels(page, _IT)
    return page.build()


def _load(page: Page) -> None:
    page.row("Load")
    page.graph(
        "Requests in the engine",
        {
            "{{replica}} running": f"sum by (replica) (vllm:num_requests_running{{{_IT}}})",
            "{{replica}} waiting": f"sum by (replica) (vllm:num_requests_waiting{{{_IT}}})",
            "the gateway: in flight": "sum(turnout_in_flight)",
        },
        says="What the engines have, and what the gateway has under way with all of them.",
    )
    page.graph(
        "Waiting, by reason",
        {
            "{{replica}} {{reason}}": newest(
                "vllm:num_requests_waiting_by_reason", of=_IT, by="replica, reason"
            )
        },
        says="Why requests wait in the engine: no room (capacity), or deferred, as without a slot for LoRA.",
        see="adapter-thrash",
    )
    page.graph(
        "Tokens",
        {
            "{{replica}} prompt": rate("vllm:prompt_tokens_total", of=_IT, by="replica"),
            "{{replica}} generated": rate("vllm:generation_tokens_total", of=_IT, by="replica"),
            "the gateway: completion": rate("turnout_completion_tokens_total"),
        },
        says="Tokens a second. Engines also count probes and shadows, the gateway's curve clients alone.",
        unit="suffix: tok/s",
    )


def _latency(page: Page) -> None:
    page.row("Latency, p95")
    page.graph(
        "First token",
        {
            "{{replica}}": quantile(0.95, "vllm:time_to_first_token_seconds", of=_IT, by="replica"),
            "the gateway": quantile(0.95, "turnout_ttft_seconds"),
        },
        says="What the gateway sees on top is its queue, cold loads and the network.",
        unit="s",
        limits=Limits(TTFT_S),
        see="slo-ttft",
    )
    page.graph(
        "Between tokens",
        {
            "{{replica}}": quantile(0.95, "vllm:inter_token_latency_seconds", of=_IT, by="replica"),
            "the gateway": quantile(0.95, "turnout_inter_token_seconds"),
        },
        says="A gap that only the gateway sees is in the gateway or in the network.",
        unit="s",
        limits=Limits(GAP_S),
        see="slo-inter-token",
    )
    page.graph(
        "Queue",
        {
            "{{replica}}": quantile(0.95, "vllm:request_queue_time_seconds", of=_IT, by="replica"),
            "the gateway": quantile(0.95, "turnout_queue_wait_seconds"),
        },
        says="Time in the engine's queue and in the gateway's: the gateway's limit of requests in flight "
        "decides in which of them requests wait.",
        unit="s",
        limits=Limits(1, 5),
    )


def _cache(page: Page) -> None:
    page.row("Cache")
    page.graph(
        "KV cache in use",
        {"{{replica}}": newest("vllm:kv_cache_usage_perc", of=_IT, by="replica")},
        says="At 1 the engine preempts requests or lets them wait.",
        unit="percentunit",
        limits=Limits(0.8, 0.95),
    )
    page.graph(
        "Prefix cache, hits",
        {
            "{{replica}}": f"""{rate("vllm:prefix_cache_hits_total", of=_IT, by="replica")}
            / {rate("vllm:prefix_cache_queries_total", of=_IT, by="replica")}"""
        },
        says="The share of prompt tokens found in the cache: what placement is for (docs/placement.md).",
        unit="percentunit",
    )
    page.graph(
        "Preemptions",
        {"{{replica}}": rate("vllm:num_preemptions_total", of=_IT, by="replica")},
        says="Requests thrown out of a batch for want of cache; they are computed again.",
        unit="cps",
        limits=Limits(0.1, 1),
    )


def _outcomes(page: Page) -> None:
    page.row("Outcomes")
    page.graph(
        "Answers by finish reason",
        {"{{finished_reason}}": rate("vllm:request_success_total", of=_IT, by="finished_reason")},
        says="Why answers ended; `abort` are clients that went away or replicas that were given up.",
        unit="reqps",
        stacked=True,
    )
    page.graph(
        "Refused by the engine",
        {"{{replica}} {{reason}}": rate("vllm:admission_rejections_total", of=_IT, by="replica, reason")},
        says="Requests that the engine's own limits refused with 503; the gateway sends those elsewhere.",
        unit="cps",
    )
    page.graph(
        "Age of the process",
        {"{{replica}}": f'time() - max by (replica) (process_start_time_seconds{{job="vllm", {_IT}}})'},
        says="A drop to zero is a new incarnation: its adapters have to be registered and proved again.",
        unit="s",
        see="replica-down",
    )
