"""`/admin/curation`: the queue of rows that may be learned from, and what people decide on them."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query

from gateway.api.admin_common import Actor, Limit, Offset, Why, faults
from gateway.api.curation_schemas import CuratedCounts, CuratedPage, CuratedRow, Decide, Decided
from gateway.core.curation import RUBRIC, State, Verdict
from gateway.errors import NotFound, Unprocessable
from gateway.store.control import ControlStore
from gateway.store.curation import RowsGone


class CurationEndpoints:
    """The endpoints, on one store."""

    def __init__(self, control: ControlStore) -> None:
        self._control = control

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        router.add_api_route("/curation", self.counts, methods=["GET"], responses=faults())
        router.add_api_route("/curation/rows", self.queue, methods=["GET"], responses=faults())
        router.add_api_route("/curation/rows/{row_id}", self.show, methods=["GET"], responses=faults(404))
        router.add_api_route(
            "/curation/decisions", self.decide, methods=["POST"], responses=faults(404, 413, 422)
        )

    def counts(self, route: Annotated[str | None, Query(max_length=64)] = None) -> CuratedCounts:
        """Count curated rows by route, split (`train` or `held_out`) and state."""
        return CuratedCounts(data=self._control.curation.counts(route))

    def queue(
        self,
        route: Annotated[str | None, Query(max_length=64)] = None,
        state: State = "proposed",
        limit: Limit = 50,
        offset: Offset = 0,
    ) -> CuratedPage:
        """List rows in a state, the most novel first. `proposed` ones wait for a person."""
        rows = self._control.curation.queue(route, state=state, limit=limit + 1, offset=offset)
        return CuratedPage(
            data=tuple(CuratedRow(**asdict(row)) for row in rows[:limit]),
            next_offset=offset + limit if len(rows) > limit else None,
            rubric=dict(RUBRIC),
        )

    def show(self, row_id: str) -> CuratedRow:
        """Show one row."""
        row = self._control.curation.get(row_id)
        if row is None:
            raise NotFound(f"there is no curated row {row_id[:64]!r}")
        return CuratedRow(**asdict(row))

    def decide(self, body: Decide, actor: Actor, why: Why) -> Decided:
        """Approve, edit or reject rows, all of them or none. The last decision on a row counts.

        A run that has chosen its rows keeps them; the next one goes by what is decided now. What was rejected
        is used by no run again.
        """
        try:
            verdict = Verdict(
                body.decision, body.rubric, body.why or why, answer=body.answer, rejected=body.rejected
            )
        except ValueError as error:
            raise Unprocessable(str(error)) from error
        try:
            ids = tuple(dict.fromkeys(body.ids))
            rows = self._control.curation.decide(ids, verdict, actor=actor, why=why)
        except RowsGone as error:
            raise NotFound(str(error), param="ids") from error
        return Decided(data=tuple(CuratedRow(**asdict(row)) for row in rows))
