"""Whether the arms got the units that their shares promise, tested at any time, epoch by epoch.

The sequential multinomial test of Lindon and Malek (arXiv 2011.03567): the Bayes factor of Dirichlet-mixed
shares against the promised ones is a martingale where the promise is kept, so its inverse is a p-value that
stays valid however often it is read. The j-th epoch is tested at alpha / (j (j + 1)), and these add up to
alpha; epochs are not multiplied, since subjects come back in later ones.

A rejection stays one: the test errs with at most alpha over all looks together, so later counts that look
better take nothing back. That holds of counts to which nothing can be added, though. Requests of a slower arm
are counted later, and the newest counts lack them: what they say passes with them. So only units that began
before any request of today could have begun (`settled`) are remembered as they were at their worst.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, inf, lgamma, log
from types import MappingProxyType

from gateway.experiments.outcomes import Epochs, Shares

Counts = Mapping[int, Mapping[str, int]]
"""Units by epoch and arm."""

# How close to the promised shares the alternative is: some 2 points in the middle, where 100 finds small
# mismatches later and 5,000 the large ones (docs/decisions/0012).
_CONCENTRATION = 500.0


@dataclass(frozen=True, slots=True)
class Mismatch:
    """`epoch` is the one that speaks most against the shares; None when nothing was counted.

    `settled` holds the smallest p-value of each epoch that any look has found of its settled units.
    """

    p_value: float
    suspicious: bool
    epoch: int | None
    settled: Mapping[int, float] = field(default_factory=dict)


def mismatch(
    counts: Counts,
    epochs: Epochs,
    *,
    alpha: float,
    settled: Counts = MappingProxyType({}),
    earlier: Mapping[int, float] = MappingProxyType({}),
) -> Mismatch:
    """Return whether units by epoch and arm contradict the shares, over all epochs at level `alpha`.

    Count every unit that was exposed, not only those that closed. A unit in an arm without a share
    contradicts at once. `settled` counts those among them to which nothing can be added any more; `earlier`
    is what the last look said of these, by epoch.
    """
    now = p_values(settled, epochs)
    known = {epoch: min(now.get(epoch, 1.0), earlier.get(epoch, 1.0)) for epoch in {*now, *earlier}}
    every = [
        (p_value, epoch) for found in (p_values(counts, epochs), known) for epoch, p_value in found.items()
    ]
    worst, epoch = min(every, default=(1.0, None))
    return Mismatch(worst, worst <= alpha, epoch, dict(sorted(known.items())))


def p_values(counts: Counts, epochs: Epochs) -> dict[int, float]:
    """Return by epoch how likely counts like these are, ever, while the shares are kept."""
    return {
        epoch: min(1.0, exp(-log_evidence(counts[epoch], epochs[epoch])) * place * (place + 1))
        for place, epoch in enumerate(sorted(epoch for epoch in epochs if epoch in counts), start=1)
        if any(counts[epoch].values())
    }


def log_evidence(counts: Mapping[str, int], shares: Shares) -> float:
    """Return the logarithm of the Bayes factor against the shares, for one epoch."""
    if any(count and shares.get(arm, 0.0) <= 0 for arm, count in counts.items()):
        return inf
    live = {arm: share for arm, share in shares.items() if share > 0}
    whole = sum(live.values())
    evidence = lgamma(_CONCENTRATION) - lgamma(_CONCENTRATION + sum(counts.values()))
    for arm, share in live.items():
        prior = _CONCENTRATION * share / whole
        count = counts.get(arm, 0)
        evidence += lgamma(prior + count) - lgamma(prior) - count * log(share / whole)
    return evidence
