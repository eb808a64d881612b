"""`GET /admin/usage`: requests, errors and tokens by key, tenant, route and version, over time."""

import json
import time
from collections.abc import Iterable
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query

from gateway.api.admin_common import Limit, faults
from gateway.api.admin_schemas import Usage, UsageRow
from gateway.errors import InvalidRequest
from gateway.store.control import ControlStore
from gateway.store.requests import Requests
from gateway.store.usage import HOUR_S, Bucket, Dimension, Place, hour_of, place_of

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
DEFAULT_BY: tuple[Dimension, ...] = ("key", "route", "version")
_LIST_OF_DIMENSIONS = rf"^ *(({'|'.join(DIMENSIONS)}) *(, *|$))*$"
_LATEST = 253_402_300_800.0
Name = Annotated[str | None, Query(max_length=128)]
Time = Annotated[float, Query(ge=0, le=_LATEST, description="seconds since the epoch")]


class UsageEndpoints:
    """The endpoint, on both stores."""

    def __init__(self, control: ControlStore, requests: Requests) -> None:
        self._control = control
        self._usage = requests.usage

    def mount(self, router: APIRouter) -> None:
        """Put the endpoint on `router`."""
        router.add_api_route("/usage", self.usage, methods=["GET"], responses=faults())

    def usage(  # noqa: PLR0917 - FastAPI passes them by name
        self,
        since: Time = 0.0,
        until: Annotated[float | None, Query(ge=0, le=_LATEST, description="now by default")] = None,
        bucket: Annotated[
            Bucket | None, Query(description="one row for each; without it the whole time")
        ] = None,
        group_by: Annotated[
            str,
            Query(
                max_length=64,
                pattern=_LIST_OF_DIMENSIONS,
                description=f"of {', '.join(DIMENSIONS)}, with commas between",
            ),
        ] = ",".join(DEFAULT_BY),
        key: Name = None,
        tenant: Name = None,
        route: Name = None,
        version: Name = None,
        limit: Limit = 1000,
        after: Annotated[
            str | None, Query(max_length=1024, description="`next_after` of the page before")
        ] = None,
    ) -> Usage:
        """Sum requests, errors and tokens by key, route and version, or by what `group_by` names.

        Times are taken to whole hours, of UTC: usage is kept by the hour, beyond the requests themselves.
        """
        by = _dimensions(group_by)
        given = {"key": key, "tenant": tenant, "route": route, "version": version}
        where = {name: value for name in DIMENSIONS if (value := given[name]) is not None}
        until = time.time() if until is None else until
        rows = self._usage.rows(
            by,
            since=since,
            until=until,
            bucket=bucket,
            where=where,
            limit=limit + 1,
            after=None if after is None else _place(after, by),
        )
        page = rows[:limit]
        labels = {row.id: row.label for row in self._control.keys.rows()} if "key" in by else {}
        return Usage(
            since=float(hour_of(since)),
            until=float(hour_of(until - 1) + HOUR_S) if until > since else float(hour_of(since)),
            bucket=bucket,
            group_by=by,
            data=tuple(UsageRow(**row, label=labels.get(row.get("key_id", ""))) for row in page),
            next_after=_text(place_of(page[-1], by)) if len(rows) > limit else None,
        )


def _dimensions(text: str) -> tuple[Dimension, ...]:
    """Return what a list with commas names, in the order of `DIMENSIONS`.

    Raises:
        InvalidRequest: it names something else.
    """
    named = [part.strip() for part in text.split(",") if part.strip()]
    for name in named:
        if name not in DIMENSIONS:
            raise InvalidRequest(f"group_by takes {', '.join(DIMENSIONS)}, not {name!r}", param="group_by")
    return tuple(name for name in DIMENSIONS if name in named)


def _text(place: Place) -> str:
    return json.dumps([place.at, *place.values], ensure_ascii=False, separators=(",", ":"))


def _place(text: str, by: Iterable[Dimension]) -> Place:
    try:
        found: Any = json.loads(text)
        at, *values = found
    except (ValueError, TypeError):
        at, values = None, []
    strings = all(isinstance(value, str) for value in values)
    if not isinstance(at, int) or not strings or len(values) != len(tuple(by)) or abs(at) >= 2**63:
        raise InvalidRequest("after takes what `next_after` of the page before said", param="after")
    return Place(at, tuple(values))
