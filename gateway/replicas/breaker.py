"""A circuit breaker: takes a replica out of service that fails, and lets one request at a time try it again.

It opens after `FAILURES_IN_A_ROW` failed requests, or at once when the engine's own health check fails. Once
the pause is over and the health check passes it is half open: one request tries. Its success closes it; its
failure opens it again for twice as long. Time is an argument: nothing here waits or asks.

A circuit that only broken connections have opened, while the health check passes, still makes a last resort:
the engine lives, and whoever has no other replica loses nothing by trying (docs/decisions/0015).
"""

from dataclasses import dataclass
from enum import IntEnum

FAILURES_IN_A_ROW = 5
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0


class Circuit(IntEnum):
    """The states, as `turnout_replica_circuit` exports them."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(slots=True)
class Breaker:
    """The state of one replica's circuit. Every method returns whether the circuit has changed.

    `last_resort`: nothing but connections has failed since the last success.
    """

    circuit: Circuit = Circuit.CLOSED
    failures: int = 0
    open_until: float = 0.0
    last_resort: bool = True
    _pause_s: float = FIRST_PAUSE_S

    def failed(self, now: float, *, connection: bool = False) -> bool:
        """Take note of a request that failed through the replica's fault, or its `connection`'s alone."""
        self.failures += 1
        self.last_resort = self.last_resort and connection
        tried = self.circuit is Circuit.HALF_OPEN
        return (tried or self.failures >= FAILURES_IN_A_ROW) and self._open(now)

    def sick(self, now: float) -> bool:
        """Take note of a health check that failed."""
        self.last_resort = False
        return self._open(now)

    def well(self, now: float) -> bool:
        """Take note of a health check that passed."""
        if self.circuit is not Circuit.OPEN or now < self.open_until:
            return False
        self.circuit = Circuit.HALF_OPEN
        return True

    def succeeded(self) -> bool:
        """Take note of a request that succeeded. While the circuit is open that proves nothing: it is old."""
        if self.circuit is Circuit.OPEN:
            return False
        changed = self.circuit is Circuit.HALF_OPEN
        self.circuit, self.failures, self._pause_s = Circuit.CLOSED, 0, FIRST_PAUSE_S
        self.last_resort = True
        return changed

    def _open(self, now: float) -> bool:
        if self.circuit is Circuit.OPEN:
            return False
        self.circuit = Circuit.OPEN
        self.open_until = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return True
