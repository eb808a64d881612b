"""Who is forgotten: keyed hashes of subjects, and of the pseudonyms under which routes recorded them.

A pseudonym follows from the route and the subject without a secret, so whoever guesses a subject could find
it in a copy of the store. The tombstones are hashed with the server's pepper: they tell nobody anything.
"""

import hmac
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Protocol

from sqlalchemy import Connection, delete, func, insert, select, update

from gateway.peppers import Peppers, id_of
from gateway.store.database import Database, retried
from gateway.store.schema import epochs, forgotten, forgotten_units, routes

AT_ONCE = 500
_UNIT_BYTES = 16
_ROUTE_KEY_BYTES = 64


@dataclass(frozen=True, slots=True)
class Tombstone:
    """One forgotten subject. `id` is its keyed hash; `until` up to which time of a request it holds.

    `counts` are rows removed by what they were; `runs` the loop's runs that had used some, `routes` where
    requests were, each with the time of the first, `versions` what was trained on them. `cursor` says how far
    the removal is, while `state` is `running`.
    """

    id: str
    pepper: str
    until: float
    state: str = "running"
    counts: Mapping[str, int] = field(default_factory=dict)
    runs: Sequence[str] = ()
    routes: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    cursor: Mapping[str, str] = field(default_factory=dict)
    finished_at: float | None = None

    @property
    def name(self) -> str:
        """What it is called where people read of it."""
        return f"subject-{self.id[:16]}"


class Recorded(Protocol):
    """As much of a row as says whom it is about, and when the request was."""

    @property
    def unit(self) -> str | None:
        """The subject's pseudonym."""

    @property
    def at(self) -> float:
        """Seconds since the epoch."""


def unit_of(route: str, subject: str) -> str:
    """Return the pseudonym of a subject on a route (as `gateway.routing.experiments.Lottery.unit`)."""
    key = route.encode()[:_ROUTE_KEY_BYTES]
    hashing = blake2b(digest_size=_UNIT_BYTES, key=key, person=b"turnout-unit")
    hashing.update(subject.encode("utf-8", "surrogatepass"))
    return hashing.hexdigest()


def subject_hash(pepper: bytes, subject: str) -> str:
    """Return the keyed hash that stands for a subject."""
    return hmac.digest(pepper, b"forget-subject\0" + subject.encode("utf-8", "surrogatepass"), "sha256").hex()


def unit_hash(pepper: bytes, unit: str) -> str:
    """Return the keyed hash that stands for a pseudonym."""
    return hmac.digest(pepper, b"forget-unit\0" + unit.encode(), "sha256").hex()


class Tombstones:
    """The tables of who is forgotten."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def routes(self) -> list[str]:
        """Return the name of every route that is there, or was."""
        with self._database.read() as connection:
            found = set(connection.execute(select(routes.c.name)).scalars())
            found.update(connection.execute(select(epochs.c.route).distinct()).scalars())
        return sorted(found)

    def begin(self, tombstone: Tombstone, hashes: Iterable[str]) -> Tombstone:
        """Store a tombstone with the hashes of its pseudonyms (`unit_hash`) before anything is removed.

        One that is being worked on is gone on with: what it has found so far stays, and a later `until` makes
        the removal begin anew. So does one that was finished, whose findings stay too.
        """
        return retried(lambda: self._begin(tombstone, tuple(hashes)))

    def _begin(self, tombstone: Tombstone, hashes: Sequence[str]) -> Tombstone:
        with self._database.write() as connection:
            known = _get(connection, tombstone.id, to_write=True)
            if known is not None and known.state == "running":
                return known
            for at in range(0, len(hashes), AT_ONCE):
                _bury(connection, hashes[at : at + AT_ONCE], tombstone)
            if known is None:
                connection.execute(insert(forgotten).values(**_values(tombstone)))
                return tombstone
            again = replace(known, until=tombstone.until, state="running", cursor={}, finished_at=None)
            store(connection, again)
            return again

    def get(self, tombstone_id: str) -> Tombstone | None:
        """Return one tombstone."""
        with self._database.read() as connection:
            return _get(connection, tombstone_id)

    def store(self, tombstone: Tombstone) -> None:
        """Store how far a removal is."""
        with self._database.write() as connection:
            store(connection, tombstone)

    def page(self, *, after: str = "", limit: int = 100) -> list[Tombstone]:
        """Return tombstones by id, from behind `after` on."""
        query = select(forgotten).where(forgotten.c.id > after).order_by(forgotten.c.id).limit(limit)
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(query)]

    def units(self, *, since: float) -> dict[str, dict[str, float]]:
        """Return by pepper the hashes of pseudonyms that are forgotten at a time or later, and until when."""
        query = select(forgotten_units).where(forgotten_units.c.until >= since)
        found: dict[str, dict[str, float]] = {}
        with self._database.read() as connection:
            for row in connection.execute(query):
                found.setdefault(row.pepper, {})[row.hash] = row.until
        return found

    def count(self) -> int:
        """Return how many subjects are forgotten."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(forgotten)).scalar_one())


class Buried:
    """Says of recorded rows whether they are about somebody who is forgotten, as the tombstones were read."""

    def __init__(self, peppers: Peppers, units: Mapping[str, Mapping[str, float]]) -> None:
        known = {pepper: hashes for pepper, hashes in units.items() if peppers.knows(pepper)}
        self._by_pepper = [(peppers.of(pepper), hashes) for pepper, hashes in known.items()]

    def __bool__(self) -> bool:
        return bool(self._by_pepper)

    def holds(self, unit: str | None, at: float) -> bool:
        """Whether a request of that time by that pseudonym is to be forgotten."""
        if unit is None:
            return False
        return any(
            at <= hashes.get(unit_hash(pepper, unit), float("-inf")) for pepper, hashes in self._by_pepper
        )


class Guard:
    """Keeps what is written late from bringing somebody back. What it remembers belongs to one thread.

    `refused` is asked before rows are written and `seen` after: who was forgotten in between is in the second
    answer. Where the control store does not answer, rows are remembered, up to a bound, until it does.
    """

    def __init__(self, tombstones: Tombstones, peppers: Peppers, *, remembered: int = 20_000) -> None:
        self._tombstones = tombstones
        self._peppers = peppers
        self._bound = remembered
        self._unsure: list[tuple[str, str | None, float]] = []

    def refused(self, rows: Collection[Recorded]) -> Callable[[Recorded], bool]:
        """Return what says of each of these rows whether it must not be written.

        Raises:
            StoreUnavailable: the tombstones can't be read.
        """
        times = [row.at for row in rows if row.unit is not None]
        if not times:
            return lambda _: False
        buried = self._read(min(times))
        return lambda row: buried.holds(row.unit, row.at)

    def remember(self, rows: Iterable[tuple[str, str | None, float]]) -> None:
        """Remember rows (id, pseudonym, time) that were written: `gone` will look at them once more."""
        self._unsure += [row for row in rows if row[1] is not None]
        del self._unsure[: -self._bound]

    def gone(self) -> list[str]:
        """Return the ids of remembered rows that are to be forgotten.

        Raises:
            StoreUnavailable: the tombstones can't be read.
        """
        if not self._unsure:
            return []
        buried = self._read(min(at for _, _, at in self._unsure))
        return [row_id for row_id, unit, at in self._unsure if buried.holds(unit, at)]

    def settled(self) -> None:
        """Remember none any more: those that `gone` named are removed."""
        self._unsure.clear()

    def holds(self, row: Recorded) -> bool:
        """Whether a row is about somebody who is forgotten. Any thread may ask.

        Raises:
            StoreUnavailable: the tombstones can't be read.
        """
        return row.unit is not None and self.refused([row])(row)

    def _read(self, since: float) -> Buried:
        return Buried(self._peppers, self._tombstones.units(since=since))


def made(pepper: bytes, subject: str, *, until: float) -> Tombstone:
    """Return the tombstone of a subject."""
    return Tombstone(subject_hash(pepper, subject), id_of(pepper), until)


def _bury(connection: Connection, hashes: Sequence[str], tombstone: Tombstone) -> None:
    connection.execute(delete(forgotten_units).where(forgotten_units.c.hash.in_(hashes)))
    connection.execute(
        insert(forgotten_units),
        [{"hash": each, "pepper": tombstone.pepper, "until": tombstone.until} for each in hashes],
    )


def _get(connection: Connection, tombstone_id: str, *, to_write: bool = False) -> Tombstone | None:
    query = select(forgotten).where(forgotten.c.id == tombstone_id)
    row = connection.execute(query.with_for_update() if to_write else query).one_or_none()
    return None if row is None else _row(row)


def store(connection: Connection, tombstone: Tombstone) -> None:
    """Store how far a removal is, inside the caller's transaction."""
    values = _values(tombstone)
    connection.execute(update(forgotten).where(forgotten.c.id == values.pop("id")).values(**values))


def _values(tombstone: Tombstone) -> dict[str, Any]:
    return {
        "id": tombstone.id,
        "pepper": tombstone.pepper,
        "until": tombstone.until,
        "state": tombstone.state,
        "counts": dict(tombstone.counts),
        "runs": list(tombstone.runs),
        "routes": dict(tombstone.routes),
        "versions": {name: list(labels) for name, labels in tombstone.versions.items()},
        "cursor": dict(tombstone.cursor),
        "finished_at": tombstone.finished_at,
    }


def _row(row: Any) -> Tombstone:
    return Tombstone(**row._asdict())
