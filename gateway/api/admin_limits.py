"""`/admin/limits`: what keys, tenants and routes may take, and what they have spent of their budgets."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Path

from gateway.api.admin_common import Actor, Why, faults
from gateway.api.limit_schemas import GivenLimits, LimitPage, OwnedLimits, shown
from gateway.core.limits import SCOPES, Limits, Scope
from gateway.errors import NotFound, Unprocessable
from gateway.store.control import ControlStore

Name = Annotated[
    str,
    Path(
        min_length=1,
        max_length=64,
        description="a key's id, a tenant or a route; '*' is everybody of the scope who has none",
    ),
]


class LimitEndpoints:
    """The endpoints, on one store."""

    def __init__(self, control: ControlStore) -> None:
        self._control = control

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        one = "/limits/{scope}/{name:path}"
        router.add_api_route("/limits", self.page, methods=["GET"], responses=faults())
        router.add_api_route(one, self.show, methods=["GET"], responses=faults(404))
        router.add_api_route(one, self.put, methods=["PUT"], responses=faults(404, 422))
        router.add_api_route(one, self.remove, methods=["DELETE"], responses=faults(404))

    def page(self) -> LimitPage:
        """List the limits of everybody who has any."""
        found = self._owners()
        spent = self._control.limits.spent().totals
        order = sorted(found, key=lambda owner: (SCOPES.index(owner[0]), owner[1]))
        return LimitPage(data=tuple(_owned(scope, name, found[scope, name], spent) for scope, name in order))

    def show(self, scope: Scope, name: Name) -> OwnedLimits:
        """Show somebody's limits."""
        limits = self._owners().get((scope, name))
        if limits is None:
            raise NotFound(f"the {scope} {name!r} has no limits of its own")
        return _owned(scope, name, limits, self._control.limits.spent().totals)

    def put(self, scope: Scope, name: Name, body: GivenLimits, actor: Actor, why: Why) -> OwnedLimits:
        """Set somebody's limits, all of them. They hold in every worker within a second."""
        if scope != "tenant" and (body.weight is not None or body.priority is not None):
            raise Unprocessable(f"a {scope} has no weight and no priority: they are a tenant's")
        if not name.isprintable():
            raise Unprocessable("a name has printable characters only")
        limits = body.limits()
        if not self._control.limits.put(scope, name, limits, actor=actor, why=why):
            raise NotFound(f"there is no key {name!r}")
        return _owned(scope, name, limits, self._control.limits.spent().totals)

    def remove(self, scope: Scope, name: Name, actor: Actor, why: Why) -> OwnedLimits:
        """Take somebody's limits away. What budgets have been spent stays counted."""
        found = self.show(scope, name)
        self._control.limits.put(scope, name, None, actor=actor, why=why)
        return found

    def _owners(self) -> dict[tuple[Scope, str], Limits]:
        owners: dict[tuple[Scope, str], Limits] = {}
        for (scope, name), document in self._control.limits.documents().items():
            known: Scope | None = next((one for one in SCOPES if one == scope), None)
            if known is not None:
                owners[known, name] = Limits.of(document)
        for row in self._control.keys.rows():
            if row.limits:
                owners["key", row.id] = Limits.of(row.limits)
        return owners


def _owned(scope: Scope, name: str, limits: Limits, spent: Mapping[tuple[str, str, str], int]) -> OwnedLimits:
    return OwnedLimits(
        scope=scope,
        name=name,
        limits=shown(limits),
        spent_day=spent.get((scope, name, "day"), 0) if limits.tokens_per_day else None,
        spent_month=spent.get((scope, name, "month"), 0) if limits.tokens_per_month else None,
    )
