"""`/admin/golden`: the golden sets of routes, how often they were used, and their rotation."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from gateway.api.admin_common import Actor, Limit, Why, faults
from gateway.api.curation_schemas import (
    GoldenAdd,
    GoldenAdded,
    GoldenPage,
    GoldenRow,
    GoldenSet,
    GoldenSets,
)
from gateway.core import curation
from gateway.core.loop import LoopPolicy
from gateway.errors import NotFound, Unprocessable
from gateway.store import golden
from gateway.store.control import ControlStore

_PLAIN = LoopPolicy()


class GoldenEndpoints:
    """The endpoints, on one store."""

    def __init__(self, control: ControlStore) -> None:
        self._control = control

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        one = "/golden/{route}"
        router.add_api_route("/golden", self.sets, methods=["GET"], responses=faults())
        router.add_api_route(one, self.rows, methods=["GET"], responses=faults(404))
        router.add_api_route(f"{one}/rows", self.add, methods=["POST"], responses=faults(404, 413, 422))
        router.add_api_route(f"{one}/rotate", self.rotate, methods=["POST"], responses=faults(404))

    def sets(self, route: Annotated[str | None, Query(max_length=64)] = None) -> GoldenSets:
        """List golden sets, the newest of a route first, with how often each was judged by."""
        return GoldenSets(data=tuple(self._view(each) for each in self._control.golden.sets(route)))

    def rows(
        self,
        route: str,
        number: Annotated[int | None, Query(ge=1, description="by default the present set")] = None,
        after: Annotated[str, Query(max_length=64)] = "",
        limit: Limit = 100,
    ) -> GoldenPage:
        """List the rows of a set."""
        current = self._control.golden.current(route)
        wanted = number or (current.number if current else None)
        if wanted is None:
            raise NotFound(f"{route!r} has no golden set; add rows to make one", param="route")
        found = self._control.golden.rows(route, wanted, after=after, limit=limit + 1)
        return GoldenPage(
            data=tuple(GoldenRow.model_validate(row) for row in found[:limit]),
            next_after=found[limit - 1].id if len(found) > limit else None,
        )

    def add(self, route: str, body: GoldenAdd, actor: Actor, why: Why) -> GoldenAdded:
        """Add rows to the present set, which the first ones make. Rows that are there are added once.

        Of curated rows only those that a person has approved, and that are held out, are taken: what was
        trained on can't be judged by.
        """
        self._require_route(route)
        current = self._control.golden.current(route)
        number = current.number if current else self._next(route)
        rows = [_row(route, number, row.messages, row.answer, row.slices) for row in body.rows]
        rows += [self._curated(route, number, each) for each in body.curated]
        added = self._control.golden.add(rows, route=route, number=number, actor=actor, why=why)
        return GoldenAdded(route=route, number=number, added=added, known=len(rows) - added)

    def rotate(self, route: str, actor: Actor, why: Why) -> GoldenSet:
        """Retire the present set and begin an empty one. Rows of retired sets are never trained on either."""
        self._require_route(route)
        number = self._control.golden.rotate(route, actor=actor, why=why)
        return next(self._view(each) for each in self._control.golden.sets(route) if each.number == number)

    def _next(self, route: str) -> int:
        return max((each.number for each in self._control.golden.sets(route)), default=0) + 1

    def _curated(self, route: str, number: int, row_id: str) -> golden.GoldenRow:
        row = self._control.curation.get(row_id)
        if row is None or row.route != route:
            raise NotFound(f"{route!r} has no curated row {row_id!r}", param="curated")
        if row.split != "held_out" or row.state not in curation.REVIEWED or row.kind == "disliked":
            raise Unprocessable(
                f"{row_id} can't be judged by: that takes a held-out row with a wanted answer that a person "
                "has approved",
                param="curated",
            )
        made = _row(route, number, row.messages, row.answer, {"kind": row.kind})
        return golden.GoldenRow(**{**asdict(made), "request_id": row.request_id, "unit": row.unit})

    def _require_route(self, route: str) -> None:
        if self._control.routes.get(route) is None:
            raise NotFound(f"there is no route {route!r}", code="route_not_found", param="route")

    def _view(self, found: golden.GoldenSet) -> GoldenSet:
        known = self._control.routes.get(found.route)
        policy = (known.spec.loop if known else None) or _PLAIN
        due = found.retired_at is None and found.uses >= policy.golden_uses
        return GoldenSet(**asdict(found), rotation_due=due)


def _row(route: str, number: int, messages: object, answer: str, slices: dict[str, str]) -> golden.GoldenRow:
    said = [
        dict(message) if isinstance(message, dict) else message.model_dump()
        for message in messages  # type: ignore[attr-defined]  # a sequence of either form
    ]
    return golden.GoldenRow(
        curation.golden_id(route, number, said, answer), route, number, said, answer, dict(slices)
    )
