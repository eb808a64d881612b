"""One clock for everybody who shares a store: leases are given and judged by it.

On PostgreSQL it is the server's, so that the clocks of gateways and controllers don't matter. An SQLite file
is on one machine, and that machine's clock it is.
"""

import time

from sqlalchemy import Connection, text


def now(connection: Connection) -> float:
    """Return the store's time in seconds since the epoch."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
