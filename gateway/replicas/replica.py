"""One engine as this worker sees it: where it is and how much of ours it runs."""

from dataclasses import dataclass

from gateway.upstream.origin import Origin


@dataclass(slots=True, eq=False)
class Replica:
    """`limit` is this worker's share of the engine's concurrency; `in_flight` is this worker's own count."""

    id: str
    origin: Origin
    limit: int
    in_flight: int = 0

    @property
    def free(self) -> bool:
        """Whether another request fits."""
        return self.in_flight < self.limit
