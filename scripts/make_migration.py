"""Write the next migration of a schema from the difference between its tables and its revisions.

Usage: python scripts/make_migration.py control|requests "message"
"""

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config

from gateway.store.database import Database


def main() -> None:
    schema, message = sys.argv[1:]
    folder = Path(__file__).parent.parent / "gateway/store/migrations" / schema
    number = len([p for p in (folder / "versions").glob("*.py") if p.name[0].isdigit()]) + 1
    with tempfile.TemporaryDirectory() as scratch:
        database = Database(f"sqlite:///{scratch}/new.db", schema)  # type: ignore[arg-type]
        if number > 1:
            database.migrate()
        config = Config()
        config.set_main_option("script_location", str(folder))
        config.set_main_option("path_separator", "os")
        with database.write() as connection:
            config.attributes.update(connection=connection, schema=schema)
            command.revision(config, message, autogenerate=True, rev_id=f"{number:04d}")


if __name__ == "__main__":
    main()
