"""The controller's lease as its holder sees it: taken, kept, checked before every step, given back."""

import asyncio
import logging
import time
from collections.abc import Callable

from gateway.store.database import StoreUnavailable
from gateway.store.fleet import Fleet
from gateway.store.lease import CONTROLLER, LeaseLost

log = logging.getLogger(__name__)

RENEWALS_PER_TERM = 3


class Lease:
    """One process's hold on the lease that elects the effective controller.

    The end of a term is also counted on this process's own monotonic clock, from before the store was
    asked, so that a process which was frozen knows without asking that its term is over.
    """

    def __init__(
        self, fleet: Fleet, *, holder: str, ttl_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fleet = fleet
        self._holder = holder
        self._ttl_s = ttl_s
        self._clock = clock
        self._epoch: int | None = None
        self._until = 0.0

    def take(self) -> int | None:
        """Take or renew the lease and return its epoch; None while another controller holds it.

        Raises:
            StoreUnavailable: the store can't be asked.
        """
        asked_at = self._clock()
        self._epoch = self._fleet.acquire(CONTROLLER, self._holder, ttl_s=self._ttl_s)
        self._until = asked_at + self._ttl_s
        return self._epoch

    def check(self, epoch: int) -> None:
        """Return only while the term of `epoch` is running.

        Raises:
            LeaseLost: it is over, or the lease went to another holder.
        """
        if self._epoch != epoch or self._clock() >= self._until:
            raise LeaseLost(f"epoch {epoch} is over")

    def left_s(self, epoch: int) -> float:
        """Return how many seconds of the term of `epoch` are left, on this process's own clock.

        Raises:
            LeaseLost: it is over, or the lease went to another holder.
        """
        self.check(epoch)
        return self._until - self._clock()

    async def keep(self) -> None:
        """Renew the lease while it is held, until cancelled: one step may take longer than a term."""
        while True:
            await asyncio.sleep(self._ttl_s / RENEWALS_PER_TERM)
            if self._epoch is None:
                continue
            try:
                self.take()
            except StoreUnavailable as error:
                log.warning("the lease could not be renewed: %s", error)

    def release(self) -> None:
        """Give the lease back, so that another controller need not wait for the term's end.

        Raises:
            StoreUnavailable: the store can't be told; the term runs out by itself.
        """
        if self._epoch is not None:
            self._epoch = None
            self._fleet.release(CONTROLLER, self._holder)
