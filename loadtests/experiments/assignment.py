"""Whether assignment is uniform: chi-square of the arms that several kinds of subjects get on many routes."""

import math
import random
from collections import Counter
from statistics import NormalDist

from gateway.core.documents import Arm
from gateway.routing.experiments import Lottery

_ARMS = [Arm(adapter="a@1", share=0.7), Arm(adapter="b@1", share=0.25), Arm(adapter="c@1", share=0.05)]
_FREEDOM = len(_ARMS) - 1
_SUBJECTS = 2000


def assignment(routes: int) -> dict[str, dict[str, float]]:
    """Return, by kind of subject, how surprising the arms of all routes are, and how many routes seem uneven.

    `p` is of the sum of the routes' chi-squares; `below_5_percent` should be 5 %.
    """
    rng = random.Random("subjects")
    kinds = {
        "sequential": [str(n) for n in range(_SUBJECTS)],
        "random": [f"{rng.getrandbits(128):032x}" for _ in range(_SUBJECTS)],
        "e_mail_like": [f"user{n}@example.com" for n in range(_SUBJECTS)],
    }
    return {kind: _of(subjects, routes) for kind, subjects in kinds.items()}


def _of(subjects: list[str], routes: int) -> dict[str, float]:
    squares = [chi_square(Lottery(f"route-{n}", "", _ARMS), subjects) for n in range(routes)]
    tail = [math.exp(-square / 2) for square in squares]  # exact for two degrees of freedom
    return {
        "p": round(_upper_tail(sum(squares), _FREEDOM * routes), 4),
        "below_5_percent": round(sum(p < 0.05 for p in tail) / routes, 4),
    }


def chi_square(lottery: Lottery, subjects: list[str]) -> float:
    """Return Pearson's chi-square of these subjects' arms against the shares."""
    counts = Counter(map(lottery.arm, subjects))
    expected = [arm.share * len(subjects) for arm in _ARMS]
    return sum((counts[place] - mean) ** 2 / mean for place, mean in enumerate(expected))


def _upper_tail(square: float, freedom: int) -> float:
    """Return P(chi-square >= square) by Wilson and Hilferty's cube root (1931), good for many degrees."""
    spread = 2 / (9 * freedom)
    return 1 - NormalDist().cdf(((square / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread))
