"""`GET /v1/models`: the names that requests may use, in OpenAI's form, from the routing table."""

from bisect import bisect_right
from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request

from gateway.api.schemas import ModelCard, ModelList
from gateway.auth import require
from gateway.core.refs import BASE, VersionRef
from gateway.core.requests import Principal, Role
from gateway.errors import NotFound
from gateway.routing.table import RoutingTable

DEFAULT_LIMIT = 1000
Limit = Annotated[int, Query(ge=1, le=10_000)]


def build_router(
    *, authenticate: Callable[[Request], Principal], table: Callable[[], RoutingTable], created: int
) -> APIRouter:
    """Return the router. `created` (epoch seconds) stands on every card: OpenAI's clients need a time."""
    router = APIRouter(tags=["models"])

    @router.get("/v1/models")
    def list_models(request: Request, limit: Limit = DEFAULT_LIMIT, after: str | None = None) -> ModelList:
        """List routes, the base model, and versions; `after` the last id of the page before."""
        require(authenticate(request), Role.INFERENCE)
        now = table()
        every = now.model_names()
        begin = 0 if after is None else bisect_right(every, _place(now, after), key=partial(_place, now))
        page = every[begin : begin + limit]
        return ModelList(
            data=[card_of(now, name, created=created) for name in page],
            has_more=begin + limit < len(every),
            last_id=page[-1] if page else None,
        )

    @router.get("/v1/models/{name:path}")
    def get_model(name: str, request: Request) -> ModelCard:
        """Show one of them."""
        require(authenticate(request), Role.INFERENCE)
        return card_of(table(), name, created=created)

    return router


def _place(table: RoutingTable, name: str) -> tuple[int, str]:
    """Return where a name stands in the list, also one that has gone since."""
    return (0 if "@" not in name and name != table.base_model else 1 if name == table.base_model else 2, name)


def card_of(table: RoutingTable, name: str, *, created: int) -> ModelCard:
    """Return the card of a name.

    Raises:
        NotFound: there is no such model.
    """
    served = table.placement
    route = table.routes.get(name)
    if route is not None:
        ready = any(arm.share > 0 and served.get(arm.adapter) for arm in route.arms)
        return ModelCard(id=name, created=created, parent=table.base_model, kind="route", ready=ready)
    if name == table.base_model:
        return ModelCard(id=name, created=created, kind="base", ready=bool(served.get(BASE)))
    ref = VersionRef.parse(name)
    if ref is not None and ref in table.versions:
        ready = bool(served.get(name))
        return ModelCard(id=name, created=created, parent=table.base_model, kind="version", ready=ready)
    raise NotFound(f"the model {name[:128]!r} does not exist", code="model_not_found", param="model")
