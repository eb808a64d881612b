"""Who may do what under `/admin`, and what becomes of those who may not: counted, and told in the log."""

import logging
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from fastapi import Request
from prometheus_client import Counter

from gateway.api.addresses import Addresses
from gateway.auth import ANYBODY, require
from gateway.core.requests import Principal, Role
from gateway.errors import NotAuthenticated, NotPermitted, TurnoutError

TOLD_EVERY_S = 10.0
_TRAINERS = frozenset(
    {
        ("GET", "/admin/adapters"),
        ("POST", "/admin/adapters"),
        ("GET", "/admin/adapters/{name}/{version}"),
    }
)
"""What the role trainer may do: add adapters, and see what became of them."""

_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
_log = logging.getLogger("turnout.admin")


class Refusals:
    """Counts refused attempts, and tells of them in the log: the first at once, then now and then."""

    def __init__(self, counter: Counter, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._counter = counter
        self._clock = clock
        self._lock = threading.Lock()
        self._untold = 0
        self._told_at: float | None = None

    def add(self, reason: str, address: str | None) -> None:
        """Note one. Neither the key nor anything else that the client sent is told."""
        self._counter.labels(reason).inc()
        with self._lock:
            self._untold += 1
            now = self._clock()
            if self._told_at is not None and now - self._told_at < TOLD_EVERY_S:
                return
            count, self._untold, self._told_at = self._untold, 0, now
        _log.warning("/admin: %d attempts refused, the last (%s) from %s", count, reason, address or "here")


class AdminAccess:
    """Lets in keys with the role admin, and trainers where they have to do with it."""

    def __init__(
        self,
        authenticate: Callable[[Request], Principal],
        *,
        addresses: Addresses,
        refusals: Refusals | None = None,
    ) -> None:
        self._authenticate = authenticate
        self._addresses = addresses
        self._refusals = refusals

    def check(self, request: Request) -> None:
        """Put who calls, and from where, into the request's state.

        Raises:
            NotAuthenticated: nobody that is known.
            NotPermitted: somebody who may not do this.
            Unavailable: the store, which would know, has not answered for a while.
        """
        address = self._addresses.of(request)
        try:
            principal = self._authenticate(request)
            _require_role(request, principal)
            if principal.key_id == ANYBODY:
                _require_here(request)
        except TurnoutError as error:
            if self._refusals is not None:
                self._refusals.add(_reason(error), address)
            raise
        request.state.principal = principal
        request.state.address = address


def _require_role(request: Request, principal: Principal) -> None:
    if Role.TRAINER in principal.roles and Role.ADMIN not in principal.roles:
        route = request.scope.get("route")
        if (request.method, getattr(route, "path", None)) in _TRAINERS:
            return
    require(principal, Role.ADMIN)


def _require_here(request: Request) -> None:
    """Refuse a page of another site, while no key is asked for: a browser would send its requests here.

    Raises:
        NotPermitted: the address that was asked for, or the page that asks, is not this machine's own.
    """
    origin = request.headers.get("origin")
    if _host(request.url) not in _HERE or (origin is not None and _host(origin) not in _HERE):
        raise NotPermitted(
            "without API keys /admin is for this machine alone; make a key with `turnout keys create`",
            code="not_local",
        )


def _host(url: object) -> str | None:
    try:
        return urlsplit(str(url)).hostname
    except ValueError:
        return None


def _reason(error: TurnoutError) -> str:
    if isinstance(error, NotAuthenticated):
        return "key"
    return "role" if isinstance(error, NotPermitted) else "store"
