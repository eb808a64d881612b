"""From the model that a client names to the version that answers. Pure; never the base by accident."""

import difflib
from itertools import islice
from typing import Any

from gateway.core.refs import BASE, VersionRef
from gateway.core.requests import Principal, Target
from gateway.core.scopes import Scope
from gateway.errors import NotFound, Unavailable
from gateway.routing.table import RouteEntry, RoutingTable

MAX_SUBJECT_CHARS = 256
RETRY_AFTER_S = 1.0
MAX_COMPARED = 200


def subject_of(header: str | None, body: dict[str, Any]) -> str | None:
    """Return whom a request is made for: the header, else the body's field; None when nobody is named.

    The fields are OpenAI's `safety_identifier` and `user`, and Anthropic's `metadata.user_id`.
    """
    metadata = body.get("metadata")
    candidates = (
        header,
        body.get("safety_identifier"),
        body.get("user"),
        metadata.get("user_id") if isinstance(metadata, dict) else None,
    )
    for candidate in candidates:
        if isinstance(candidate, str) and candidate:
            return candidate[:MAX_SUBJECT_CHARS]
    return None


def resolve(
    table: RoutingTable, requested: object, *, principal: Principal, request_id: str, subject: str | None
) -> Target:
    """Resolve the body's `model`: a route, a pinned version `name@N`, or the base model's own name.

    What is outside the principal's scope does not exist for it, in the errors and their hints too.

    Raises:
        NotFound: the name is absent, empty or unknown.
        Unavailable: it is known, but nothing of it is served yet, or it was being changed when the store
            was lost.
    """
    scope = principal.scope
    if not isinstance(requested, str) or not requested:
        base = f", or the base model {table.base_model!r}" if scope is None or scope.base else ""
        raise NotFound(
            f"the request names no model; name a route, a version like 'name@1'{base}",
            code="model_not_found",
            param="model",
        )
    route = table.routes.get(requested)
    if route is not None:
        if scope is None or scope.route(requested):
            return _by_route(table, route, principal=principal, request_id=request_id, subject=subject)
    elif requested in (table.base_model, BASE):
        if scope is None or scope.base:
            return Target(requested, table.base_model, adapter=None, generation=table.generation)
    else:
        ref = VersionRef.parse(requested)
        if ref is not None and ref in table.versions and (scope is None or scope.version(ref)):
            _require_settled(table, requested)
            return Target(requested, str(ref), adapter=ref, generation=table.generation)
    raise NotFound(
        f"the model {requested[:128]!r} does not exist{_hint(table, requested, scope)}",
        code="model_not_found",
        param="model",
    )


def _by_route(
    table: RoutingTable, route: RouteEntry, *, principal: Principal, request_id: str, subject: str | None
) -> Target:
    if not route.arms:
        raise Unavailable(
            f"the route {route.name!r} is still being prepared: {route.reason or 'its versions are loading'}",
            code="route_not_ready",
            retry_after_s=RETRY_AFTER_S,
        )
    sticky = subject if route.sticky == "subject" else _by_credential(route.sticky, principal)
    lottery = route.lottery
    label, share, ref = route.draws[lottery.arm(sticky or request_id)]
    if table.stale:
        _require_settled(table, label)
    captures = route.captures
    return Target(
        route.name,
        label if ref is not None else table.base_model,
        ref,
        route.name,
        label,
        share,
        lottery.unit(sticky) if sticky else None,
        table.generation,
        captures == "full" or (captures == "sampled" and lottery.captures(request_id, route.capture_share)),
        route.redacts,
        None if route.shadow is None else _shadow(route, label, request_id),
    )


def _by_credential(sticky: str, principal: Principal) -> str | None:
    """Return what stands for the subject where the spec says that a key or a tenant is one."""
    if sticky == "key":
        return principal.key_id
    return principal.tenant if sticky == "tenant" else None


def _shadow(route: RouteEntry, served: str, request_id: str) -> str | None:
    """Return the version that this request is replayed to; never the one that serves it."""
    shadow = route.shadow
    if shadow is None or shadow.adapter == served or not route.lottery.shadows(request_id, shadow.share):
        return None
    return shadow.adapter


def _require_settled(table: RoutingTable, label: str) -> None:
    if table.stale and label in table.changing:
        raise Unavailable(
            f"{label!r} was being changed when this worker lost the store; it is served when that is back",
            code="table_stale",
            retry_after_s=RETRY_AFTER_S,
        )


def _hint(table: RoutingTable, requested: str, scope: Scope | None) -> str:
    """Return close names: the versions of the adapter that is meant, else routes that begin alike.

    Comparing takes time, and the event loop waits: with ten thousand names to compare it was 0.4 s.
    What is outside the scope is left out before anything is counted.
    """
    name = requested[:128].partition("@")[0]
    versions = (ref for ref in table.versions if ref.name == name and (scope is None or scope.version(ref)))
    close = [str(ref) for ref in sorted(versions, reverse=True)[:3]]
    if not close:
        alike = (
            route for route in table.routes if route[:1] == name[:1] and (scope is None or scope.route(route))
        )
        candidates = [*islice(alike, MAX_COMPARED)]
        if scope is None or scope.base:
            candidates.append(table.base_model)
        close = difflib.get_close_matches(name, candidates, n=3, cutoff=0.6)
    return f"; did you mean {', '.join(map(repr, close))}?" if close else ""
