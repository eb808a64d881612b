"""What the endpoints of `/admin` share: who acts, why, and small look-ups."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Message

from gateway.api.admin_schemas import ErrorBody
from gateway.api.known_first import KnownFirst
from gateway.core.refs import VersionRef
from gateway.core.requests import Principal
from gateway.core.who import Who
from gateway.errors import InvalidRequest, NotFound, TooLarge, Unprocessable

MAX_BODY_BYTES = 1024 * 1024
_ETAG = re.compile(r'(?:W/)?"?([1-9][0-9]{0,17})"?')
Answers = dict[int | str, dict[str, Any]]


class AdminRoute(KnownFirst):
    """A route that reads no body above `MAX_BODY_BYTES`."""

    def get_route_handler(self) -> Any:
        """Return the handler behind a counter of the body's bytes."""
        handle = super().get_route_handler()

        async def bounded(request: Request) -> Response:
            seen = 0
            too_large = TooLarge(f"the body is over {MAX_BODY_BYTES} bytes")

            async def receive() -> Message:
                nonlocal seen
                message = await request.receive()
                seen += len(message.get("body", b""))
                if seen > MAX_BODY_BYTES:
                    raise too_large
                return message

            try:
                return await handle(Request(request.scope, receive))
            except HTTPException as error:
                # FastAPI makes a plain 400 of whatever is raised while it reads a body.
                raise too_large if seen > MAX_BODY_BYTES else error from error

        return bounded


def faults(*statuses: int) -> Answers:
    """Return the OpenAPI entries of the errors that an endpoint may answer with."""
    return {status: {"model": ErrorBody} for status in sorted({400, 401, 403, 503, *statuses})}


def _who(request: Request) -> Who:
    principal = request.state.principal
    assert isinstance(principal, Principal)  # noqa: S101 - the router's own dependency put it there
    return Who(principal.key_id, name=principal.name or None, address=request.state.address)


def _why(
    why: Annotated[str | None, Query(max_length=2000, description="the reason, for the audit log")] = None,
    x_turnout_why: Annotated[str | None, Header(max_length=2000)] = None,
) -> str | None:
    return why or x_turnout_why


Actor = Annotated[Who, Depends(_who)]
Why = Annotated[str | None, Depends(_why)]
IfMatch = Annotated[str | None, Header(description="the generation that is to be replaced, or *")]


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes something, why, and what they believe is there."""

    actor: Who
    why: str | None
    if_match: str | None


def _change(actor: Actor, why: Why, if_match: IfMatch = None) -> Change:
    return Change(actor, why, if_match)


Changing = Annotated[Change, Depends(_change)]
MAX_ID = 2**63 - 1
"""What the databases take as a number."""

Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0, le=MAX_ID)]
Since = Annotated[float, Query(ge=0, description="seconds since the epoch")]


def parse_generation(if_match: str | None) -> int | None:
    """Return the generation that `If-Match` names; None without one, or where any will do.

    Raises:
        InvalidRequest: it is not one generation.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    match = _ETAG.fullmatch(if_match.strip())
    if match is None:
        raise InvalidRequest("If-Match takes one generation, as the ETag shows it", param="If-Match")
    return int(match[1])


def parse_ref(name: str, version: int) -> VersionRef:
    """Return the version that a path names.

    Raises:
        NotFound: no version can be written that way.
    """
    ref = VersionRef.parse(f"{name}@{version}")
    if ref is None:
        raise NotFound(f"there is no version {name}@{version}")
    return ref


def parse_label(label: str, *, param: str) -> VersionRef:
    """Return the version that a body names as `name@N`.

    Raises:
        Unprocessable: it is not of that form.
    """
    ref = VersionRef.parse(label)
    if ref is None:
        raise Unprocessable(f"{label!r} is not a version like 'support@3'", param=param)
    return ref
