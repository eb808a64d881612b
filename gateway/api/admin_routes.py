"""`/admin/routes`: the specs that people own. The controller makes them so and writes the status."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import ValidationError

from gateway.api.admin_canary import planned
from gateway.api.admin_common import (
    MAX_ID,
    Answers,
    Change,
    Changing,
    Limit,
    faults,
    parse_generation,
    parse_label,
)
from gateway.api.admin_schemas import EventPage, EventView, Promote, Rollback, RoutePage, RoutePut
from gateway.api.experiment_schemas import Planned
from gateway.core.canary import faults as canary_faults
from gateway.core.documents import Arm
from gateway.core.refs import BASE, NAME_PATTERN, VersionRef, valid_name
from gateway.core.routes import Route, RouteSpec
from gateway.errors import NotFound, PreconditionFailed, Unprocessable
from gateway.store.control import ControlStore
from gateway.store.database import StoreUnavailable
from gateway.store.events import Event
from gateway.store.requests import Requests
from gateway.store.routes import GenerationMismatch
from gateway.store.uses import VersionsNotActive

EVENTS_AT_ONCE = 500


class RouteEndpoints:
    """The endpoints, on one store. `base_model` is the base's own name, which no route may take."""

    def __init__(self, control: ControlStore, requests: Requests, *, base_model: str) -> None:
        self._control = control
        self._requests = requests
        self._base_model = base_model

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        one = "/routes/{route}"
        changed: Answers = {202: {"model": Route, "description": "accepted: versions are being prepared"}}
        router.add_api_route("/routes", self.every, methods=["GET"], responses=faults())
        router.add_api_route(one, self.show, methods=["GET"], responses=faults(404))
        planned: Answers = {202: {**changed[202], "model": Planned}}
        router.add_api_route(one, self.put, methods=["PUT"], responses={**planned, **faults(412, 422)})
        router.add_api_route(one, self.remove, methods=["DELETE"], status_code=204, responses=faults(404))
        router.add_api_route(f"{one}/history", self.history, methods=["GET"], responses=faults(404))
        for action in (self.promote, self.rollback):
            router.add_api_route(
                f"{one}/{action.__name__}",
                action,
                methods=["POST"],
                responses={**changed, **faults(404, 412, 422)},
            )

    def every(
        self,
        limit: Limit = 1000,
        after: Annotated[
            str | None,
            Query(pattern=f"^{NAME_PATTERN}$", description="the last route of the page before"),
        ] = None,
    ) -> RoutePage:
        """List routes by name, a thousand at a time."""
        rows = self._control.routes.page(limit=limit + 1, after=after or "")
        more = len(rows) > limit
        return RoutePage(data=tuple(rows[:limit]), next_after=rows[limit - 1].name if more else None)

    def show(self, route: str, response: Response) -> Route:
        """Show one route; its ETag is the spec's generation."""
        known = self._get(route)
        response.headers["ETag"] = f'"{known.generation}"'
        return known

    def put(self, route: str, body: RoutePut, response: Response, change: Changing) -> Planned:
        """Store a spec: 202 when it is new, 200 when nothing changed. The answer has a plan."""
        if not valid_name(route) or route.lower() == self._base_model.lower():
            raise Unprocessable(
                f"{route!r} can't name a route: names match {NAME_PATTERN}, "
                f"and {BASE!r} and {self._base_model!r} are taken",
                param="route",
            )
        if body.name not in (None, route):
            raise Unprocessable(f"the body names the route {body.name!r}, the path {route!r}", param="name")
        spec = body.spec
        wrong = canary_faults(spec.canary, spec.arms, spec.metrics) if spec.canary else []
        if wrong:
            raise Unprocessable("; ".join(wrong), param="canary")
        stored = self._store(route, spec, response, change)
        try:
            return planned(stored, self._requests)
        except StoreUnavailable:  # the spec is stored, and the answer must say so
            return Planned(**dict(stored))

    def remove(self, route: str, change: Changing) -> None:
        """Delete a route. Its history stays, and so do its versions."""
        if not self._control.routes.remove(route, actor=change.actor, why=change.why):
            raise _no_route(route)

    def promote(self, route: str, response: Response, change: Changing, body: Promote | None = None) -> Route:
        """Give all traffic to one version and end the canary."""
        known = self._get(route)
        if known.fault:
            raise Unprocessable(f"the route {route!r} can't be promoted: {known.fault}", param="route")
        label = (body and body.adapter) or (known.spec.canary and known.spec.canary.candidate)
        if not label:
            arms = ", ".join(arm.adapter for arm in known.spec.arms)
            raise Unprocessable(
                f"the route {route!r} has no canary; name the version to promote (its arms: {arms})",
                param="adapter",
            )
        if label != BASE:
            parse_label(label, param="adapter")
        spec = known.spec.model_copy(update={"arms": (Arm(adapter=label, share=1.0),), "canary": None})
        return self._store(route, spec, response, _on_top_of(known, change), action="route.promote")

    def rollback(
        self, route: str, response: Response, change: Changing, body: Rollback | None = None
    ) -> Route:
        """Bring back the spec of an earlier generation; without one, the spec before the present one."""
        known = self._get(route)
        spec = self._earlier(known, body.to_generation if body else None)
        return self._store(route, spec, response, _on_top_of(known, change), action="route.rollback")

    def history(
        self, route: str, limit: Limit = 100, before_id: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None
    ) -> EventPage:
        """List what happened to a route, newest first, also after it was deleted."""
        found: list[Event] = []
        for event in self._events(route, before_id):
            found.append(event)
            if len(found) > limit:
                break
        if not found and before_id is None:
            raise _no_route(route)
        return page_of(found, limit)

    def _get(self, name: str) -> Route:
        known = self._control.routes.get(name)
        if known is None:
            raise _no_route(name)
        return known

    def _store(
        self, name: str, spec: RouteSpec, response: Response, change: Change, *, action: str = "route.put"
    ) -> Route:
        try:
            route, changed = self._control.routes.put(
                name,
                spec,
                actor=change.actor,
                why=change.why,
                if_generation=self._generation(name, change.if_match),
                action=action,
                active_versions_only=True,
            )
        except GenerationMismatch as error:
            raise _mismatch(name, error.current) from error
        except VersionsNotActive as error:
            raise self._not_active(error) from error
        response.status_code = 202 if changed else 200
        response.headers["ETag"] = f'"{route.generation}"'
        return route

    def _generation(self, name: str, if_match: str | None) -> int | None:
        if if_match is None or if_match.strip() != "*":
            return parse_generation(if_match)
        known = self._control.routes.get(name)
        if known is None:
            raise _mismatch(name, None)
        return known.generation

    def _not_active(self, error: VersionsNotActive) -> Unprocessable:
        said = [f"{ref} does not exist{self._newest(ref)}" for ref in error.unknown]
        said += [f"{ref} is retired" for ref in error.retired]
        return Unprocessable("; ".join(said), code="unknown_version", param="spec")

    def _newest(self, ref: VersionRef) -> str:
        newest = self._control.versions.rows(ref.name, limit=1)
        return f" (the newest version of {ref.name} is {newest[0].ref})" if newest else ""

    def _earlier(self, known: Route, to_generation: int | None) -> RouteSpec:
        wanted = to_generation or known.generation
        for event in self._events(known.name):
            if event.generation == wanted and event.action in _SPEC_ACTIONS:
                document = event.after if to_generation else event.before
                break
        else:
            raise Unprocessable(
                f"the route {known.name!r} never had a spec of generation {wanted}; see its history",
                param="to_generation",
            )
        if document is None:
            raise Unprocessable(f"the route {known.name!r} has no spec before the present one")
        try:
            return RouteSpec.model_validate(document)
        except ValidationError as error:
            raise Unprocessable(f"the spec of generation {wanted} is not valid any more") from error

    def _events(self, name: str, before_id: int | None = None) -> Iterator[Event]:
        """Yield the events of a route, newest first. A key's id may look like a route's name."""
        while True:
            rows = self._control.events.rows(name, limit=EVENTS_AT_ONCE, before_id=before_id)
            yield from (row for row in rows if row.action.startswith("route."))
            if len(rows) < EVENTS_AT_ONCE:
                return
            before_id = rows[-1].id


_SPEC_ACTIONS = frozenset({"route.put", "route.promote", "route.rollback"})


def page_of(rows: list[Event], limit: int) -> EventPage:
    """Return the first `limit` of `rows` as a page; one row more says that there is another page."""
    return EventPage(
        data=tuple(EventView.model_validate(row) for row in rows[:limit]),
        next_before_id=rows[limit - 1].id if len(rows) > limit else None,
    )


def _on_top_of(known: Route, change: Change) -> Change:
    """Return the change bound to the route that was read, unless the caller bound it himself."""
    return replace(change, if_match=change.if_match or str(known.generation))


def _no_route(name: str) -> NotFound:
    return NotFound(f"there is no route {name!r}", code="route_not_found", param="route")


def _mismatch(name: str, current: int | None) -> PreconditionFailed:
    now = f"is at generation {current}" if current else "does not exist"
    return PreconditionFailed(f"the route {name!r} {now}; read it again and decide anew", param="If-Match")
