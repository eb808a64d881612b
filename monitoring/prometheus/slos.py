"""What is promised of each route, and the rules that tell when the promise is being broken.

The alerts are those of "Alerting on SLOs" in Google's SRE workbook: a budget of errors, and how many times
faster than allowed it burns, over a long window (so that it matters) and a short one (so that it still does).
`python -m monitoring.prometheus` writes them to rules/slo.yaml. Change a promise here, or leave this file
alone and record another `turnout:slo_objective` (docs/operations.md).
"""

from dataclasses import dataclass
from typing import Any

TTFT_S = 2.5
GAP_S = 0.3


@dataclass(frozen=True, slots=True)
class Slo:
    """A promise: of all `events`, a share of `objective` is not `bad`. `{window}` stands in both for a range.

    `alert` is how its alerts are called, `bad_means` what has happened to one event that was bad.
    """

    name: str
    alert: str
    objective: float
    bad: str
    events: str
    bad_means: str


@dataclass(frozen=True, slots=True)
class Burn:
    """Two windows, and the burn rate that both must exceed. At rate 1 the budget lasts for 30 days."""

    long: str
    short: str
    rate: float
    severity: str
    spends: str


def _slow(metric: str, bound_s: float) -> str:
    """Count the observations above a bound, which has to be one of the histogram's buckets."""
    every = f"sum by (route) (rate({metric}_count[{{window}}]))"
    return f'{every} - sum by (route) (rate({metric}_bucket{{{{le="{bound_s}"}}}}[{{window}}]))'


SLOS = (
    Slo(
        name="availability",
        alert="TurnoutAvailabilityBudgetBurn",
        objective=0.999,
        bad='sum by (route) (rate(turnout_requests_total{{status=~"5..|429"}}[{window}]))',
        events='sum by (route) (rate(turnout_requests_total{{status!="499"}}[{window}]))',
        bad_means="failed (5xx) or found no room (429)",
    ),
    Slo(
        name="ttft",
        alert="TurnoutTtftBudgetBurn",
        objective=0.95,
        bad=_slow("turnout_ttft_seconds", TTFT_S),
        events="sum by (route) (rate(turnout_ttft_seconds_count[{window}]))",
        bad_means=f"waited longer than {TTFT_S:g} s for the first event",
    ),
    Slo(
        name="inter_token",
        alert="TurnoutInterTokenBudgetBurn",
        objective=0.99,
        bad=_slow("turnout_inter_token_seconds", GAP_S),
        events="sum by (route) (rate(turnout_inter_token_seconds_count[{window}]))",
        bad_means=f"came later than {GAP_S:g} s after the one before",
    ),
)

BURNS = (
    Burn("1h", "5m", 14.4, "page", "2 % of the month's budget in an hour"),
    Burn("6h", "30m", 6.0, "page", "5 % of the month's budget in six hours"),
    Burn("1d", "2h", 3.0, "ticket", "10 % of the month's budget in a day"),
    Burn("3d", "6h", 1.0, "ticket", "10 % of the month's budget in three days"),
)
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
_EVERY = {"5m": "30s", "30m": "30s", "1h": "30s", "2h": "2m", "6h": "2m", "1d": "5m", "3d": "5m"}
_WHAT = {"availability": "requests", "ttft": "streams", "inter_token": "pieces of streams"}


def ratio(window: str) -> str:
    """Return the name of the recorded share of bad events, with the labels `slo` and `route`."""
    return f"turnout:slo_errors:ratio_rate{window}"


def rules() -> dict[str, Any]:
    """Return the rules file."""
    objectives = [
        {"record": "turnout:slo_objective", "labels": {"slo": slo.name}, "expr": f"vector({slo.objective})"}
        for slo in SLOS
    ]
    return {
        "groups": [
            {"name": "turnout-slo-objectives", "rules": objectives},
            *(_recorded(pace) for pace in ("30s", "2m", "5m")),
            {"name": "turnout-slo-alerts", "rules": [_alert(slo, burn) for slo in SLOS for burn in BURNS]},
        ]
    }


def _recorded(pace: str) -> dict[str, Any]:
    return {
        "name": f"turnout-slo-every-{pace}",
        "interval": pace,
        "rules": [
            {
                "record": ratio(window),
                "labels": {"slo": slo.name},
                "expr": f"({slo.bad.format(window=window)} or 0 * {slo.events.format(window=window)})"
                f"\n/ ({slo.events.format(window=window)} > 0)",
            }
            for slo in SLOS
            for window in WINDOWS
            if _EVERY[window] == pace
        ],
    }


def _alert(slo: Slo, burn: Burn) -> dict[str, Any]:
    budget = f'on (slo) group_left () (1 - turnout:slo_objective{{slo="{slo.name}"}})'
    sides = (f'({ratio(w)}{{slo="{slo.name}"}} > {budget} * {burn.rate:g})' for w in (burn.long, burn.short))
    return {
        "alert": slo.alert,
        "expr": "\nand ".join(sides),
        "for": "2m" if burn.severity == "page" else "15m",
        "labels": {"severity": burn.severity, "long": burn.long, "short": burn.short},
        "annotations": {
            "summary": f"Route {{{{ $labels.route }}}} burns its {slo.name} budget {burn.rate:g} "
            "times too fast",
            "description": f"In {burn.long}, {{{{ $value | humanizePercentage }}}} of the {_WHAT[slo.name]} "
            f"of the route {{{{ $labels.route }}}} {slo.bad_means}; {(1 - slo.objective) * 100:.3g} % may. "
            f"That spends {burn.spends}.",
            "runbook_url": f"docs/runbooks/slo-{slo.name.replace('_', '-')}.md",
        },
    }
