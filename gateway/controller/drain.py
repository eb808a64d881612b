"""When a version may leave an engine: what the workers have acknowledged, and how long they are waited for.

A version goes in two steps. First its row goes from the store, once every live worker has applied the
table in which nothing wants it and has none of it in flight: a request that waits for a place is not turned
away. Then its name is unloaded, once every live worker has applied the table without the row and has none in
flight. Each step ends at the deadline, whatever the workers say.

An engine that has restarted gets its adapters back only when no live worker has a table from before: such a
table would send requests to a version that is registered there and not proved yet.

A worker lives for as long as its row changes at least once within the deadline, on this process's own clock:
clocks of other machines, and jumps of this one, decide nothing. A row that is gone is a worker that signed
off, after its last request.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from gateway.store.control import ControlStore
from gateway.store.fleet import WorkerRow

DEADLINE_S = 60.0
QUIET_S = 5.0
"""A restarted engine does not wait for a worker that has been silent for so long. It has ended, or stands
still and reads the table again before it goes on, or can't reach the store: that one may meet what is not
proved."""

SILENT_S = 3600.0
"""A worker that says nothing for so long has ended without signing off; its row is removed."""

KeyT = TypeVar("KeyT")


@dataclass(frozen=True, slots=True)
class Since:
    """Since when something is not wanted: the generation at which that was seen, and the monotonic time."""

    generation: int
    at: float


class RollCall:
    """The workers' latest words, and when each was last heard to say something new."""

    def __init__(
        self, *, deadline_s: float = DEADLINE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._deadline_s = deadline_s
        self._clock = clock
        self._heard: dict[str, tuple[WorkerRow, float]] = {}

    def hear(self, rows: Iterable[WorkerRow]) -> None:
        """Take what the store says now, all of it."""
        now = self._clock()
        heard = {}
        for row in rows:
            before = self._heard.get(row.id)
            heard[row.id] = before if before is not None and before[0] == row else (row, now)
        self._heard = heard

    def silent(self) -> list[str]:
        """Return the workers that have said nothing new for `SILENT_S`."""
        now = self._clock()
        return [worker for worker, (_, at) in self._heard.items() if now - at >= SILENT_S]

    def released(self, name: str, since: Since) -> bool:
        """Whether every live worker has applied that generation with no `name` in flight, or it is late."""
        now = self._clock()
        if now - since.at >= self._deadline_s:
            return True
        return all(
            row.applied_generation >= since.generation and not row.in_flight.get(name)
            for row, at in self._heard.values()
            if now - at < self._deadline_s
        )

    def followed(self, since: Since) -> bool:
        """Whether every worker that was heard of just now has applied that generation, or it is late."""
        now = self._clock()
        return now - since.at >= self._deadline_s or all(
            row.applied_generation >= since.generation
            for row, at in self._heard.values()
            if now - at < QUIET_S
        )


class OldTables:
    """Whether tables are in use that place versions on what an engine was before it restarted.

    `before` is the incarnation that the store knows, None where it has known none. Its proofs were forgotten
    when another one was seen, perhaps by an earlier controller and just now.
    """

    def __init__(
        self, roll: RollCall, store: ControlStore, *, before: str | None, clock: Callable[[], float]
    ) -> None:
        self._roll = roll
        self._store = store
        self._clock = clock
        self._first = before is None
        self._incarnation: str | None = None
        self._since: Since | None = None

    def gone(self, incarnation: str) -> bool:
        """Return whether the workers have dropped them. `incarnation` stands in the store.

        Raises:
            StoreUnavailable: the store can't be read.
        """
        if incarnation != self._incarnation:
            self._since = None if self._first else Since(self._store.generation(), self._clock())
            self._incarnation, self._first = incarnation, False
        if self._since is not None:
            self._roll.hear(self._store.fleet.workers())
            if self._roll.followed(self._since):
                self._since = None
        return self._since is None


def still(
    known: dict[KeyT, Since], going: Iterable[KeyT], *, generation: int, now: float
) -> dict[KeyT, Since]:
    """Return since when each of `going` goes: what was known of it, or now. What came back is forgotten."""
    return {key: known.get(key) or Since(generation, now) for key in going}
