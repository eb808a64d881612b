"""The lease of one route's watch, kept by a thread while a look lasts."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.store.database import StoreUnavailable
from gateway.store.fleet import Fleet
from gateway.store.lease import LeaseLost
from gateway.store.watches import lease_name

log = logging.getLogger(__name__)

_RENEWALS_PER_TERM = 3


@contextmanager
def lease(fleet: Fleet, route: str, *, holder: str, ttl_s: float) -> Iterator[int]:
    """Hold the lease of a route's watch inside the block; the value is its epoch, which every write carries.

    A look may take longer than a term (embedding does), so a thread renews it. Should the process be frozen
    for longer than that, its next write is refused.

    Raises:
        LeaseLost: another watcher holds it.
        StoreUnavailable: the store can't be asked.
    """
    name = lease_name(route)
    epoch = fleet.acquire(name, holder, ttl_s=ttl_s)
    if epoch is None:
        raise LeaseLost(f"another watcher is at work on {route}")
    done = threading.Event()
    thread = threading.Thread(
        target=_renew, args=(fleet, name, holder, ttl_s, done), name=f"lease-{route}", daemon=True
    )
    thread.start()
    try:
        yield epoch
    finally:
        done.set()
        thread.join()
        try:
            fleet.release(name, holder)
        except StoreUnavailable as error:  # it runs out by itself
            log.warning("the lease of %s could not be given back: %s", route, error)


def _renew(fleet: Fleet, name: str, holder: str, ttl_s: float, done: threading.Event) -> None:
    while not done.wait(ttl_s / _RENEWALS_PER_TERM):
        try:
            fleet.acquire(name, holder, ttl_s=ttl_s)
        except StoreUnavailable as error:
            log.warning("a lease could not be renewed: %s", error)
