"""`POST /v1/feedback`: a rating of an answer, on the disk before it is acknowledged."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter, Request

from gateway.api.schemas import FeedbackIn, FeedbackOut
from gateway.auth import require
from gateway.core.requests import Principal, RequestRow, Role
from gateway.core.routes import Metric
from gateway.errors import NotFound, Unprocessable
from gateway.recording import Recorder
from gateway.routing.table import RoutingTable
from gateway.store.feedback import Feedback, FeedbackRow
from gateway.store.requests import Requests

DEMONSTRATION = "demonstration"
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
    settle_s: float


def build_router(deps: FeedbackDeps) -> APIRouter:
    """Return the router."""
    router = APIRouter(tags=["feedback"])

    @router.post("/v1/feedback")
    async def give_feedback(feedback: FeedbackIn, request: Request) -> FeedbackOut:
        """Rate one answer. The rating is stored when this answers."""
        principal = deps.authenticate(request)
        require(principal, Role.FEEDBACK)
        row = await _find(deps, feedback.request_id, principal)
        value = checked_value(feedback.metric, feedback.value, _declared(deps.table(), row, feedback.metric))
        stored = FeedbackRow(
            request_id=row.id,
            route=row.route,
            adapter=row.adapter,
            arm=row.arm,
            metric=feedback.metric,
            value=value,
            comment=feedback.comment and feedback.comment.replace("\0", ""),
            key_id=principal.key_id,
            at=time.time(),
        )
        await asyncio.to_thread(deps.feedback.add, stored)
        return FeedbackOut(
            request_id=row.id, metric=feedback.metric, route=row.route, adapter=row.adapter, arm=row.arm
        )

    return router


def checked_value(metric: str, value: object, declared: Metric | None) -> bool | float | str:
    """Return the value if the metric may have it.

    Raises:
        Unprocessable: it is of the wrong type, not finite, or too long.
    """
    if not isinstance(value, bool | int | float | str):
        raise Unprocessable("'value' must be a bool, a number or a string", param="value")
    wanted = "string" if metric == DEMONSTRATION else declared.type if declared else None
    if wanted is not None:
        fits = isinstance(value, _TYPES[wanted]) and (wanted == "bool" or not isinstance(value, bool))
        if not fits:
            raise Unprocessable(f"the metric {metric!r} takes a {wanted}", param="value")
    if isinstance(value, str):
        if len(value) > MAX_VALUE_CHARS:
            raise Unprocessable(f"'value' is over {MAX_VALUE_CHARS} characters", param="value")
        return value.replace("\0", "")
    if isinstance(value, int | float) and not _storable(value):
        raise Unprocessable("'value' must be a finite number", param="value")
    return value


def _storable(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _declared(table: RoutingTable, row: RequestRow, metric: str) -> Metric | None:
    route = table.routes.get(row.route) if row.route else None
    return route.metrics.get(metric) if route else None


async def _find(deps: FeedbackDeps, request_id: str, principal: Principal) -> RequestRow:
    """Return the request that is rated.

    Its row may still be on its way to the store, here or in another worker, so a miss is looked at again for
    `settle_s` before it counts.

    Raises:
        NotFound: there is none of that id for this tenant.
        Unprocessable: it was refused, so there is no answer to rate.
    """
    deadline = time.monotonic() + deps.settle_s
    while True:
        row = deps.recorder.find(request_id) or await asyncio.to_thread(deps.requests.find, request_id)
        if row is not None or time.monotonic() >= deadline:
            break
        await asyncio.sleep(_LOOK_AGAIN_S)
    if row is None or (row.tenant != principal.tenant and Role.ADMIN not in principal.roles):
        raise NotFound(
            f"there is no request {request_id!r}; name the answer's x-request-id, or the id in its body",
            param="request_id",
        )
    if not row.adapter:
        raise Unprocessable("that request was refused: there is no answer to rate", param="request_id")
    return row
