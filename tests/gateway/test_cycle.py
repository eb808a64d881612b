"""The client's side of one request, without a socket: what it does when a body does not come."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.api.cycle import Connection, HotCycle
from gateway.api.endpoints import ENDPOINTS
from gateway.errors import TurnoutError


class EarlyLoop:
    """A loop whose clock, as uvloop's may, reads a little less than what a timer was set to when it fires."""

    def __init__(self) -> None:
        self.timers: list[Any] = []

    def time(self) -> float:
        """The same, for ever: no timer is due by it."""
        return 1000.0

    def call_later(self, _delay_s: float, callback: Any) -> Any:
        """Keep the callback, for the test to call."""
        self.timers.append(callback)
        return SimpleNamespace(cancel=lambda: None)

    def call_at(self, _when: float, callback: Any) -> Any:
        """Keep the callback, for the test to call."""
        return self.call_later(0.0, callback)


@pytest.mark.parametrize("pieces", [[], [b'{"mod'], [b"{", b'"m'], None])
def test_a_body_that_stalls_ends_though_the_timer_is_early(pieces: list[bytes] | None) -> None:
    """When the timer fires the request ends with 408, whatever the clock says; a whole body is returned."""
    loop = EarlyLoop()
    connection = SimpleNamespace(loop=loop, tasks=set(), transport=SimpleNamespace(close=lambda: None))
    ends: list[object] = []

    async def serve(cycle: HotCycle) -> None:
        try:
            ends.append(await cycle.body(0.3))
        except TurnoutError as error:
            ends.append((error.status, error.code))

    cycle = HotCycle(
        cast("Connection", connection),
        ENDPOINTS[0],
        [],
        serve=serve,
        body_limit_bytes=100,
        keep_alive=True,
        http_1_0=False,
    )
    cycle.begin()
    for piece in pieces or []:
        cycle.take(piece)
        cycle.news()
    if pieces is None:
        cycle.take(b"{}")
        cycle.more_body = False
        cycle.news()
    for timer in loop.timers:
        timer()
    assert ends == [b"{}" if pieces is None else (408, "request_timeout")]
