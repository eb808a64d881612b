"""`POST /v1/feedback`: a rating of an answer, on the disk before it is acknowledged."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastapi import APIRouter, Request

from gateway.api.admin_common import faults
from gateway.api.known_first import KnownFirst
from gateway.api.schemas import FeedbackIn, FeedbackOut
from gateway.auth import require
from gateway.core.requests import Principal, RequestRow, Role
from gateway.core.routes import DEMONSTRATION, Metric
from gateway.core.signals import IMPLICIT
from gateway.errors import NotFound, Unprocessable
from gateway.recording import Recorder
from gateway.routing.table import RoutingTable
from gateway.store.feedback import Feedback, FeedbackRow
from gateway.store.requests import Requests
from gateway.store.tombstones import Guard
from gateway.telemetry import Telemetry

MAX_VALUE_CHARS = 32_000
_TYPES: dict[str, tuple[type, ...]] = {"bool": (bool,), "number": (int, float), "string": (str,)}
_LOOK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class FeedbackDeps:
    """What the endpoint works on. `settle_s`: how long another worker's row may take to reach the store."""

    authenticate: Callable[[Request], Principal]
    table: Callable[[], RoutingTable]
    recorder: Recorder
    requests: Requests
    feedback: Feedback
    telemetry: Telemetry
    settle_s: float
    forgotten: Guard | None = None


def build_router(deps: FeedbackDeps) -> APIRouter:
    """Return the router."""
    router = APIRouter(tags=["feedback"], route_class=KnownFirst.by(deps.authenticate))

    @router.post("/v1/feedback", responses=faults(404, 413, 422))
    async def give_feedback(feedback: FeedbackIn, request: Request) -> FeedbackOut:
        """Rate one answer. Every rating that it holds is stored when this answers, or none is."""
        principal = deps.authenticate(request)
        require(principal, Role.FEEDBACK)
        row = await _find(deps, feedback.request_id, principal)
        route = deps.table().routes.get(row.route) if row.route else None
        declared = route.metrics if route else {}
        values = {
            name: checked_value(name, value, declared.get(name)) for name, value in feedback.values.items()
        }
        rows = _rows(values, row, principal, comment=feedback.comment, at=time.time())
        if deps.recorder.find(row.id) is not None:
            # Without its request a rating can't be counted or learnt from. A store that does not take the
            # request in time is not waited for: the rating goes first.
            await deps.recorder.settle(deps.settle_s)
        await asyncio.to_thread(_add, deps, row, rows)
        for rating in rows:
            if not rating.internal:
                known = rating.metric in declared or rating.metric == DEMONSTRATION
                deps.telemetry.rated(
                    rating.route, rating.adapter, rating.metric if known else None, rating.value
                )
        return FeedbackOut(
            request_id=row.id,
            metric=feedback.metric,
            metrics=tuple(values),
            route=row.route,
            adapter=row.adapter,
            arm=row.arm,
        )

    return router


def checked_value(metric: str, value: object, declared: Metric | None) -> bool | float | str:
    """Return the value if the metric may have it.

    Raises:
        Unprocessable: it is of the wrong type, not finite, out of the metric's range, or too long; or the
            gateway records the metric itself.
    """
    if metric in IMPLICIT:
        raise Unprocessable(f"the gateway records {metric!r} itself; it takes no feedback", param="metric")
    if not isinstance(value, bool | int | float | str):
        raise Unprocessable(f"the value of {metric!r} must be a bool, a number or a string", param="value")
    wanted = "string" if metric == DEMONSTRATION else declared.type if declared else None
    if wanted is not None:
        fits = isinstance(value, _TYPES[wanted]) and (wanted == "bool" or not isinstance(value, bool))
        if not fits:
            raise Unprocessable(f"the metric {metric!r} takes a {wanted}", param="value")
    if isinstance(value, str):
        if len(value) > MAX_VALUE_CHARS:
            raise Unprocessable(
                f"the value of {metric!r} is over {MAX_VALUE_CHARS} characters", param="value"
            )
        return _storable(value)
    if not _finite(value):
        raise Unprocessable(f"the value of {metric!r} must be a finite number", param="value")
    if declared and declared.range and not declared.range[0] <= value <= declared.range[1]:
        low, high = declared.range
        raise Unprocessable(f"the metric {metric!r} takes numbers from {low:g} to {high:g}", param="value")
    return value


def _rows(
    values: Mapping[str, bool | float | str],
    row: RequestRow,
    principal: Principal,
    *,
    comment: str | None,
    at: float,
) -> list[FeedbackRow]:
    """Return a row for each metric. The comment stands beside the first: it was made once."""
    return [
        FeedbackRow(
            request_id=row.id,
            route=row.route,
            adapter=row.adapter,
            arm=row.arm,
            metric=metric,
            value=value,
            comment=_storable(comment) if comment and not number else None,
            key_id=principal.key_id,
            at=at,
            unit=row.unit,
            exposed_at=row.at,
            internal=row.internal,
        )
        for number, (metric, value) in enumerate(values.items())
    ]


def _storable(text: str) -> str:
    """Return a text as every database takes it: PostgreSQL no NUL, and none of them half a character."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def _finite(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _add(deps: FeedbackDeps, row: RequestRow, rows: list[FeedbackRow]) -> None:
    """Store ratings, unless the request is about somebody who was forgotten since it was found.

    Raises:
        NotFound: it is.
    """
    if deps.forgotten is not None and deps.forgotten.holds(row):
        raise _unknown(row.id)
    deps.feedback.add(*rows)


async def _find(deps: FeedbackDeps, request_id: str, principal: Principal) -> RequestRow:
    """Return the request that is rated.

    Its row may still be on its way to the store, here or in another worker, so a miss is looked at again for
    `settle_s` before it counts.

    Raises:
        NotFound: there is none of that id for this tenant, or on what the key may use.
        Unprocessable: it was refused, so there is no answer to rate.
    """
    deadline = time.monotonic() + deps.settle_s
    while True:
        row = deps.recorder.find(request_id) or await asyncio.to_thread(deps.requests.find, request_id)
        if row is not None and not _may_rate(principal, row):
            row = None  # and it takes as long as a miss
        if row is not None or time.monotonic() >= deadline:
            break
        await asyncio.sleep(_LOOK_AGAIN_S)
    if row is None:
        raise _unknown(request_id)
    if not row.adapter:
        raise Unprocessable("that request was refused: there is no answer to rate", param="request_id")
    return row


def _unknown(request_id: str) -> NotFound:
    return NotFound(
        f"there is no request {request_id!r}; name the answer's x-request-id, or the id in its body",
        param="request_id",
    )


def _may_rate(principal: Principal, row: RequestRow) -> bool:
    if row.tenant != principal.tenant and Role.ADMIN not in principal.roles:
        return False
    return principal.scope is None or principal.scope.answer(row.route, row.adapter)
