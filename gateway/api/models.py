"""`GET /v1/models`: the names that a key may use, from the routing table, in OpenAI's form or in Anthropic's.

A client that says `anthropic-version` gets Anthropic's. A name that the key may not use does not exist.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from gateway.api.admin_common import faults
from gateway.api.dialects import ANTHROPIC, dialect_of_request
from gateway.api.schemas import AnthropicModel, AnthropicModelList, ModelCard, ModelList
from gateway.auth import require
from gateway.core.refs import BASE, VersionRef
from gateway.core.requests import Principal, Role
from gateway.core.scopes import Scope
from gateway.errors import NotFound
from gateway.routing.table import RoutingTable

DEFAULT_LIMIT = 1000
Limit = Annotated[int, Query(ge=1, le=10_000)]
Name = Annotated[str | None, Query(max_length=256)]


def build_router(
    *, authenticate: Callable[[Request], Principal], table: Callable[[], RoutingTable], created: int
) -> APIRouter:
    """Return the router. `created` (epoch seconds) stands on every card: OpenAI's clients need a time."""
    router = APIRouter(tags=["models"])

    @router.get("/v1/models", responses=faults())
    def list_models(
        request: Request,
        limit: Limit = DEFAULT_LIMIT,
        after: Name = None,
        after_id: Name = None,
        before_id: Name = None,
    ) -> ModelList | AnthropicModelList:
        """List routes, the base model, and versions that the key may use.

        `after` is the last id of the page before. With the header `anthropic-version`: Anthropic's form,
        `after_id`, and `before_id` to page back.
        """
        scope = _scope(authenticate(request))
        now = table()
        names = now.model_names(scope)
        key: Callable[[str], tuple[int, str]] = partial(_place, now)
        if _anthropics(request):
            return _anthropic_page(names, key, created, limit=limit, after=after_id, before=before_id)
        begin = 0 if after is None else bisect_right(names, key(after), key=key)
        page = names[begin : begin + limit]
        return ModelList(
            data=[card_of(now, name, created=created, scope=scope) for name in page],
            has_more=begin + limit < len(names),
            last_id=page[-1] if page else None,
        )

    @router.get("/v1/models/{name:path}", responses=faults(404))
    def get_model(name: str, request: Request) -> ModelCard | AnthropicModel:
        """Show one of them."""
        scope = _scope(authenticate(request))
        card = card_of(table(), name, created=created, scope=scope)
        return _anthropic_card(name, created) if _anthropics(request) else card

    return router


def _scope(principal: Principal) -> Scope | None:
    require(principal, Role.INFERENCE)
    return principal.scope


def _anthropics(request: Request) -> bool:
    return dialect_of_request(request) is ANTHROPIC


def _place(table: RoutingTable, name: str) -> tuple[int, str]:
    """Return where a name stands in the list, also one that has gone since."""
    return (0 if "@" not in name and name != table.base_model else 1 if name == table.base_model else 2, name)


def card_of(table: RoutingTable, name: str, *, created: int, scope: Scope | None = None) -> ModelCard:
    """Return the card of a name.

    Raises:
        NotFound: there is no such model, or it is outside the scope.
    """
    served = table.placement
    base = table.base_model if scope is None or scope.base else None
    route = table.routes.get(name)
    if route is not None:
        if scope is None or scope.route(name):
            ready = any(arm.share > 0 and served.get(arm.adapter) for arm in route.arms)
            return ModelCard(id=name, created=created, parent=base, kind="route", ready=ready)
    elif name == table.base_model:
        if base is not None:
            return ModelCard(id=name, created=created, kind="base", ready=bool(served.get(BASE)))
    else:
        ref = VersionRef.parse(name)
        if ref is not None and ref in table.versions and (scope is None or scope.version(ref)):
            ready = bool(served.get(name))
            return ModelCard(id=name, created=created, parent=base, kind="version", ready=ready)
    raise NotFound(f"the model {name[:128]!r} does not exist", code="model_not_found", param="model")


def _anthropic_page(
    names: list[str],
    key: Callable[[str], Any],
    created: int,
    *,
    limit: int,
    after: str | None,
    before: str | None,
) -> AnthropicModelList:
    """Return a page in Anthropic's form: the first names behind `after`, or the last ones before `before`."""
    if before is not None and after is None:
        end = bisect_left(names, key(before), key=key)
        begin = max(0, end - limit)
        more = begin > 0
    else:
        begin = 0 if after is None else bisect_right(names, key(after), key=key)
        end = min(len(names), begin + limit)
        more = end < len(names)
    page = names[begin:end]
    return AnthropicModelList(
        data=[_anthropic_card(name, created) for name in page],
        has_more=more,
        first_id=page[0] if page else None,
        last_id=page[-1] if page else None,
    )


def _anthropic_card(name: str, created: int) -> AnthropicModel:
    at = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return AnthropicModel(id=name, display_name=name, created_at=at)
