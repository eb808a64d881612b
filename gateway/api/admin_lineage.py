"""From a version to the requests it learned from, and from a request to the versions that did."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query

from gateway.api.admin_common import Limit, faults, parse_ref
from gateway.api.curation_schemas import LineageRow, RequestRow, RequestVersions, VersionLineage
from gateway.errors import NotFound
from gateway.store.control import ControlStore
from gateway.store.lineage import RequestUse
from gateway.store.requests import Requests


class LineageEndpoints:
    """The endpoints, on both stores."""

    def __init__(self, control: ControlStore, requests: Requests) -> None:
        self._control = control
        self._requests = requests

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        one = "/adapters/{name}/{version}/lineage"
        router.add_api_route(one, self.version, methods=["GET"], responses=faults(404))
        router.add_api_route(
            "/requests/{request_id}/versions", self.request, methods=["GET"], responses=faults(404)
        )

    def version(
        self,
        name: str,
        version: int,
        after: Annotated[str, Query(max_length=64, description="the last row of the page before")] = "",
        limit: Limit = 100,
    ) -> VersionLineage:
        """Show what a version was made of: its run, its rows with their requests, and the drift report."""
        ref = parse_ref(name, version)
        if self._control.versions.get(ref) is None:
            raise NotFound(f"there is no version {ref}")
        facts = self._control.lineages.facts(ref)
        run = facts["loop_run"] if facts else None
        rows = [] if run is None else self._control.lineages.rows(run, after=after, limit=limit + 1)
        return VersionLineage(
            adapter=str(ref),
            facts=facts,
            run=run,
            drift=self._drift(facts["drift_id"] if facts else None),
            rows={} if run is None else self._control.lineages.parts(run),
            data=tuple(LineageRow.model_validate(row) for row in rows[:limit]),
            next_after=rows[limit - 1].row_id if len(rows) > limit else None,
        )

    def request(self, request_id: str) -> RequestVersions:
        """Show which versions were trained on a request, or judged by it."""
        found = self._requests.find(request_id)
        known = found.id if found else request_id
        uses = self._control.lineages.of_request(known)
        if found is None and not uses:
            raise NotFound(f"there is no request {request_id[:64]!r}", param="request_id")
        trained, judged = _labels(uses, trained=True), _labels(uses, trained=False)
        route = found.route if found else None
        hand = self._control.lineages.possible(route, found.at) if found and route and found.prompt else []
        return RequestVersions(
            request_id=known,
            route=route,
            trained=trained,
            judged=judged,
            possibly=tuple(label for label in hand if label not in trained),
            data=tuple(RequestRow(**asdict(use)) for use in uses),
        )

    def _drift(self, drift_id: int | None) -> dict[str, Any] | None:
        row = None if drift_id is None else self._control.drift.get(drift_id)
        return None if row is None else asdict(row)


def _labels(uses: list[RequestUse], *, trained: bool) -> tuple[str, ...]:
    return tuple(
        sorted(
            {
                label
                for use in uses
                for run, part in use.runs.items()
                if (part == "train") is trained
                for label in use.versions.get(run, ())
            }
        )
    )
