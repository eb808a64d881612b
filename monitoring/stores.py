"""The stores of a gateway that exists, opened by a program beside it."""

from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from gateway.store.database import Database, Schema, StoreUnavailable


def open_store(url: str | None, schema: Schema, *, state_dir: Path) -> Database:
    """Open a database that exists: a monitor makes none. Without a URL it is the state directory's.

    Raises:
        StoreUnavailable: the URL is none, or its file does not exist.
    """
    url = url or f"sqlite:///{state_dir / f'{schema}.db'}"
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreUnavailable(f"the address of the {schema} database is not a database URL") from error
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        raise StoreUnavailable(
            f"there is no {schema} database at {parsed.database}: start the gateway first, "
            "or name its state directory with --state-dir or TURNOUT_STATE_DIR"
        )
    return Database(url, schema)
