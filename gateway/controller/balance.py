"""The board on which placement moves: homes and standbys by replica, their loads and counts. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from gateway.core.refs import VersionRef

LEAST_GAIN = 0.05
"""A move must lower the highest load by this share of the mean; anything less is not worth the prefixes."""


class Room(Protocol):
    """A replica's room."""

    @property
    def max_loras(self) -> int:
        """Distinct adapters in one batch."""

    @property
    def max_cpu_loras(self) -> int:
        """Distinct adapters in memory."""


class Board:
    """Mutable while one decision is made, and dropped after it.

    `homes` is version → replicas that get its traffic; `on` is replica → everything that stands there.
    """

    def __init__(
        self,
        replicas: Mapping[str, Room],
        load: Mapping[VersionRef, float],
        failed: frozenset[tuple[str, VersionRef]],
        tie: Callable[[VersionRef, str], int],
    ) -> None:
        self.replicas = replicas
        self.homes: dict[VersionRef, tuple[str, ...]] = {}
        self.on: dict[str, set[VersionRef]] = {replica: set() for replica in replicas}
        self._load = load
        self._failed = failed
        self._tie = tie
        self._homes_wanted: dict[VersionRef, int] = {}
        self._homes_on: dict[str, set[VersionRef]] = {replica: set() for replica in replicas}
        self._load_on: dict[str, float] = dict.fromkeys(replicas, 0.0)

    # --- homes --------------------------------------------------------------------------------------------

    def enter(self, ref: VersionRef, homes: int) -> None:
        """Let a version in that shall have so many homes."""
        self._homes_wanted[ref] = homes
        self.homes[ref] = ()

    def add(self, ref: VersionRef, replica: str) -> None:
        """Make `replica` a home of `ref`."""
        self.homes[ref] = (*self.homes[ref], replica)
        self.on[replica].add(ref)
        self._homes_on[replica].add(ref)
        self._load_on[replica] += self._share(ref)

    def may_take(self, ref: VersionRef, replica: str) -> bool:
        """Whether `replica` is there, is no home of `ref` yet and has a slot."""
        return (
            replica in self.replicas
            and ref not in self._homes_on[replica]
            and len(self.on[replica]) < self.replicas[replica].max_cpu_loras
        )

    def open_to(self, ref: VersionRef) -> list[str]:
        """Return where `ref` may get a home: not where it failed, and below `max_loras` while one is."""
        free = [replica for replica in self.replicas if self.may_take(ref, replica)]
        sound = [replica for replica in free if (replica, ref) not in self._failed] or free
        return [replica for replica in sound if self._spare(replica) > 0] or sound

    def least_loaded(self, ref: VersionRef, places: Iterable[str]) -> str:
        """Return the place with the least load, then the fewest homes, then by hash."""
        return min(
            places,
            key=lambda replica: (
                round(self._load_on[replica], 9),
                len(self._homes_on[replica]),
                self._tie(ref, replica),
            ),
        )

    def even_out_counts(self) -> None:
        """Let no replica have more homes than `max_loras` while another has fewer."""
        while True:
            over = [r for r in self.replicas if self._spare(r) < 0]
            under = [r for r in self.replicas if self._spare(r) > 0]
            move = self._lightest_move(over, under)
            if move is None:
                return
            self._move(*move)

    def spread_idle(self, attested: Mapping[str, frozenset[VersionRef]]) -> None:
        """Even out homes that nobody asks for, where a move costs nothing: to where they are attested."""
        while True:
            moves = [
                (self._spare(target), target, ref, source)
                for target in self.replicas
                for ref in attested.get(target, frozenset())
                if ref in self.homes and self.homes[ref] and self._load.get(ref, 0.0) <= 0
                for source in self.homes[ref][:1]
                if len(self._homes_on[source]) - len(self._homes_on[target]) >= 2
                and self._spare(target) > 0
                and self.may_take(ref, target)
            ]
            if not moves:
                return
            _, target, ref, source = max(moves)
            self._move(ref, source, target)

    def balance(self, *, act_above: float, settle_below: float, max_moves: int) -> None:
        """Move homes away from the most loaded replica while it is too far above the mean."""
        mean = sum(self._load_on.values()) / len(self.replicas)
        allowed = (1 + act_above) * mean
        moves = 0
        while moves < max_moves and mean > 0:
            highest = max(sorted(self.replicas), key=lambda replica: self._load_on[replica])
            if self._load_on[highest] <= allowed:
                return
            best = self._best_move(highest, least_gain=LEAST_GAIN * mean)
            if best is None:
                return
            for ref, source, target in best:
                self._move(ref, source, target)
            moves += len(best)
            allowed = (1 + settle_below) * mean

    def _best_move(self, source: str, *, least_gain: float) -> Sequence[tuple[VersionRef, str, str]] | None:
        """Return the move, or else the exchange, after which the fuller of the two replicas has least."""
        best: tuple[float, Sequence[tuple[VersionRef, str, str]]] | None = None
        for exchange in (False, True):
            for ref in sorted(self._homes_on[source]):
                for target in sorted(self.replicas):
                    for moved, peak in self._tries(ref, source, target, exchange=exchange):
                        if peak < self._load_on[source] - least_gain and (best is None or peak < best[0]):
                            best = (peak, moved)
            if best is not None:
                return best[1]
        return None

    def _tries(
        self, ref: VersionRef, source: str, target: str, *, exchange: bool
    ) -> Iterable[tuple[Sequence[tuple[VersionRef, str, str]], float]]:
        if target == source or ref in self._homes_on[target] or (target, ref) in self._failed:
            return
        out, into = self._load_on[source] - self._share(ref), self._load_on[target] + self._share(ref)
        if not exchange:
            crowded = self._spare(target) <= 0 and self._spare(target) <= self._spare(source)
            if self.may_take(ref, target) and not crowded:
                yield ((ref, source, target),), max(out, into)
            return
        for other in sorted(self._homes_on[target]):
            if other in self._homes_on[source] or (source, other) in self._failed:
                continue
            share = self._share(other)
            yield ((ref, source, target), (other, target, source)), max(out + share, into - share)

    def _lightest_move(
        self, sources: Sequence[str], targets: Sequence[str]
    ) -> tuple[VersionRef, str, str] | None:
        moves = [
            (self._share(ref), self._load_on[target], ref, source, target)
            for source in sources
            for ref in self._homes_on[source]
            for target in targets
            if self.may_take(ref, target) and (target, ref) not in self._failed
        ]
        return min(moves)[2:] if moves else None

    def _move(self, ref: VersionRef, source: str, target: str) -> None:
        self.homes[ref] = tuple(replica for replica in self.homes[ref] if replica != source)
        self.on[source].discard(ref)
        self._homes_on[source].discard(ref)
        self._load_on[source] -= self._share(ref)
        self.add(ref, target)

    def _share(self, ref: VersionRef) -> float:
        return self._load.get(ref, 0.0) / self._homes_wanted[ref]

    def _spare(self, replica: str) -> int:
        return self.replicas[replica].max_loras - len(self._homes_on[replica])

    # --- standbys -----------------------------------------------------------------------------------------

    def bridge(self, ref: VersionRef, places: Sequence[str]) -> None:
        """Keep a version that moves in its old place as well, with or without a slot."""
        here = [replica for replica in places if replica in self.replicas]
        if here:
            self.on[min(here)].add(ref)

    def stand_by(self, ref: VersionRef, copies: int) -> None:
        """Let `ref` stand on `copies` replicas in all, as far as slots are left."""
        while sum(ref in refs for refs in self.on.values()) < copies:
            free = [r for r in self.replicas if self._has_slot(r) and ref not in self.on[r]]
            if not free:
                return
            room = {r: self.replicas[r].max_cpu_loras - len(self.on[r]) for r in free}
            self.on[min(free, key=lambda r: (-room[r], self._tie(ref, r)))].add(ref)

    def stand_by_on(self, ref: VersionRef, replica: str) -> None:
        """Let `ref` stand on `replica` if a slot is left."""
        if replica in self.replicas and self._has_slot(replica):
            self.on[replica].add(ref)

    def room_left(self) -> bool:
        """Whether any slot is left."""
        return any(self._has_slot(replica) for replica in self.replicas)

    def _has_slot(self, replica: str) -> bool:
        return len(self.on[replica]) < self.replicas[replica].max_cpu_loras
