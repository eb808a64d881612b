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
    """Whether the candidate is worse than the stable arm by more than `limit`, whatever the true difference.

    `better` says which direction is good: lower for errors, higher for thumbs.
    """
    if better == "lower":
        return difference.low > limit
    return difference.high < -limit


def hard_stop(failures: Iterable[bool], count: int) -> bool:
    """Whether the newest `count` of the candidate's units, oldest first, failed one after the other."""
    row = 0
    for failed in failures:
        row = row + 1 if failed else 0
    return row >= count > 0
