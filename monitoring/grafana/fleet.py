"""Fleet: is the service well, and where does it hurt?"""

from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring.grafana.limits import limit_panels
from monitoring.grafana.page import Limits, Page, newest, quantile, rate, share
from monitoring.grafana.retention import oldest_rows
from monitoring.grafana.workers import event_loops
from monitoring.prometheus.slos import GAP_S, TTFT_S

_ROUTE = 'route=~"$route"'
_REPLICA = 'replica=~"$replica"'
_BURN = (
    "max by (slo, route) ({errors}{{" + _ROUTE + "}} / on (slo) group_left () (1 - turnout:slo_objective))"
)


def dashboard() -> Dashboard:
    """Return the dashboard."""
    page = Page(
        "fleet", "Fleet", "The whole service: traffic, errors, latency, saturation, replicas, adapters."
    )
    page.choose("route", "Route", "label_values(turnout_requests_total, route)", several=True)
    page.choose("replica", "Replica", "label_values(turnout_replica_up, replica)", several=True)
    _now(page)
    _promises(page)
    _traffic(page)
    _latency(page)
    _saturation(page)
    _replicas(page)
    _adapters(page)
    _house(page)
    return page.build()


def _now(page: Page) -> None:
    page.row("Now")
    page.stat(
        "Alerts",
        'count(ALERTS{alertname=~"Turnout.+", alertstate="firing"}) or vector(0)',
        says="Alerts of Turnout that fire. Prometheus lists them under /alerts, each with its runbook.",
        limits=Limits(1),
    )
    page.stat(
        "Healthy replicas",
        "sum(min by (replica) (turnout_replica_up)) / count(min by (replica) (turnout_replica_up))",
        says="The share of the engines that are healthy, as the gateways' tables have it.",
        unit="percentunit",
        limits=Limits(1, 0.5, low=True),
        see="replica-down",
    )
    page.stat(
        "Requests",
        rate("turnout_requests_total", of=_ROUTE),
        says="Requests a second that ended.",
        unit="reqps",
    )
    page.stat(
        "Failed",
        share(
            rate("turnout_requests_total", of=f'{_ROUTE}, status=~"5..|429"'),
            rate("turnout_requests_total", of=_ROUTE),
        ),
        says="The share of the requests that failed (5xx) or found no room (429).",
        unit="percentunit",
        limits=Limits(0.001, 0.01),
        see="slo-availability",
    )
    page.stat(
        "First event, p95",
        quantile(0.95, "turnout_ttft_seconds", of=_ROUTE),
        says="Nineteen streams in twenty began faster.",
        unit="s",
        limits=Limits(TTFT_S),
        see="slo-ttft",
    )
    page.stat(
        "Controller",
        "max(turnout_controller_lease_expiry_timestamp_seconds) - time()",
        says="How long the controller's lease still ran at the last scrape. Far below zero nobody controls.",
        unit="s",
        limits=Limits(-30, low=True),
        see="controller-gone",
    )


def _promises(page: Page) -> None:
    page.row("Promises")
    page.graph(
        "Error budget, burn rate over an hour",
        {"{{route}} {{slo}}": _BURN.format(errors="turnout:slo_errors:ratio_rate1h")},
        says="How many times faster than allowed the budget is spent: at 1 it lasts for 30 days.",
        limits=Limits(6, 14.4),
        see="slo-availability",
        width=12,
        leads="experiment:route",
    )
    page.graph(
        "Error budget, burn rate over three days",
        {"{{route}} {{slo}}": _BURN.format(errors="turnout:slo_errors:ratio_rate3d")},
        says="The slow burn: above 1 for three days a tenth of the month's budget is gone.",
        limits=Limits(1),
        see="slo-availability",
        width=12,
    )


def _traffic(page: Page) -> None:
    page.row("Traffic and errors")
    page.graph(
        "Requests by route",
        {"{{route}}": rate("turnout_requests_total", of=_ROUTE, by="route")},
        says="Requests that ended, by route; `none` are those that named no route of ours.",
        unit="reqps",
        stacked=True,
        leads="experiment:route",
    )
    page.graph(
        "Requests by status",
        {"{{status}}": rate("turnout_requests_total", of=_ROUTE, by="status")},
        says="What clients got; 499 are clients that went away before the end.",
        unit="reqps",
        stacked=True,
    )
    page.graph(
        "Tokens",
        {
            "prompt": rate("turnout_prompt_tokens_total", of=_ROUTE),
            "completion": rate("turnout_completion_tokens_total", of=_ROUTE),
        },
        says="Tokens a second as the engines counted them.",
        unit="suffix: tok/s",
    )
    page.graph(
        "Errors by code",
        {"{{code}}": rate("turnout_errors_total", by="code")},
        says="Errors as clients were told them; docs/api.md says what each code means.",
        unit="cps",
        see="slo-availability",
    )
    page.graph(
        "Sent again",
        {
            "again: {{cause}}": rate("turnout_retries_total", by="cause"),
            "denied: no budget": rate("turnout_retries_denied_total"),
            "refused: killed an engine": rate("turnout_quarantined_total"),
            "client gone": rate("turnout_disconnects_total"),
            "fallback for {{adapter}}": rate("turnout_fallbacks_total", by="adapter"),
        },
        says="Requests sent to another replica or version, and those that were not, with the reason.",
        unit="cps",
        see="replica-down",
    )
    page.graph(
        "Answers of the wrong version",
        {"{{adapter}}": rate("turnout_wrong_model_total", by="adapter")},
        says="Answers that another version gave than was asked for. They reach no client, and should not be.",
        unit="cps",
        limits=Limits(0.000001),
        see="wrong-model",
    )
    page.graph(
        "Refused at /admin",
        {"{{reason}}": rate("turnout_admin_refused_total", by="reason")},
        says="Attempts that were refused: no good key, not the role, or no key could be checked.",
        unit="cps",
    )


def _latency(page: Page) -> None:
    page.row("Latency")
    page.graph(
        "Time to the first event",
        {
            "p50": quantile(0.5, "turnout_ttft_seconds", of=_ROUTE),
            "p95": quantile(0.95, "turnout_ttft_seconds", of=_ROUTE),
            "p99": quantile(0.99, "turnout_ttft_seconds", of=_ROUTE),
        },
        says="From a request's headers to the first event of its stream, queueing included.",
        unit="s",
        limits=Limits(TTFT_S),
        see="slo-ttft",
    )
    page.graph(
        "Between the pieces of a stream",
        {
            "p50": quantile(0.5, "turnout_inter_token_seconds", of=_ROUTE),
            "p95": quantile(0.95, "turnout_inter_token_seconds", of=_ROUTE),
            "p99": quantile(0.99, "turnout_inter_token_seconds", of=_ROUTE),
        },
        says="Gaps as the gateway passes them on; for the engines' own see the Engine dashboard.",
        unit="s",
        limits=Limits(GAP_S),
        see="slo-inter-token",
    )
    page.graph(
        "Whole answers, p95 by route",
        {"{{route}}": quantile(0.95, "turnout_request_duration_seconds", of=_ROUTE, by="route")},
        says="From headers to the last byte. Long answers take long: compare a route with itself.",
        unit="s",
        leads="experiment:route",
    )


def _saturation(page: Page) -> None:
    page.row("Saturation")
    page.graph(
        "In flight",
        {
            "under way": "sum(turnout_in_flight)",
            "room": "sum(turnout_replica_share) * count(min by (replica) (turnout_replica_up) == 1)",
        },
        says="Requests under way, and how many there may be: each worker's share of every healthy replica.",
        see="slo-availability",
    )
    page.graph(
        "Waiting",
        {
            "for a replica": "sum(turnout_queued_requests)",
            "for their version to be loaded": "sum(turnout_cold_waiting_requests)",
        },
        says="Requests that wait now. A queue that lasts means too few replicas.",
        see="adapter-thrash",
    )
    page.graph(
        "Time in the queue",
        {
            "p50": quantile(0.5, "turnout_queue_wait_seconds"),
            "p95": quantile(0.95, "turnout_queue_wait_seconds"),
        },
        says="How long requests waited for a replica, those that found one at once included.",
        unit="s",
        limits=Limits(1, 5),
    )
    limit_panels(page)


def _replicas(page: Page) -> None:
    page.row("Replicas")
    page.states(
        "Health",
        {"{{replica}}": f"min by (replica) (turnout_replica_up{{{_REPLICA}}})"},
        says="Whether the controller finds the engine healthy, in the table that the gateways use.",
        limits=Limits(1, low=True),
        names={0: "down", 1: "up"},
        see="replica-down",
        leads="engine:replica",
    )
    page.states(
        "Quarantine",
        {"{{replica}}": newest("turnout_replica_quarantined", of=_REPLICA, by="replica")},
        says="Replicas that keep failing are left alone for a while.",
        limits=Limits(1),
        names={0: "in service", 1: "quarantined"},
        see="replica-quarantined",
        leads="engine:replica",
    )
    page.states(
        "Circuit",
        {"{{replica}}": newest("turnout_replica_circuit", of=_REPLICA, by="replica")},
        says="A worker's own judgement of a replica, from the requests that it sends there.",
        limits=Limits(1, 2),
        names={0: "closed", 1: "half open", 2: "open"},
        see="replica-down",
    )
    page.graph(
        "Failures",
        {
            "{{replica}} died under requests": rate(
                "turnout_replica_deaths_total", of=_REPLICA, by="replica"
            ),
            "{{replica}} circuit opened": rate("turnout_circuit_opened_total", of=_REPLICA, by="replica"),
            "{{replica}} health check failed": rate(
                "turnout_health_failures_total", of=_REPLICA, by="replica"
            ),
        },
        says="What went wrong with replicas, as the gateways met it.",
        unit="cps",
        see="replica-down",
        width=12,
    )
    page.graph(
        "Last seen by the controller",
        {"{{replica}}": f"time() - max by (replica) (turnout_replica_seen_timestamp_seconds{{{_REPLICA}}})"},
        says="Seconds since the controller last found it healthy; every 5 s while all is well.",
        unit="s",
        limits=Limits(30, 60),
        see="controller-stuck",
        width=12,
        leads="engine:replica",
    )


def _adapters(page: Page) -> None:
    page.row("Adapters")
    page.bars(
        "On each replica, by proof",
        {"{{replica}} {{proof}}": newest("turnout_proofs", of=_REPLICA, by="replica, proof")},
        says="Versions that are registered: proved, weakly proved, failed, not proved yet.",
        see="attestation-failed",
    )
    page.graph(
        "Memory that is spoken for",
        {
            "{{replica}}": f"""sum by (replica) (max by (replica, proof)
            (turnout_proofs{{{_REPLICA}, proof!="failed"}})) / max by (replica)
            (turnout_replica_adapter_slots{{slots="memory"}})"""
        },
        says="Versions that stand on an engine, over those that it holds in memory. Above 1 it re-reads some "
        "from disk. An estimate: an engine does not say what is resident.",
        unit="percentunit",
        limits=Limits(0.9, 1),
        see="adapter-thrash",
    )
    page.graph(
        "Requests that waited for a version",
        {"{{outcome}}": rate("turnout_cold_loads_total", by="outcome")},
        says="Loads on demand by what came of them: loaded, refused, timeout.",
        unit="cps",
        see="adapter-thrash",
    )
    page.graph(
        "Loaded on demand, the ten most",
        {"{{adapter}}": "topk(10, max by (adapter) (delta(turnout_adapter_cold_loads[1h])) > 0)"},
        says="How often each version was loaded in the last hour because requests waited. Often is thrash.",
        limits=Limits(3, 6),
        see="adapter-thrash",
    )
    page.graph(
        "Sent away, the ten most",
        {"{{adapter}}": "topk(10, max by (adapter) (delta(turnout_adapter_evictions[1h])) > 0)"},
        says="How often each version made room for another in the last hour.",
        see="adapter-thrash",
    )
    page.graph(
        "Lost by an engine and registered again",
        {"{{outcome}}": rate("turnout_registrations_mended_total", by="outcome")},
        says="Versions that an engine did not know though it should: a restart that nobody saw yet.",
        unit="cps",
        see="replica-down",
    )


def _house(page: Page) -> None:
    page.row("The house")
    page.graph(
        "Faults",
        {
            "store: {{task}}": rate("turnout_store_errors_total", by="task"),
            "caught in {{task}}": rate("turnout_background_errors_total", by="task"),
            "records dropped": rate("turnout_records_dropped_total"),
        },
        says="Store calls that failed, faults caught in loops and handlers, and rows that were never stored.",
        unit="cps",
        see="store-errors",
    )
    page.graph(
        "Age of the routing table",
        {"{{instance}}": "max by (instance) (turnout_table_age_seconds)"},
        says="Since the store last confirmed it. Beyond 20 s what was being changed is refused.",
        unit="s",
        limits=Limits(5, 20),
        see="table-overdue",
    )
    page.graph(
        "Rows that wait to be recorded",
        {"{{instance}}": "sum by (instance) (turnout_record_queue_rows)"},
        says="A queue that grows is dropped in the end: the store is slow or down.",
        see="records-dropped",
    )
    page.graph(
        "Generation of the table",
        {"{{instance}}": "min by (instance) (turnout_table_generation)"},
        says="Every change makes a new one; gateways that differ for long do not reach the store.",
        see="table-overdue",
        width=5,
    )
    page.graph(
        "Workers",
        {"alive": "max(turnout_workers)"},
        says="Gateway workers that live, on all machines.",
        width=4,
    )
    event_loops(page)
    page.graph(
        "Epoch of the controller",
        {"epoch": "max(turnout_controller_epoch)"},
        says="A step is another controller, or the same one after a lapse.",
        see="controller-gone",
        width=5,
    )
    page.graph(
        "Routes by state",
        {"{{state}}": "max by (state) (turnout_routes)"},
        says="A route that stays in another state than active waits for something.",
        see="route-stuck",
        width=5,
        stacked=True,
    )
    oldest_rows(page)
