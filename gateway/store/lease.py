"""The epoch that every write of a lease's holder carries, checked inside the writing transaction."""

from sqlalchemy import Connection, select

from gateway.store import clock
from gateway.store.schema import leases

CONTROLLER = "controller"
"""The name of the lease that the effective controller holds."""


class LeaseLost(Exception):
    """Another process holds the lease, or ours ran out; nothing was written."""


def require_epoch(connection: Connection, epoch: int, *, name: str = CONTROLLER) -> None:
    """Refuse to go on inside this transaction unless `epoch` is the lease's and its term is running.

    Raises:
        LeaseLost: it is not.
    """
    row = connection.execute(
        select(leases).where(leases.c.name == name).with_for_update(read=True)
    ).one_or_none()
    if row is None or row.epoch != epoch or row.expires_at <= clock.now(connection):
        raise LeaseLost(f"epoch {epoch} is over")
