"""Epochs: from which generation on a route's traffic met which arms with which shares.

Each is written in the transaction that makes it so. A recorded request belongs to the last epoch of its route
whose `from_generation` is not above the generation of the table that it was resolved by.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from gateway.core.documents import Arm
from gateway.store.database import Database
from gateway.store.schema import epochs


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch. `arms` maps labels to shares above 0; it is empty when nothing was served.

    `salt` is what subjects were drawn by, besides the route's name.
    """

    route: str
    from_generation: int
    at: float
    arms: Mapping[str, float]
    salt: str = ""


class Epochs:
    """The epochs table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rows(self, route: str, *, after: int = 0) -> list[EpochRow]:
        """Return a route's epochs that began after generation `after`, oldest first."""
        query = select(epochs).where(epochs.c.route == route, epochs.c.from_generation > after)
        with self._database.read() as connection:
            found = connection.execute(query.order_by(epochs.c.from_generation))
            return [EpochRow(**row._asdict()) for row in found]


def begin(
    connection: Connection, route: str, arms: Mapping[str, float], *, generation: int, salt: str = ""
) -> None:
    """Begin an epoch inside the caller's transaction, unless the last one has the same shares and salt."""
    newest = select(epochs).where(epochs.c.route == route).order_by(epochs.c.from_generation.desc())
    last = connection.execute(newest.limit(1)).one_or_none()
    before = ({}, salt) if last is None else (last.arms, last.salt)
    if before != (dict(arms), salt):
        connection.execute(
            insert(epochs).values(
                route=route, from_generation=generation, at=time.time(), arms=dict(arms), salt=salt
            )
        )


def champion(arms: Sequence[Arm] | Mapping[str, float]) -> str | None:
    """Return the version with most of the traffic, the first by name of equals; None when there is none."""
    shares = arms if isinstance(arms, Mapping) else {arm.adapter: arm.share for arm in arms}
    served = {label: share for label, share in shares.items() if share > 0}
    return min(served, key=lambda label: (-served[label], label)) if served else None


def champion_since(epochs: Sequence[EpochRow], adapter: str) -> float | None:
    """Return since when a version has most of a route's traffic, by its epochs, oldest first.

    Steps of a canary beside it change nothing. None when no epoch tells.
    """
    since = None
    for epoch in reversed(epochs):
        if champion(epoch.arms) != adapter:
            break
        since = epoch.at
    return since
