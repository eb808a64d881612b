"""What came back on a route's answers: `/admin/routes/{route}/feedback`, `…/signals` and `…/shadow`."""

from typing import Annotated

from fastapi import APIRouter, Query

from gateway.api.admin_common import MAX_ID, Limit, Offset, Since, faults
from gateway.api.feedback_schemas import (
    Rating,
    RatingPage,
    ShadowPage,
    ShadowPair,
    ShadowSummary,
    SignalCount,
    SignalCounts,
)
from gateway.core.routes import Metric, RouteSpec
from gateway.core.signals import tally
from gateway.errors import NotFound
from gateway.store.control import ControlStore
from gateway.store.feedback import FeedbackRow
from gateway.store.requests import Requests

HOUR_S = 3600.0
MAX_TOLD = 20_000
_UNDECLARED = Metric()


class FeedbackEndpoints:
    """The endpoints, on both stores."""

    def __init__(self, control: ControlStore, requests: Requests) -> None:
        self._control = control
        self._requests = requests

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        one = "/routes/{route}"
        router.add_api_route(f"{one}/feedback", self.feedback, methods=["GET"], responses=faults(404))
        router.add_api_route(f"{one}/signals", self.signals, methods=["GET"], responses=faults(404))
        router.add_api_route(f"{one}/shadow", self.shadow, methods=["GET"], responses=faults(404))

    def feedback(
        self,
        route: str,
        metric: Annotated[str | None, Query(max_length=64)] = None,
        request_id: Annotated[str | None, Query(max_length=64)] = None,
        limit: Limit = 100,
        before_id: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None,
    ) -> RatingPage:
        """List a route's ratings, newest first: repeated, late and internal ones too, and comments."""
        spec = self._spec(route)
        rows = self._control.feedback.newest(
            route, metric=metric, request_id=request_id, before_id=before_id, limit=limit + 1
        )
        shown = rows[:limit]
        return RatingPage(
            route=route,
            data=tuple(_rating(row, spec) for row in shown),
            next_before_id=shown[-1].id if len(rows) > limit else None,
        )

    def signals(self, route: str, since: Since = 0.0) -> SignalCounts:
        """Count a route's implicit signals by arm, over its last requests, at most 20,000 of them."""
        self._spec(route)
        found = self._requests.signals(route, since=since, limit=MAX_TOLD)
        counts = tally(found)
        return SignalCounts(
            route=route,
            since=since,
            requests=len({signal.request_id for signal in found}),
            data=tuple(
                SignalCount(arm=arm, metric=metric, known=known, true=true)
                for (arm, metric), (known, true) in sorted(counts.items(), key=lambda item: str(item[0]))
            ),
        )

    def shadow(self, route: str, since: Since = 0.0, limit: Limit = 100, offset: Offset = 0) -> ShadowPage:
        """Show the answers of a route's shadow beside those that clients got, newest first."""
        spec = self._spec(route)
        pairs = self._requests.pairs.rows(route, since=since, limit=limit + 1, offset=offset)
        return ShadowPage(
            route=route,
            since=since,
            shadow=spec.shadow,
            summary=tuple(ShadowSummary(**row) for row in self._requests.pairs.summary(route, since=since)),
            data=tuple(ShadowPair.model_validate(pair) for pair in pairs[:limit]),
            next_offset=offset + limit if len(pairs) > limit else None,
        )

    def _spec(self, route: str) -> RouteSpec:
        known = self._control.routes.get(route)
        if known is None:
            raise NotFound(f"there is no route {route!r}", code="route_not_found", param="route")
        return known.spec


def _rating(row: FeedbackRow, spec: RouteSpec) -> Rating:
    window_h = spec.metrics.get(row.metric, _UNDECLARED).window_h
    late = None if row.exposed_at is None else row.at > row.exposed_at + window_h * HOUR_S
    return Rating(
        id=row.id,
        at=row.at,
        request_id=row.request_id,
        adapter=row.adapter,
        arm=row.arm,
        unit=row.unit,
        metric=row.metric,
        value=row.value,
        comment=row.comment,
        key_id=row.key_id,
        exposed_at=row.exposed_at,
        late=late,
        internal=row.internal,
    )
