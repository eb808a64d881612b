"""Which experiment a route runs, by its epochs, its status and its spec. Pure."""

from collections.abc import Mapping, Sequence

from gateway.core.refs import VersionRef
from gateway.core.routes import Route, shares_of
from gateway.experiments.experiment import Experiment
from gateway.store.epochs import EpochRow


def experiment_of(
    route: Route, epochs: Sequence[EpochRow], *, digests: Mapping[VersionRef, str]
) -> Experiment | None:
    """Return the experiment, or None where nothing is compared.

    A canary that has traffic is one, since its first step. Otherwise it is the arms that have traffic now,
    for as long as it has been the same ones with whatever shares; the arm that had most of it at first is the
    stable one. Arms whose blobs are the same (`digests`) make it an A/A experiment.
    """
    canary = route.status.canary
    if canary is not None and canary.live:
        rows = [row for row in epochs if row.from_generation > canary.after_generation]
        return _made(route, rows, canary.stable, (canary.candidate,), digests) if rows else None
    now = shares_of(route.status.effective_arms)
    rows = []
    for row in reversed(epochs):
        if row.arms.keys() != now.keys():
            break
        rows.insert(0, row)
    if len(now) < 2 or not rows:
        return None
    first = rows[0].arms
    stable = max(now, key=lambda label: first[label])
    return _made(route, rows, stable, tuple(label for label in now if label != stable), digests)


def _made(
    route: Route,
    rows: Sequence[EpochRow],
    stable: str,
    candidates: tuple[str, ...],
    digests: Mapping[VersionRef, str],
) -> Experiment:
    live = route.status.canary is not None and route.status.canary.live
    blobs = {
        digests.get(ref) if (ref := VersionRef.parse(label)) else label for label in (stable, *candidates)
    }
    return Experiment(
        route=route.name,
        stable=stable,
        candidates=candidates,
        epochs={row.from_generation: row.arms for row in rows},
        metrics=route.spec.metrics,
        slo=route.spec.slo,
        sticky=route.spec.sticky,
        canary=route.spec.canary if live else None,
        step_after_generation=route.status.canary.step_after_generation if route.status.canary else 0,
        same_expected=len(blobs) == 1 and None not in blobs,
    )
