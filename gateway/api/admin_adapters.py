"""`/admin/adapters`: add a version from a source, see where each is served and used, retire it."""

import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from adapters.collect import collect
from gateway.api.adapter_adds import Add, Adds, Wanted
from gateway.api.adapter_schemas import (
    USAGE_WINDOW_S,
    Adapter,
    AdapterAdd,
    AdapterDetail,
    AdapterPage,
    AdapterUsage,
    Blob,
    BlobPage,
    Registration,
)
from gateway.api.admin_common import Actor, Limit, Offset, Why, faults, parse_label, parse_ref
from gateway.api.residency import standing
from gateway.core.refs import VersionRef
from gateway.errors import Conflict, Internal, NotFound, TurnoutError
from gateway.replicas.meter import HALF_LIFE_S
from gateway.store.control import ControlStore
from gateway.store.placement import Counts
from gateway.store.requests import Requests
from gateway.store.uses import VersionInUse
from gateway.store.versions import VersionRow

NDJSON = "application/x-ndjson"
BEAT_S = 0.5
"""How often a client that follows an add hears of it, also when nothing has moved."""

_STATES = ("attested", "registered", "failed")


class AdapterEndpoints:
    """The endpoints, on the stores and on what adds."""

    def __init__(self, control: ControlStore, requests: Requests, adds: Adds, *, blobs: Path) -> None:
        """`blobs` is the folder of the registry."""
        self._control = control
        self._blobs = blobs
        self._requests = requests
        self._adds = adds

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        one = "/adapters/{name}/{version}"
        router.add_api_route("/adapters", self.page, methods=["GET"], responses=faults(422))
        router.add_api_route(
            "/adapters",
            self.add,
            methods=["POST"],
            status_code=201,
            response_model=AdapterDetail,
            responses={
                200: {"model": AdapterDetail, "description": "known content"},
                **faults(409, 422, 429),
            },
        )
        router.add_api_route("/adapters/gc", self.gc, methods=["POST"], responses=faults())
        router.add_api_route(one, self.show, methods=["GET"], responses=faults(404))
        router.add_api_route(one, self.retire, methods=["DELETE"], responses=faults(404, 409))

    def page(
        self,
        name: str | None = Query(default=None),
        limit: Limit = 100,
        offset: Offset = 0,
        after: str | None = Query(
            default=None,
            description="the last version of the page before",
            json_schema_extra={"pattern": "^[a-z0-9][a-z0-9._-]{0,63}@[1-9][0-9]{0,8}$"},
        ),
        since: float | None = Query(
            default=None, ge=0, description="count requests from then; a day by default"
        ),
    ) -> AdapterPage:
        """List versions by name, the newest of a name first, with where each is registered and attested.

        `after` pages on at the same cost for every page; `offset` is for small lists.
        """
        last = None if after is None else parse_label(after, param="after")
        rows = self._control.versions.rows(name, limit=limit + 1, offset=offset, after=last)
        more = len(rows) > limit
        rows = rows[:limit]
        views = self._views(rows, since=since)
        return AdapterPage(
            data=tuple(Adapter(**views.fields(row)) for row in rows),
            limit=limit,
            offset=offset,
            next_offset=offset + limit if more and after is None else None,
            next_after=str(rows[-1].ref) if more else None,
        )

    async def add(
        self,
        body: AdapterAdd,
        response: Response,
        actor: Actor,
        why: Why,
        accept: Annotated[str, Header()] = "*/*",
    ) -> AdapterDetail | Response:
        """Add the adapter that a source names: 201 for a new version, 200 for known content.

        A source is a folder or a tar on the gateway's machine, `s3://`, `gs://`, `https://` (a tar) or
        `hf://org/repo[@revision]`. With `Accept: application/x-ndjson` the answer is a line twice a second,
        `{"stage", "done_bytes", "total_bytes"}`, and a last one with `status` and either `adapter` or
        `error`. A client that leaves stops nothing. The first version of a name also gets a route of that
        name. A retired version is active again.
        """
        add = self._adds.start(Wanted(body.name, body.source, actor, body.why or why))
        if NDJSON in accept:
            return StreamingResponse(self._follow(add), media_type=NDJSON)
        row, new = await add.wait()
        response.status_code = 201 if new else 200
        return await run_in_threadpool(self._detail, row)

    async def _follow(self, add: Add) -> AsyncIterator[bytes]:
        while not await add.done_within(BEAT_S):
            seen = add.progress
            yield _line(stage=seen.stage, done_bytes=seen.done_bytes, total_bytes=seen.total_bytes)
        try:
            row, new = await add.wait()
            detail = await run_in_threadpool(self._detail, row)
            yield _line(status=201 if new else 200, adapter=detail.model_dump(mode="json"))
        except TurnoutError as error:
            yield _line(status=error.status, **error.body())

    def show(self, name: str, version: int) -> AdapterDetail:
        """Show one version with its manifest."""
        return self._detail(self._get(parse_ref(name, version)))

    def retire(self, name: str, version: int, actor: Actor, why: Why) -> AdapterDetail:
        """Retire a version: it is served no more. Its number and its files stay taken."""
        ref = parse_ref(name, version)
        try:
            self._control.versions.retire(ref, actor=actor, why=why, unused_only=True)
        except VersionInUse as error:
            raise Conflict(
                f"{ref} is named by the route {', '.join(error.routes)}; point it at another version first",
                code="in_use",
            ) from error
        return self._detail(self._get(ref))

    def gc(self, actor: Actor, why: Why, *, dry_run: bool = False) -> BlobPage:
        """Remove the blobs of retired versions that no engine can need any more; list all with their fate.

        The controller does the same by itself now and then.
        """
        try:
            found = collect(self._blobs, self._control.holds, dry_run=dry_run)
        except OSError as error:
            raise Internal(f"the blobs could not be removed: {error.strerror}") from error
        removed = [blob.digest for blob in found if blob.kept_because is None]
        if removed and not dry_run:
            self._control.events.add(
                actor=actor,
                action="blob.remove",
                subject="blobs",
                why=why,
                before={"blobs": len(found)},
                after={"blobs": len(found) - len(removed), "removed": removed},
            )
        return BlobPage(
            dry_run=dry_run,
            data=tuple(
                Blob(digest=blob.digest, size_bytes=blob.size_bytes, kept_because=blob.kept_because)
                for blob in found
            ),
        )

    def _get(self, ref: VersionRef) -> VersionRow:
        row = self._control.versions.get(ref)
        if row is None:
            raise NotFound(f"there is no version {ref}")
        return row

    def _detail(self, row: VersionRow) -> AdapterDetail:
        return AdapterDetail(**self._views([row], since=None).fields(row), manifest=row.manifest)

    def _views(self, rows: Sequence[VersionRow], *, since: float | None) -> "_Views":
        from_then = time.time() - USAGE_WINDOW_S if since is None else since
        usage = self._requests.by_adapter([str(row.ref) for row in rows], since=from_then)
        return _Views(self._control, usage, since=from_then)


class _Views:
    """Versions as they are shown; reads routes, replicas and registrations once."""

    def __init__(self, control: ControlStore, usage: dict[str, dict[str, int]], *, since: float) -> None:
        self._usage = usage
        self._since = since
        replicas, registrations = control.fleet.replicas(), control.fleet.registrations()
        self._incarnations = {row.id: row.incarnation for row in replicas}
        self._counts = control.placement.counts()
        homes = control.placement.homes()
        used = control.placement.usage(now=time.time(), half_life_s=HALF_LIFE_S)
        resident = {
            (row.id, each.adapter): each.resident_estimate
            for row in replicas
            for each in standing(row, registrations, homes, used)
        }
        self._where: dict[VersionRef, list[Registration]] = defaultdict(list)
        for known in sorted(registrations, key=lambda known: known.replica):
            self._where[known.ref].append(
                Registration(
                    replica=known.replica,
                    state=known.state,
                    current=self._incarnations.get(known.replica) == known.incarnation,
                    incarnation=known.incarnation,
                    reason=known.reason,
                    figures=known.figures,
                    at=known.at,
                    home=known.replica in homes.get(known.ref, ()),
                    resident_estimate=resident.get((known.replica, str(known.ref))),
                )
            )
        # Routes whose spec needs a version, or whose traffic still meets it.
        self._routes: dict[str, list[str]] = defaultdict(list)
        for route in control.routes.rows():
            met = {arm.adapter for arm in route.status.effective_arms}
            for label in met | {str(ref) for ref in route.spec.versions()}:
                self._routes[label].append(route.name)

    def fields(self, row: VersionRow) -> dict[str, Any]:
        """Return the fields of `Adapter`."""
        label = str(row.ref)
        where = tuple(self._where.get(row.ref, ()))
        counts = self._counts.get(row.ref, Counts(0, 0))
        return {
            "adapter": label,
            "name": row.ref.name,
            "version": row.ref.version,
            "state": _state(row, where),
            "digest": row.digest,
            "created_at": row.created_at,
            "retired_at": row.retired_at,
            "rank": row.manifest["rank"],
            "size_bytes": row.manifest["size_bytes"],
            "base": row.manifest["base"]["name"],
            "source": row.manifest["source"],
            "registrations": where,
            "routes": tuple(self._routes.get(label, ())),
            "usage": AdapterUsage(since=self._since, **self._usage.get(label, {})),
            "cold_loads": counts.cold_loads,
            "evictions": counts.evictions,
        }


def _state(row: VersionRow, where: Sequence[Registration]) -> str:
    if row.retired_at is not None:
        return "retired"
    here = {known.state for known in where if known.current}
    return next((state for state in _STATES if state in here), "stored")


def _line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"
