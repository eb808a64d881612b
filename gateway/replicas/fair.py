"""Whose turn it is among those who wait: start-time fair queueing between tenants, by weight.

Each who waits gets a tag: the time, in turns, at which it would be served if every tenant with somebody
waiting got its share at once. The smallest tag goes first. So a tenant that comes while another one has a
hundred waiting goes before all but those whose turn it was; shares follow the weights as long as there is a
choice; nobody starves, since each tag is passed by only so many; and no place stays empty for anybody's sake.
(P. Goyal, H. Vin, H. Cheng: Start-time Fair Queuing, SIGCOMM 1996. Every request costs the same here: how
long an answer will be is not known before.)
"""

from bisect import insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, TypeVar

Item = TypeVar("Item")

NO_WEIGHTS: Mapping[str, float] = MappingProxyType({})


@dataclass(slots=True, order=True)
class Place(Generic[Item]):
    """Somebody's place in the queue."""

    tag: float
    number: int
    item: Item = field(compare=False)
    tenant: str = field(compare=False)
    queued: bool = field(default=True, compare=False)


class FairQueue(Generic[Item]):
    """Who waits. `weights` are the tenants' shares as far as they are not 1."""

    def __init__(self) -> None:
        self.weights: Mapping[str, float] = NO_WEIGHTS
        self._places: list[Place[Item]] = []
        self._waiting: dict[str, int] = {}
        self._next: dict[str, float] = {}
        self._turn = 0.0
        self._number = 0

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Place[Item]]:
        """Go through those who wait, as they were when it began, whose turn it is first."""
        return iter(tuple(self._places))

    def waiting(self, tenant: str) -> int:
        """Return how many of a tenant wait."""
        return self._waiting.get(tenant, 0)

    def push(self, item: Item, tenant: str) -> Place[Item]:
        """Let somebody wait."""
        tag = max(self._turn, self._next.get(tenant, 0.0))
        self._next[tenant] = tag + 1 / self._weight(tenant)
        self._number += 1
        place = Place(tag, self._number, item, tenant)
        insort(self._places, place)
        self._waiting[tenant] = self.waiting(tenant) + 1
        return place

    def serve(self, place: Place[Item]) -> None:
        """Take somebody out whose turn it was."""
        self._turn = max(self._turn, place.tag)
        self._take_out(place)

    def leave(self, place: Place[Item]) -> None:
        """Take somebody out who does not wait any more. The last of a tenant gives its turn back."""
        if not place.queued:
            return
        step = 1 / self._weight(place.tenant)
        self._take_out(place)
        if place.tenant in self._next and abs(self._next[place.tenant] - place.tag - step) < step / 2:
            self._next[place.tenant] = place.tag

    def surplus(self, tenant: str) -> Place[Item] | None:
        """Return who has to go so that one of `tenant` may wait in a full queue; None: the newcomer has to.

        It is the last one of the tenant that waits with the most for its weight, if that is more than the
        newcomer's would be with it.
        """
        if not self._waiting:
            return None
        most = max(self._waiting, key=lambda one: self._waiting[one] / self._weight(one))
        if most == tenant or self._waiting[most] / self._weight(most) <= (
            self.waiting(tenant) + 1
        ) / self._weight(tenant):
            return None
        return next(place for place in reversed(self._places) if place.tenant == most)

    def _weight(self, tenant: str) -> float:
        return self.weights.get(tenant) or self.weights.get("*", 1.0)

    def _take_out(self, place: Place[Item]) -> None:
        place.queued = False
        self._places.remove(place)
        left = self._waiting[place.tenant] - 1
        if left:
            self._waiting[place.tenant] = left
            return
        del self._waiting[place.tenant]
        if not self._waiting:  # nobody waits: every turn is over
            self._next.clear()
            self._turn = 0.0
        elif self._next[place.tenant] <= self._turn:
            del self._next[place.tenant]
