"""One frame of `turnout top`: what two readings and the admin API say, as a document. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gateway.cli.top import alerts
from gateway.cli.top.alerts import Alert
from gateway.cli.top.scrape import Between, Scrape

_FAILED = {"429"}
_CIRCUITS = {0.0: "closed", 1.0: "half open", 2.0: "open"}


def build(
    between: Between,
    status: Mapping[str, Any] | None,
    found: Sequence[Alert],
    *,
    wall: float,
    alerts_by: str,
) -> dict[str, Any]:
    """Return the frame. `status` is what `/admin/status` said, None when nobody could ask it.

    Rates are of the time between the readings, times are seconds; what nothing was measured of is null.
    """
    return {
        "at": wall,
        "seconds": between.seconds,
        "gateway_restarted": between.restarted,
        "fleet": _fleet(between),
        "replicas": _replicas(between.now, status),
        "adapters": _adapters(between),
        "experiments": _experiments(between.now),
        "alerts": [asdict(alert) for alert in found],
        "alerts_by": alerts_by,
        "problems": None if status is None else status["problems"],
        "controller": None if status is None else status["controller"],
        "generation": between.now.only("turnout_table_generation"),
        "workers": between.now.only("turnout_workers"),
    }


def unreachable(frame: dict[str, Any]) -> dict[str, Any]:
    """Return the last frame as it stands when the gateway no longer answers, which is an alert."""
    down = asdict(alerts.DOWN)
    return {**frame, "alerts": [down, *(each for each in frame["alerts"] if each != down)]}


def _failed(status: str) -> bool:
    return status.startswith("5") or status in _FAILED


def _fleet(between: Between) -> dict[str, Any]:
    requests = sum(between.rates("turnout_requests_total", "status").values())
    failures = sum(between.rates("turnout_requests_total", "status", keep=_failed).values())
    return {
        "requests_per_s": requests,
        "failed_per_s": failures,
        "tokens_per_s": between.increase("turnout_completion_tokens_total") / between.seconds,
        "in_flight": sum(value for _, value in between.now.values("turnout_in_flight")),
        "queued": between.now.only("turnout_queued_requests"),
        "cold_waiting": between.now.only("turnout_cold_waiting_requests"),
        "cold_loads": between.increase("turnout_cold_loads_total"),
        "records_dropped": between.increase("turnout_records_dropped_total"),
        **_latencies(between),
    }


def _latencies(between: Between, **where: str) -> dict[str, float | None]:
    return {
        "ttft_p50_s": between.quantile(0.5, "turnout_ttft_seconds", **where),
        "ttft_p95_s": between.quantile(0.95, "turnout_ttft_seconds", **where),
        "inter_token_p95_s": between.quantile(0.95, "turnout_inter_token_seconds", **where),
        "duration_p95_s": between.quantile(0.95, "turnout_request_duration_seconds", **where),
    }


def _replicas(scrape: Scrape, status: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    up = scrape.by("turnout_replica_up", "replica")
    known = {row["id"]: row for row in status["replicas"]} if status else {}
    quarantined = scrape.by("turnout_replica_quarantined", "replica")
    circuits = scrape.by("turnout_replica_circuit", "replica")
    proofs = {
        proof: scrape.by("turnout_proofs", "replica", proof=proof)
        for proof in ("strong", "weak", "failed", "none")
    }
    slots = scrape.by("turnout_replica_adapter_slots", "replica", slots="memory")
    return [
        {
            "id": replica,
            "up": up.get(replica) == 1,
            "quarantined": quarantined.get(replica) == 1,
            "circuit": _CIRCUITS.get(circuits.get(replica, 0.0)),
            "proofs": {proof: int(counts.get(replica, 0)) for proof, counts in proofs.items()},
            "slots": slots.get(replica),
            "running_for_s": known.get(replica, {}).get("incarnation_age_s"),
            "reason": known.get(replica, {}).get("reason"),
            "url": known.get(replica, {}).get("url"),
        }
        for replica in sorted(up.keys() | known.keys())
    ]


def _adapters(between: Between) -> list[dict[str, Any]]:
    """Return what has traffic or stands somewhere, the busiest first."""
    requests = between.rates("turnout_requests_total", "adapter")
    failed = between.rates("turnout_requests_total", "adapter", keep=_failed)
    tokens = between.rates("turnout_completion_tokens_total", "adapter")
    flying = between.now.by("turnout_in_flight", "adapter")
    placed = between.now.by("turnout_adapter_replicas", "adapter")
    loads = between.now.by("turnout_adapter_cold_loads", "adapter")
    rows = [
        {
            "adapter": adapter,
            "requests_per_s": requests.get(adapter, 0.0),
            "failed_per_s": failed.get(adapter, 0.0),
            "tokens_per_s": tokens.get(adapter, 0.0),
            "in_flight": flying.get(adapter, 0.0),
            "replicas": placed.get(adapter),
            "cold_loads": loads.get(adapter),
            **_latencies(between, adapter=adapter),
        }
        for adapter in requests.keys() | flying.keys() | placed.keys()
    ]
    return sorted(rows, key=lambda row: (-row["requests_per_s"], -row["in_flight"], row["adapter"]))


def _experiments(scrape: Scrape) -> list[dict[str, Any]]:
    """Return each route that compares versions: its canary, the units of its arms, what was found."""
    found: dict[str, dict[str, Any]] = {}

    def of(route: str) -> dict[str, Any]:
        fresh: dict[str, Any] = {
            "route": route,
            "canary": None,
            "units": {},
            "findings": {},
            "mismatch": False,
        }
        return found.setdefault(route, fresh)

    for labels, value in scrape.values("turnout_canary_state"):
        if value == 1:
            route, candidate = labels["route"], labels["candidate"]
            of(route)["canary"] = {
                "candidate": candidate,
                "state": labels["state"],
                "step": _one(scrape, "turnout_canary_step", route, candidate),
                "share": _one(scrape, "turnout_canary_share", route, candidate),
            }
    for labels, value in scrape.values("turnout_experiment_units"):
        of(labels["route"])["units"][labels["arm"]] = int(value)
    for labels, value in scrape.values("turnout_experiment_finding"):
        if value == 1:
            of(labels["route"])["findings"][labels["candidate"]] = labels["finding"]
    for labels, value in scrape.values("turnout_experiment_mismatch"):
        of(labels["route"])["mismatch"] = value == 1
    return [found[route] for route in sorted(found)]


def _one(scrape: Scrape, name: str, route: str, candidate: str) -> float | None:
    return next((value for _, value in scrape.values(name, route=route, candidate=candidate)), None)
