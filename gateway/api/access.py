"""Who calls: the keys of the table in use, asked by every endpoint alike."""

from collections.abc import Callable

from fastapi import Request

from gateway.auth import Authenticator
from gateway.core.requests import Principal
from gateway.routing.table import RoutingTable


class Access:
    """Authenticates requests against the table's keys, so that a revoked key ends with the next table."""

    def __init__(self, authenticator: Authenticator, table: Callable[[], RoutingTable]) -> None:
        self._authenticator = authenticator
        self._table = table

    def by_header(self, authorization: str | None) -> Principal:
        """Return who sends this Authorization header.

        Raises:
            NotAuthenticated: nobody that is known.
        """
        return self._authenticator.authenticate(authorization, self._table().keys)

    def by_request(self, request: Request) -> Principal:
        """Return who sends this request.

        Raises:
            NotAuthenticated: nobody that is known.
        """
        return self.by_header(request.headers.get("authorization"))
