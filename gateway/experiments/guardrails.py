"""Guardrails of a canary: a limit on the difference to the stable arm, and a hard stop."""

from collections.abc import Collection, Iterable
from typing import Literal

from gateway.core.canary import TWO_SIDED
from gateway.experiments.compare import Difference

Better = Literal["higher", "lower"]


def alpha_each(alpha: float, sides: int) -> float:
    """Return the alpha for `compare` with which all guardrails together breach wrongly with at most `alpha`.

    `sides` counts the sides of intervals that they look at: one for each guardrail, two where a difference
    either way breaches. Each side of `compare` errs with half its alpha.
    """
    return min(2 * alpha / max(sides, 1), 1.0)


def sides_of(names: Collection[str]) -> int:
    """Return how many sides of intervals these guardrails look at."""
    return sum(2 if name in TWO_SIDED else 1 for name in names)


def breached(difference: Difference, limit: float, *, better: Better = "lower") -> bool:
    """Whether the candidate is certainly worse than the stable arm by more than `limit`.

    `better` says which direction is good: lower for errors, higher for thumbs.
    """
    if better == "lower":
        return difference.low > limit
    return difference.high < -limit


def hard_stop(failures: Iterable[bool], count: int) -> bool:
    """Whether the newest `count` of the candidate's requests, oldest first, failed one after the other.

    Whether the stable arm's failed in the same time as well, so that a rollback would mend nothing, is for
    the caller to look at.
    """
    row = 0
    for failed in failures:
        row = row + 1 if failed else 0
    return row >= count > 0
