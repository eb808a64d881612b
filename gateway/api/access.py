"""Who calls: the keys of the table in use, asked by every endpoint alike."""

import math
import time
from collections.abc import Callable, Mapping

from fastapi import Request

from gateway.auth import Authenticator
from gateway.core.requests import Principal
from gateway.routing.table import RoutingTable

MAX_REMEMBERED = 1024


class Access:
    """Authenticates requests against the table's keys, so that a revoked key ends with the next table.

    What a header turned out to be is remembered for as long as the table is in use and the key is valid: to
    hash it each time costs more than to route the request.
    """

    def __init__(self, authenticator: Authenticator, table: Callable[[], RoutingTable]) -> None:
        self._authenticator = authenticator
        self._table = table
        self._known: dict[str, tuple[Principal, float]] = {}
        self._keys: Mapping[str, object] | None = None

    def by_header(self, authorization: str | None) -> Principal:
        """Return who sends this Authorization header.

        Raises:
            NotAuthenticated: nobody that is known.
        """
        keys = self._table().keys
        if keys is not self._keys:
            self._keys = keys
            self._known.clear()
        if authorization is None:
            return self._authenticator.authenticate(None, keys)
        known = self._known.get(authorization)
        if known is not None and time.time() < known[1]:
            return known[0]
        principal = self._authenticator.authenticate(authorization, keys)
        row = keys.get(principal.key_id)
        expires_at = math.inf if row is None or row.expires_at is None else row.expires_at
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[authorization] = (principal, expires_at)
        return principal

    def by_request(self, request: Request) -> Principal:
        """Return who sends this request.

        Raises:
            NotAuthenticated: nobody that is known.
        """
        return self.by_header(request.headers.get("authorization"))
