"""The headers of every answer, and the ids of requests."""

import os
import re
import time

from gateway.core.refs import NONE
from gateway.core.requests import Target

RawHeaders = list[tuple[bytes, bytes]]

_ID_BYTES = 12
_IDS_A_BLOCK = 64
_MAX_CLIENT_ID_CHARS = 128
_NOT_IN_AN_ID = re.compile(rb"[^A-Za-z0-9._:/+=@-]")
_UNRESOLVED: RawHeaders = [
    (b"x-turnout-route", NONE.encode()),
    (b"x-turnout-adapter", NONE.encode()),
    (b"x-turnout-arm", NONE.encode()),
]


class RequestIds:
    """Makes ids that nobody can guess: whoever knows one may give feedback on the answer.

    They begin with the time, as UUIDs of version 7 do (RFC 9562), so that new rows lie beside each other
    in the store; 96 random bits follow. Random bytes are taken from the system in blocks; a call for each id
    would give up the interpreter's lock each time.
    """

    def __init__(self) -> None:
        self._block = ""
        self._used = 0

    def __call__(self) -> str:
        """Return a new id."""
        begin = self._used
        end = self._used = begin + 2 * _ID_BYTES
        if end > len(self._block):
            self._block = os.urandom(_ID_BYTES * _IDS_A_BLOCK).hex()
            begin, end = 0, 2 * _ID_BYTES
            self._used = end
        return f"req-{int(time.time()):08x}{self._block[begin:end]}"


def clean_client_id(value: bytes | None) -> str | None:
    """Return a client's own request id as it may be stored and sent back; None when nothing is left of it."""
    if not value:
        return None
    return _NOT_IN_AN_ID.sub(b"", value)[:_MAX_CLIENT_ID_CHARS].decode() or None


def identity_lines(request_id: str, client_request_id: str | None, target: Target | None) -> bytes:
    """Return the header lines that say which request this is and who answers it."""
    theirs = "" if client_request_id is None else f"x-client-request-id: {client_request_id}\r\n"
    route = adapter = arm = NONE
    if target is not None:
        route, arm = target.route or NONE, target.arm or NONE
        adapter = target.label
    return (
        f"x-request-id: {request_id}\r\n{theirs}x-turnout-route: {route}\r\n"
        f"x-turnout-adapter: {adapter}\r\nx-turnout-arm: {arm}\r\n"
    ).encode()


def identity_headers(request_id: str, client_request_id: str | None) -> RawHeaders:
    """Return the headers of an answer beside the hot path: which request this is, and no adapter's."""
    headers = [(b"x-request-id", request_id.encode())]
    if client_request_id is not None:
        headers.append((b"x-client-request-id", client_request_id.encode()))
    return headers + _UNRESOLVED
