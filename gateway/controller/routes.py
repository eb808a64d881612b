"""What a route's status should say, given what stands on the replicas. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core.canary import faults
from gateway.core.documents import Arm
from gateway.core.refs import BASE, VersionRef
from gateway.core.routes import Route, RouteSpec, RouteStatus
from gateway.core.steps import Moment, aborted, begun
from gateway.store.fleet import RegistrationRow, ReplicaRow


@dataclass(frozen=True, slots=True)
class FleetView:
    """What stands where: the healthy replicas, and the rows of their present incarnations by version."""

    healthy: frozenset[str]
    rows: Mapping[VersionRef, tuple[RegistrationRow, ...]]

    @classmethod
    def of(cls, replicas: tuple[ReplicaRow, ...], rows: tuple[RegistrationRow, ...]) -> "FleetView":
        """Leave out replicas that are not healthy and rows of incarnations that have ended."""
        healthy = {replica.id: replica.incarnation for replica in replicas if replica.healthy}
        present: dict[VersionRef, list[RegistrationRow]] = {}
        for row in rows:
            if row.replica in healthy and healthy[row.replica] == row.incarnation:
                present.setdefault(row.ref, []).append(row)
        return cls(frozenset(healthy), {ref: tuple(found) for ref, found in present.items()})


def next_status(
    route: Route,
    fleet: FleetView,
    *,
    absent: Mapping[VersionRef, str],
    min_ready: int,
    moment: Moment = Moment(),  # noqa: B008 - it is a tuple
) -> RouteStatus:
    """Return the status that `route` should have now.

    A spec takes effect whole: its arms become the effective ones, and its canary takes its first step at
    `moment`, when every version of its arms, its fallback and its canary is attested on `min_ready` healthy
    replicas (on all of them when there are fewer). Until then the old arms stay. `absent` says of versions
    that are not active why not. Afterwards the state stays active and the reason tells when a version is no
    longer ready anywhere.
    A spec that can't be read whole does not take effect. When it has already, its arms stay, and a canary
    whose terms can't be read ends.
    """
    labels = _needed(route)
    refs = [ref for label in labels if (ref := VersionRef.parse(label))]
    required = max(1, min(min_ready, len(fleet.healthy)))
    note = _not_acted_on(route.spec)
    if route.status.state == "active" and route.status.active_generation == route.generation:
        lacking = [_why_lacking(ref, fleet) for ref in refs if _count(ref, fleet, "attested") == 0]
        reason = _join([route.fault, *lacking, _shadow_note(route, fleet), note])
        return _without_lost_canary(route).model_copy(update={"reason": reason})
    gone = [route.fault] if route.fault else [f"{ref} {absent[ref]}" for ref in refs if ref in absent]
    if gone:
        return route.status.model_copy(update={"state": "failed", "reason": _join(gone)})
    if not fleet.healthy:
        waits = "no engine is healthy"
        return route.status.model_copy(update={"state": "preparing", "reason": waits})
    if all(_count(ref, fleet, "attested") >= required for ref in refs):
        active = {"state": "active", "active_generation": route.generation, "reason": note}
        if route.status.canary is not None:  # the new spec has the same one: it goes on where it was
            return route.status.model_copy(update=active)
        flipped = RouteStatus.model_validate(
            {
                **active,
                "effective_arms": route.spec.arms,
                "previous_arms": _previous(route),
                "salt": route.status.salt,
            }
        )
        return begun(route.spec, flipped, moment, before=route.status.effective_arms)
    return _in_progress(route, refs, fleet, required)


def _without_lost_canary(route: Route) -> RouteStatus:
    """Return the status; a canary that nobody can watch by its terms any more is aborted."""
    spec, canary = route.spec, route.status.canary
    if route.fault is None or canary is None or not canary.live or not spec.arms:
        return route.status
    if spec.canary is not None and not faults(spec.canary, spec.arms, spec.metrics):
        return route.status
    return aborted(route, reason=route.fault)


def needed_versions(route: Route) -> tuple[frozenset[VersionRef], frozenset[VersionRef]]:
    """Return the versions that answer the route's traffic now, and those that its spec needs."""
    serving = {arm.adapter for arm in route.status.effective_arms}
    if route.status.active_generation == route.generation and route.spec.fallback:
        serving.add(route.spec.fallback)
    return _refs(serving), _refs(_needed(route))


def previous_versions(route: Route) -> frozenset[VersionRef]:
    """Return the versions that a rollback would need: they answered before the last flip."""
    return _refs({arm.adapter for arm in route.status.previous_arms})


def shadow_versions(route: Route) -> frozenset[VersionRef]:
    """Return the version that answers a route's requests once more: it needs a place, nobody waits for it."""
    return _refs({route.spec.shadow.adapter} if route.spec.shadow else set())


def why_active(status: RouteStatus, fleet: FleetView) -> str | None:
    """Return the reason that the event of a flip gives: where its versions are attested."""
    refs = sorted(_refs({arm.adapter for arm in status.effective_arms}))
    if status.state != "active" or status.reason or not refs:
        return None
    return "attested: " + ", ".join(f"{ref} on {_count(ref, fleet, 'attested')} replicas" for ref in refs)


def _previous(route: Route) -> tuple[Arm, ...]:
    before = route.status.effective_arms
    return before if before != route.spec.arms else route.status.previous_arms


def _in_progress(route: Route, refs: list[VersionRef], fleet: FleetView, required: int) -> RouteStatus:
    failures = [_why_lacking(ref, fleet) for ref in refs if _count(ref, fleet, "failed")]
    hopeless = any(len(fleet.healthy) - _count(ref, fleet, "failed") < required for ref in refs)
    loaded = all(
        _count(ref, fleet, "registered") + _count(ref, fleet, "attested") >= required for ref in refs
    )
    state = "failed" if hopeless else "attesting" if loaded else "preparing"
    return route.status.model_copy(update={"state": state, "reason": _join(failures)})


def _needed(route: Route) -> list[str]:
    """Return the versions that must be ready; a candidate that was sent away need not be."""
    spec, status = route.spec, route.status.canary
    labels = {arm.adapter: None for arm in spec.arms}
    if spec.fallback:
        labels[spec.fallback] = None
    if spec.canary and (status is None or status.live or status.state == "promoted"):
        labels[spec.canary.candidate] = None
    return [label for label in labels if label != BASE]


def _refs(labels: set[str] | list[str]) -> frozenset[VersionRef]:
    return frozenset(ref for label in labels if (ref := VersionRef.parse(label)))


def _count(ref: VersionRef, fleet: FleetView, state: str) -> int:
    return sum(row.state == state for row in fleet.rows.get(ref, ()))


def _why_lacking(ref: VersionRef, fleet: FleetView) -> str:
    failed = sorted((row.replica, row.reason or "failed") for row in fleet.rows.get(ref, ()) if row.reason)
    if not failed:
        return f"{ref} is ready on no replica"
    return "; ".join(f"{ref} on {replica}: {reason}" for replica, reason in failed)


def _shadow_note(route: Route, fleet: FleetView) -> str | None:
    """Return why the shadow gets no replays yet. It holds up nothing else."""
    lacking = [ref for ref in shadow_versions(route) if _count(ref, fleet, "attested") == 0]
    return "; ".join(f"shadow: {_why_lacking(ref, fleet)}" for ref in lacking) or None


def _not_acted_on(spec: RouteSpec) -> str | None:
    wrong = faults(spec.canary, spec.arms, spec.metrics) if spec.canary else []
    return f"the canary can't be run: {'; '.join(wrong)}" if wrong else None


def _join(reasons: list[str | None] | list[str]) -> str | None:
    return "; ".join(reason for reason in reasons if reason) or None
