"""The process of the watch: round after round over the routes, until it is told to end.

Whatever fails in a look is that look's: it is said, counted, and tried again in the next round. Without a
store the watch waits for it. Everything is written in transactions, so the process may be ended at any point,
and a signal ends it at once.
"""

import logging
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.core.routes import Route
from gateway.store.control import ControlStore
from gateway.store.database import StoreUnavailable
from gateway.store.lease import LeaseLost
from monitoring.embed import EmbeddingUnavailable
from monitoring.watch.keeping import lease
from monitoring.watch.look import Look, Watcher
from monitoring.watch.reporter import Reporter

log = logging.getLogger(__name__)

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0

Sleep = Callable[[float], None]


class Stopped(BaseException):
    """The process was told to end."""


class NoSuchRoute(Exception):
    """A route that was asked for does not exist."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round over the routes found, and which looks could not be made, and why."""

    looks: list[Look] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"routes": [look.document() for look in self.looks], "failed": self.failed}


class Rounds:
    """Looks at routes one after the other: those of `names`, or all."""

    def __init__(
        self,
        control: ControlStore,
        watcher: Watcher,
        reporter: Reporter,
        *,
        names: Sequence[str],
        lease_s: float,
        holder: str | None = None,
    ) -> None:
        self._control = control
        self._watcher = watcher
        self._reporter = reporter
        self._names = tuple(dict.fromkeys(names))
        self._lease_s = lease_s
        self._holder = holder or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"

    def once(self, *, say: Callable[[Look], None] = lambda _: None) -> Round:
        """Look at each route once. `say` is told each look as soon as it is made.

        Raises:
            NoSuchRoute: one of the names is no route.
            StoreUnavailable: a store can't be reached.
        """
        found = Round()
        routes, every = self._routes()
        for route in routes:
            try:
                look = self._look(route, routes=every)
            except LeaseLost as error:
                log.info("%s", error)
                found.failed[route.name] = str(error)
            except EmbeddingUnavailable as error:
                log.error("no look at %s: %s", route.name, error)  # noqa: TRY400 - the message says it all
                found.failed[route.name] = str(error)
            except StoreUnavailable:
                raise
            except Exception as error:
                # The outermost handler of a look: one route's trouble must not end the watch of the others.
                log.exception("the look at %s failed", route.name)
                found.failed[route.name] = repr(error)
            else:
                found.looks.append(look)
                say(look)
        return found

    def _routes(self) -> tuple[list[Route], int]:
        """Return the routes to look at, and how many there are: all share the budget, watched here or not."""
        known = {route.name: route for route in self._control.routes.rows()}
        if unknown := sorted(set(self._names) - set(known)):
            raise NoSuchRoute(
                f"there is no route {', '.join(unknown)}; there are: {', '.join(known) or 'none'}"
            )
        if self._names:
            return [known[name] for name in self._names], len(known)
        for gone in {row.route for row in self._control.watches.stand()} - set(known):
            self._control.watches.forget(gone)  # nobody promises looks at it any more
        return list(known.values()), len(known)

    def _look(self, route: Route, *, routes: int) -> Look:
        """Look at a route under its lease, and write the reports that are due."""
        with lease(self._control.fleet, route.name, holder=self._holder, ttl_s=self._lease_s) as epoch:
            try:
                self._reporter.write_owed(route.name, epoch=epoch)  # of a process that ended before it could
                look = self._watcher.look(route, routes=routes, epoch=epoch)
                self._reporter.write_owed(route.name, epoch=epoch)
            except (StoreUnavailable, LeaseLost):
                raise
            except Exception as error:
                self._watcher.failed(route, error, epoch=epoch)
                raise
            return look


def forever(
    rounds: Callable[[], Round], *, every_s: float, done: Callable[[Round], None], sleep: Sleep = time.sleep
) -> None:
    """Make rounds, their beginnings `every_s` seconds apart, until a signal ends it.

    A store that does not answer is asked again after a second, two, four, up to a minute.

    Raises:
        NoSuchRoute: a route that was asked for is gone.
    """
    wait_s = _FIRST_WAIT_S
    while True:
        began = time.monotonic()
        try:
            found = rounds()
        except StoreUnavailable as error:
            log.warning("the store does not answer (%s); waiting %.0f s for it", error, wait_s)
            sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            continue
        wait_s = _FIRST_WAIT_S
        done(found)
        sleep(max(0.0, every_s - (time.monotonic() - began)))


@contextmanager
def ending_by_signal() -> Iterator[None]:
    """Raise `Stopped` in the block when SIGTERM or SIGINT comes, wherever it is."""

    def stop(_number: int, _frame: Any) -> None:
        for number in before:  # once: what cleans up is not to be cut short
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
