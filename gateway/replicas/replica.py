"""One engine as this worker sees it: where it is, how much of ours it runs, and whether it works."""

from dataclasses import dataclass, field

from gateway.replicas.breaker import Breaker, Circuit
from gateway.upstream.origin import Origin

_CLOSED = Circuit.CLOSED  # to look a member up in its class takes longer than all else that is done here


@dataclass(slots=True, eq=False)
class Replica:
    """`limit` is this worker's share of the engine's concurrency; `in_flight` is this worker's own count.

    `ceiling` is how many requests it may have now: `limit`, or one more than it has while its circuit is half
    open. `silent` counts health checks in a row that were not answered in time.
    """

    id: str
    origin: Origin
    limit: int
    in_flight: int = 0
    breaker: Breaker = field(default_factory=Breaker)
    ceiling: int = field(init=False)
    silent: int = 0

    def __post_init__(self) -> None:
        self.ceiling = self.limit

    @property
    def free(self) -> bool:
        """Whether another request fits."""
        return self.in_flight < self.ceiling

    @property
    def open(self) -> bool:
        """Whether its circuit is open: no request goes there."""
        return self.breaker.circuit is Circuit.OPEN

    @property
    def troubled(self) -> bool:
        """Whether a success would be news."""
        return self.breaker.failures > 0 or self.breaker.circuit is not _CLOSED

    def set_limit(self, limit: int) -> None:
        """Take a new share of the engine's concurrency."""
        self.limit = limit
        if self.breaker.circuit is Circuit.CLOSED:
            self.ceiling = limit

    def follow_circuit(self) -> None:
        """Make the ceiling fit the circuit after a change of its state."""
        half_open = self.breaker.circuit is Circuit.HALF_OPEN
        self.ceiling = self.in_flight + 1 if half_open else self.limit
