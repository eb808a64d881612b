"""How the fleet is, as a pure function of what the store says: views of its rows, and what is not well."""

from collections.abc import Iterable, Mapping, Sequence

from gateway.api.admin_schemas import Controller, Problem, Replica, Waiting, Worker
from gateway.core.routes import Route
from gateway.loops.run import Run
from gateway.store.events import Event
from gateway.store.fleet import RegistrationRow, ReplicaRow, WorkerRow

WORKER_SILENT_S = 10.0
"""A worker beats every second; one that is silent for this long is not alive."""

WORKER_GONE_S = 60.0
"""A worker that is silent for this long was replaced or stopped, and is no news."""

LAG_S = 10.0
"""How long a worker may take to apply a change before it is a problem."""


def replica_views(
    replicas: Iterable[ReplicaRow], registrations: Sequence[RegistrationRow], *, now: float
) -> tuple[Replica, ...]:
    """Return the replicas with what counts on their present incarnation."""
    return tuple(
        Replica(
            id=row.id,
            url=row.url,
            healthy=row.healthy,
            reason=row.reason,
            seen_at=row.seen_at,
            incarnation=row.incarnation,
            incarnation_age_s=_age(row.incarnation, now),
            capacity=row.capacity,
            quarantined_until=(row.quarantine or {}).get("until") or None,
            attested=_labels(row, registrations, "attested"),
            weak=_labels(row, [each for each in registrations if _is_weak(each)], "attested"),
            registered=_labels(row, registrations, "registered"),
            failed=_labels(row, registrations, "failed"),
        )
        for row in replicas
    )


def worker_views(workers: Iterable[WorkerRow], *, now: float) -> tuple[Worker, ...]:
    """Return the workers, those that are gone left out."""
    return tuple(
        Worker(
            id=row.id,
            alive=now - row.seen_at < WORKER_SILENT_S,
            applied_generation=row.applied_generation,
            in_flight=row.in_flight,
            seen_at=row.seen_at,
        )
        for row in sorted(workers, key=lambda row: row.id)
        if now - row.seen_at < WORKER_GONE_S
    )


def controller_view(lease: tuple[str, int, float] | None, *, now: float) -> Controller | None:
    """Return who holds the controller's lease."""
    if lease is None:
        return None
    holder, epoch, expires_at = lease
    return Controller(holder=holder, epoch=epoch, alive=expires_at > now, expires_at=expires_at)


def waiting_views(runs: Iterable[Run], to_review: Mapping[str, int]) -> tuple[Waiting, ...]:
    """Return the runs that wait for a person, the longest first; `to_review` are rows by route."""
    waiting = [run for run in runs if run.asks or run.state == "waiting_review"]
    return tuple(
        Waiting(
            route=run.route,
            run=run.id,
            asks=run.asks or "review",
            since=run.since,
            candidate=run.candidate,
            rows=None if run.asks else to_review.get(run.route, 0),
            todo=f"`turnout loop approve {run.id}`, or `reject`"
            if run.asks
            else f"`turnout loop review {run.route}`",
        )
        for run in sorted(waiting, key=lambda run: run.since)
    )


def diagnose(
    *,
    controller: Controller | None,
    replicas: Sequence[Replica],
    routes: Sequence[Route],
    workers: Sequence[Worker],
    newest: Event | None,
    now: float,
) -> tuple[Problem, ...]:
    """Return what is not well, most severe first; nothing when all is well."""
    return (
        *_controller_problems(controller),
        *_replica_problems(replicas),
        *_worker_problems(workers, newest, now=now),
        *_route_problems(routes),
    )


def _controller_problems(controller: Controller | None) -> Iterable[Problem]:
    if controller is None or not controller.alive:
        was = f" (the last was {controller.holder})" if controller else ""
        yield Problem(
            what=f"no controller is at work{was}",
            todo="start one with `turnout controller`; `turnout serve` starts one by itself",
        )


def _replica_problems(replicas: Sequence[Replica]) -> Iterable[Problem]:
    if not replicas:
        yield Problem(
            what="there is no replica",
            todo="`turnout serve` starts an engine; `turnout serve --engine-url URL` attaches one",
        )
    for replica in replicas:
        if not replica.healthy:
            yield Problem(
                what=f"the replica {replica.id} ({replica.url}) is not healthy"
                + (f": {replica.reason}" if replica.reason else ""),
                todo="`turnout serve` restarts its own engines; an attached engine's log is with that engine",
            )
        for label in replica.failed:
            yield Problem(
                what=f"{label} failed on the replica {replica.id}",
                todo=f"`turnout adapters show {label}` says why",
            )


def _worker_problems(workers: Sequence[Worker], newest: Event | None, *, now: float) -> Iterable[Problem]:
    alive = [worker for worker in workers if worker.alive]
    if not alive:
        yield Problem(what="no gateway worker reports to the store", todo="see the log of `turnout serve`")
    for worker in workers:
        if not worker.alive:
            yield Problem(
                what=f"the worker {worker.id} is silent for {now - worker.seen_at:.0f} s",
                todo="`turnout serve` replaces a worker that ended; stop one that hangs",
            )
    if newest is None or newest.generation is None or now - newest.at < LAG_S:
        return
    for worker in alive:
        if worker.applied_generation < newest.generation:
            yield Problem(
                what=f"the worker {worker.id} serves generation {worker.applied_generation}, "
                f"and {newest.generation} is {now - newest.at:.0f} s old",
                todo="its log says why it can't read the store",
            )


def _route_problems(routes: Sequence[Route]) -> Iterable[Problem]:
    for route in routes:
        state, reason = route.status.state, route.status.reason
        canary = route.status.canary
        if canary is not None and canary.state == "held":
            yield Problem(
                what=f"the canary {canary.candidate} of the route {route.name} is held: {canary.reason}",
                todo=f"`turnout routes show {route.name}`, then `resume`, `abort` or `promote` it",
            )
        if state == "failed":
            yield Problem(
                what=f"the route {route.name} failed" + (f": {reason}" if reason else ""),
                todo=f"mend it with `turnout routes set`, or `turnout routes rollback {route.name}`",
            )
        elif state != "active":
            yield Problem(
                what=f"the route {route.name} is {state}" + (f": {reason}" if reason else ""),
                todo="wait a moment; traffic meets the arms of before until it is active",
            )


def _age(incarnation: str | None, now: float) -> float | None:
    """Return the seconds since the engine's start, which is what names its incarnation."""
    try:
        return max(0.0, now - float(incarnation)) if incarnation else None
    except ValueError:
        return None


def _is_weak(row: RegistrationRow) -> bool:
    return bool((row.figures or {}).get("weak"))


def _labels(replica: ReplicaRow, registrations: Sequence[RegistrationRow], state: str) -> tuple[str, ...]:
    found = [
        row.ref
        for row in registrations
        if row.replica == replica.id and row.incarnation == replica.incarnation and row.state == state
    ]
    return tuple(str(ref) for ref in sorted(found))
