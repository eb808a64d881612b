"""`/admin/routes/{route}/pause`, `resume`, `abort` and `plan`: a person's hand on a canary.

Commands are written at once, in place of the status that they were made from, so that they also work while no
controller does.
"""

import time
from collections.abc import Callable

from fastapi import APIRouter, Response

from gateway.api.admin_common import Change, Changing, faults, parse_generation
from gateway.api.experiment_schemas import Planned, Resume
from gateway.core import steps
from gateway.core.routes import Route, RouteSpec, RouteStatus
from gateway.core.steps import Moment, NotPossible
from gateway.errors import Conflict, NotFound, PreconditionFailed
from gateway.experiments.forecast import forecast
from gateway.store.control import ControlStore
from gateway.store.requests import Requests

ATTEMPTS = 5


class CanaryEndpoints:
    """The endpoints, on both stores."""

    def __init__(self, control: ControlStore, requests: Requests) -> None:
        self._control = control
        self._requests = requests

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        one = "/routes/{route}"
        router.add_api_route(f"{one}/plan", self.plan, methods=["GET"], responses=faults(404))
        for action in (self.pause, self.resume, self.abort):
            router.add_api_route(
                f"{one}/{action.__name__}", action, methods=["POST"], responses=faults(404, 409, 412)
            )

    def plan(self, route: str) -> Planned:
        """Say what the route's experiment can find at the present traffic, and how long that takes."""
        return planned(self._get(route), self._requests)

    def pause(self, route: str, response: Response, change: Changing) -> Route:
        """Take no further step until the canary is resumed. Its guardrails are watched on."""
        return self._move(route, response, change, steps.paused)

    def resume(self, route: str, response: Response, change: Changing, body: Resume | None = None) -> Route:
        """Go on with a canary that is paused or held; with `restart`, begin one anew that was stopped."""
        again = body is not None and body.restart
        move = steps.restarted if again else steps.resumed
        return self._move(route, response, change, move)

    def abort(self, route: str, response: Response, change: Changing) -> Route:
        """Send the candidate's traffic back to the arms of the spec, at once."""
        return self._move(route, response, change, lambda known, _: steps.aborted(known))

    def _move(
        self,
        name: str,
        response: Response,
        change: Change,
        move: Callable[[Route, Moment], RouteStatus],
    ) -> Route:
        for _ in range(ATTEMPTS):
            generation = self._control.generation()
            known = self._get(name)
            wanted = parse_generation(change.if_match)
            if wanted not in (None, known.generation):
                raise PreconditionFailed(
                    f"the route {name!r} is at generation {known.generation}; read it again and decide anew",
                    param="If-Match",
                )
            try:
                status = move(known, Moment(time.time(), generation))
            except NotPossible as error:
                raise Conflict(str(error), code="canary_state") from error
            done = self._control.routes.set_status(
                name,
                status,
                generation=known.generation,
                actor=change.actor,
                why=change.why or (status.canary.reason if status.canary else None),
                instead_of=known.status,
            )
            if done:
                response.headers["ETag"] = f'"{known.generation}"'
                return known.model_copy(update={"status": status})
        raise Conflict(f"the route {name!r} is being changed; try again in a moment", code="busy")

    def _get(self, name: str) -> Route:
        known = self._control.routes.get(name)
        if known is None:
            raise NotFound(f"there is no route {name!r}", code="route_not_found", param="route")
        return known


def planned(route: Route, requests: Requests) -> Planned:
    """Return a route with its plan."""
    return Planned(**dict(route), plan=plan_of(route.name, route.spec, requests))


def plan_of(name: str, spec: RouteSpec, requests: Requests) -> dict[str, object] | None:
    """Return the plan of a spec; the traffic is only counted where there is something to plan."""
    if forecast(spec, 0.0) is None:
        return None
    return forecast(spec, requests.units_per_day(name, now=time.time()))
