"""Whether the arms got the units that their shares promise, tested at any time, epoch by epoch.

The sequential multinomial test of Lindon and Malek (arXiv 2011.03567): the Bayes factor of Dirichlet-mixed
shares against the promised ones is a martingale where the promise is kept, so its inverse is a p-value that
stays valid however often it is read. The j-th epoch is tested at alpha / (j (j + 1)), and these add up to
alpha; epochs are not multiplied, since subjects come back in later ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, inf, lgamma, log

from gateway.experiments.outcomes import Epochs, Shares

# How close to the promised shares the alternative is: some 2 points in the middle, where 100 finds small
# mismatches later and 5,000 the large ones (docs/decisions/0012).
_CONCENTRATION = 500.0


@dataclass(frozen=True, slots=True)
class Mismatch:
    """`epoch` is the one that speaks most against the shares; None when nothing was counted."""

    p_value: float
    suspicious: bool
    epoch: int | None


def mismatch(counts: Mapping[int, Mapping[str, int]], epochs: Epochs, *, alpha: float) -> Mismatch:
    """Return whether units by epoch and arm contradict the shares, over all epochs at level `alpha`.

    Count every unit that was exposed, not only those that closed. A unit in an arm without a share
    contradicts at once.
    """
    worst: tuple[float, int | None] = (1.0, None)
    for place, epoch in enumerate(sorted(counts), start=1):
        if not any(counts[epoch].values()):
            continue
        p_value = min(1.0, exp(-log_evidence(counts[epoch], epochs[epoch])) * place * (place + 1))
        if worst[1] is None or p_value < worst[0]:
            worst = (p_value, epoch)
    return Mismatch(p_value=worst[0], suspicious=worst[0] <= alpha, epoch=worst[1])


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
