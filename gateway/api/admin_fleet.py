"""`/admin/status`, `replicas` and `events`: what the fleet is and did."""

import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query

from gateway.api.adapter_schemas import USAGE_WINDOW_S, AdapterUsage
from gateway.api.admin_common import MAX_ID, Limit, faults
from gateway.api.admin_routes import page_of
from gateway.api.admin_schemas import EventPage, Status
from gateway.api.admin_status import controller_view, diagnose, replica_views, waiting_views, worker_views
from gateway.api.placement_schemas import ColdWait, ReplicaPage, VersionCounts
from gateway.api.residency import standing
from gateway.replicas.meter import HALF_LIFE_S
from gateway.store.control import ControlStore
from gateway.store.database import StoreUnavailable
from gateway.store.requests import Requests

EventId = Annotated[int | None, Query(ge=1, le=MAX_ID)]


class FleetEndpoints:
    """The endpoints; `in_flight` counts this worker's requests by version."""

    def __init__(
        self,
        control: ControlStore,
        requests: Requests,
        *,
        base_model: str,
        in_flight: Callable[[], dict[str, int]],
    ) -> None:
        self._control = control
        self._requests = requests
        self._base_model = base_model
        self._in_flight = in_flight

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        router.add_api_route("/status", self.status, methods=["GET"], responses=faults())
        router.add_api_route("/replicas", self.replicas, methods=["GET"], responses=faults())
        router.add_api_route("/events", self.events, methods=["GET"], responses=faults())

    def status(self) -> Status:
        """Show the whole service at one moment, and in words what is not well."""
        now = time.time()
        generation = self._control.generation()
        fleet = self._control.fleet
        replicas = replica_views(fleet.replicas(), fleet.registrations(), now=now)
        routes = tuple(self._control.routes.rows())
        workers = worker_views(fleet.workers(), now=now)
        controller = controller_view(fleet.controller(), now=now)
        newest = self._control.events.rows(limit=1)
        return Status(
            version=version("turnout"),
            at=now,
            generation=generation,
            base=self._base_model,
            controller=controller,
            replicas=replicas,
            routes=routes,
            workers=workers,
            waiting=waiting_views(self._control.loops.open(), self._control.curation.to_review()),
            problems=diagnose(
                controller=controller,
                replicas=replicas,
                routes=routes,
                workers=workers,
                newest=newest[0] if newest else None,
                now=now,
            ),
        )

    def replicas(self) -> ReplicaPage:
        """List every replica with what stands on it, whose home it is, and what is in memory by estimate.

        With a day's requests and tokens of each version that stands anywhere.
        """
        now = time.time()
        fleet, placement = self._control.fleet, self._control.placement
        rows, registrations = fleet.replicas(), fleet.registrations()
        homes, used = placement.homes(), placement.usage(now=now, half_life_s=HALF_LIFE_S)
        stands = {row.id: standing(row, registrations, homes, used) for row in rows}
        return ReplicaPage(
            data=replica_views(rows, registrations, now=now),
            in_flight=self._in_flight(),
            standing=stands,
            usage=self._usage({each.adapter for here in stands.values() for each in here}, now=now),
            counts={
                str(ref): VersionCounts(cold_loads=each.cold_loads, evictions=each.evictions)
                for ref, each in sorted(placement.counts().items())
            },
            waiting=tuple(
                ColdWait(adapter=str(ask.ref), since=ask.asked_at, refusal=ask.refusal)
                for ask in placement.asked()
                if not ask.over
            ),
        )

    def _usage(self, labels: Iterable[str], *, now: float) -> dict[str, AdapterUsage] | None:
        since = now - USAGE_WINDOW_S
        names = sorted(labels)
        try:
            counts = self._requests.by_adapter(names, since=since) if names else {}
        except StoreUnavailable:  # the replicas are what one looks for just then
            return None
        return {name: AdapterUsage(since=since, **counts.get(name, {})) for name in names}

    def events(  # noqa: PLR0917 - FastAPI passes them by name
        self,
        subject: Annotated[str | None, Query(max_length=128)] = None,
        action: Annotated[str | None, Query(max_length=64)] = None,
        actor: Annotated[str | None, Query(max_length=128)] = None,
        since: Annotated[float | None, Query(ge=0, description="seconds since the epoch")] = None,
        limit: Limit = 100,
        before_id: EventId = None,
        after_id: Annotated[int | None, Query(ge=0, le=MAX_ID, description="oldest first, from here")] = None,
    ) -> EventPage:
        """List the audit log, newest first, of one subject (a route, a version or a key's id) when named.

        `after_id` turns the order round, from behind that event on: the way to copy the log somewhere else.
        """
        rows = self._control.events.rows(
            subject,
            action=action,
            actor=actor,
            since=since,
            limit=limit + 1,
            before_id=before_id,
            after_id=after_id,
        )
        page = page_of(rows, limit)
        if after_id is None:
            return page
        return page.model_copy(update={"next_before_id": None, "next_after_id": page.next_before_id})
