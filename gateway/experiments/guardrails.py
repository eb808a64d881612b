"""Guardrails of a canary: a limit on the difference to the stable arm, and a hard stop."""

from collections.abc import Iterable
from typing import Literal

from gateway.experiments.compare import Difference

Better = Literal["higher", "lower"]


def alpha_each(alpha: float, guardrails: int) -> float:
    """Return the alpha for `compare` with which all guardrails together breach wrongly with at most `alpha`.

    A guardrail looks at one side of its interval, and each side of `compare` errs with half its alpha.
    """
    return min(2 * alpha / max(guardrails, 1), 1.0)


def breached(difference: Difference, limit: float, *, better: Better = "lower") -> bool:
    """Whether the candidate is certainly worse than the stable arm by more than `limit`.

    `better` says which direction is good: lower for errors, higher for thumbs.
    """
    if better == "lower":
        return difference.low > limit
    return difference.high < -limit


def hard_stop(requests: Iterable[tuple[str, bool]], *, stable: str, candidate: str, count: int) -> bool:
    """Whether the candidate's newest `count` requests all failed, for no reason that the stable arm shares.

    `requests` are arm and whether it failed, oldest first. When every request of the stable arm failed as
    well since the first of those, the fault is not the candidate's and a rollback would mend nothing.
    """
    row = 0
    others = others_failed = 0
    for arm, failed in requests:
        if arm == candidate:
            row = row + 1 if failed else 0
            if row <= 1:
                others = others_failed = 0
        elif arm == stable:
            others += 1
            others_failed += failed
    return row >= count > 0 and not (others and others == others_failed)
