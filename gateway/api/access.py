"""Who calls: the keys of the table in use, asked by every endpoint alike."""

import time
from collections.abc import Callable, Mapping

from fastapi import Request

from gateway.api.dialects import ANTHROPIC_VERSION
from gateway.auth import Authenticator, UnknownKey
from gateway.core.requests import Principal
from gateway.errors import InvalidRequest, Unavailable
from gateway.routing.table import RoutingTable

MAX_REMEMBERED = 1024
RETRY_AFTER_S = 5.0


class _Memory:
    """What was recognised with the keys of one table. A thread with an older table fills another one."""

    __slots__ = ("keys", "known", "table")

    def __init__(self, table: RoutingTable | None, known: dict[str, tuple[Principal, float]]) -> None:
        self.table = table
        self.keys: Mapping[str, object] | None = None if table is None else table.keys
        self.known = known


class Access:
    """Authenticates requests against the table's keys, so that a revoked key ends with the next table.

    What a header turned out to be is remembered for as long as the table is in use and the key is valid: to
    hash it each time costs more than to route the request. While the store is away (`store_ok`), a key that
    the table does not know may have been made meanwhile: it gets a 503 and not a 401. When it has been away
    for too long, the table says so, and no key counts any more.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        table: Callable[[], RoutingTable],
        *,
        store_ok: Callable[[], bool],
    ) -> None:
        self._authenticator = authenticator
        self._table = table
        self._store_ok = store_ok
        self._memory = _Memory(None, {})

    def by_header(self, authorization: str | None) -> Principal:
        """Return who sends this Authorization header.

        Raises:
            NotAuthenticated: nobody that is known.
            Unavailable: the store, which would know, has not answered for a while.
        """
        table, memory = self._table(), self._memory
        if memory.table is not table:
            memory = self._memory = _renewed(memory, table)
        if authorization is not None:
            known = memory.known.get(authorization)
            if known is not None and time.time() < known[1]:
                return known[0]
        return self._recognise(authorization, table, memory.known)

    def by_request(self, request: Request) -> Principal:
        """Return who sends this request.

        Raises:
            NotAuthenticated: nobody that is known.
            Unavailable: the store, which would know, has not answered for a while.
            InvalidRequest: it carries several keys.
        """
        given = request.headers.getlist("authorization")
        if len(given) > 1:
            raise InvalidRequest("send one Authorization header", param="authorization")
        return self.by_header(given[0] if given else None)

    def by_any_key(self, request: Request) -> Principal:
        """Return who sends this request; from Anthropic's clients `x-api-key` counts.

        Raises:
            NotAuthenticated, Unavailable, InvalidRequest: as `by_request`.
        """
        key = request.headers.get("x-api-key")
        if key is None or ANTHROPIC_VERSION not in request.headers:
            return self.by_request(request)
        return self.by_header(f"Bearer {key}")

    def _recognise(
        self, authorization: str | None, table: RoutingTable, known: dict[str, tuple[Principal, float]]
    ) -> Principal:
        try:
            found = self._authenticator.recognise(authorization, table.keys, now=time.time())
        except UnknownKey:
            if self._store_ok():
                raise
            raise Unavailable(
                "the store does not answer, and this key is not known here; try again in a moment",
                code="key_not_known_yet",
                retry_after_s=RETRY_AFTER_S,
            ) from None
        if table.keys_lapsed and found.stored:
            raise Unavailable(
                "the store has not answered for so long that keys are not taken on trust any more",
                code="keys_lapsed",
                retry_after_s=RETRY_AFTER_S,
            )
        if authorization is not None:
            if len(known) >= MAX_REMEMBERED:
                known.clear()
            known[authorization] = (found.principal, found.until)
        return found.principal


def _renewed(memory: _Memory, table: RoutingTable) -> _Memory:
    """Return the memory for a table: what is known goes on only if the very same keys do."""
    same = table.keys is memory.keys and not table.keys_lapsed
    return _Memory(table, memory.known if same else {})
