"""How long a PostgreSQL server is waited for: a machine that vanished must not hold anybody for minutes."""

from typing import Any

from sqlalchemy.engine import URL

IDLE_IN_TRANSACTION_S = 10.0
APPLICATION = "turnout"
_PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds in which what was sent is to be confirmed
    "application_name": APPLICATION,
}


def patience_of(url: URL) -> dict[str, Any]:
    """Return the connection parameters that the URL leaves to us, in libpq's names and units.

    A process that is frozen in a transaction must not hold its locks, the lease's among them, for ever.
    """
    ours = {name: value for name, value in _PATIENCE.items() if name not in url.query}
    limit = f"-c idle_in_transaction_session_timeout={int(IDLE_IN_TRANSACTION_S * 1000)}"
    theirs = url.query.get("options", "")
    given = theirs if isinstance(theirs, str) else " ".join(theirs)
    return {**ours, "options": f"{limit} {given}".rstrip()}
