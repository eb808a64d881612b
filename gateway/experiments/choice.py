"""Which experiment a route runs, by its epochs, its status and its spec. Pure."""

from collections.abc import Mapping
from types import MappingProxyType

from gateway.core.routes import Route, shares_of
from gateway.experiments.experiment import Experiment
from gateway.experiments.outcomes import Epochs


def experiment_of(
    route: Route,
    epochs: Epochs,
    *,
    digests: Mapping[str, str],
    salts: Mapping[int, str] = MappingProxyType({}),
) -> Experiment | None:
    """Return the experiment, or None where nothing is compared.

    A canary that has traffic is one, since its first step. Otherwise it is the arms that have traffic now,
    for as long as it has been the same ones with whatever shares; the arm that had most of it at first is the
    stable one. Versions with the same blob (`digests` by label) make it an A/A experiment. Subjects that
    come back can be told from new ones only while they are drawn by the same of the epochs' `salts`.
    """
    canary = route.status.canary
    if canary is not None and canary.live:
        theirs = {start: shares for start, shares in epochs.items() if start > canary.after_generation}
        return _made(route, theirs, canary.stable, (canary.candidate,), digests) if theirs else None
    now = shares_of(route.status.effective_arms)
    since = {}
    for start in sorted(epochs, reverse=True):
        if epochs[start].keys() != now.keys() or salts.get(start, "") != route.status.salt:
            break
        since[start] = epochs[start]
    if len(now) < 2 or not since:
        return None
    first = since[min(since)]
    stable = max(now, key=lambda label: first[label])
    return _made(route, since, stable, tuple(label for label in now if label != stable), digests)


def _made(
    route: Route, epochs: Epochs, stable: str, candidates: tuple[str, ...], digests: Mapping[str, str]
) -> Experiment:
    canary = route.status.canary
    live = canary is not None and canary.live
    blobs = {digests.get(label) for label in (stable, *candidates)}
    return Experiment(
        route=route.name,
        stable=stable,
        candidates=candidates,
        epochs=dict(sorted(epochs.items())),
        metrics=route.spec.metrics,
        slo=route.spec.slo,
        sticky=route.spec.sticky,
        canary=route.spec.canary if live else None,
        step_after_generation=canary.step_after_generation if canary is not None and live else 0,
        same_expected=len(blobs) == 1 and None not in blobs,
    )
