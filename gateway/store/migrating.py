"""Bring a database's tables to the newest revision, with Alembic."""

from functools import cache

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from gateway.store.database import Schema, SchemaTooNew
from gateway.store.revisions import MIGRATIONS

# Arbitrary but fixed: serialise the migrations of a schema over all processes.
_LOCKS = {"control": 727001, "requests": 727002}


def upgrade(connection: Connection, schema: Schema, *, to: str = "head") -> None:
    """Run the migrations that are missing, in the transaction that is open.

    Raises:
        SchemaTooNew: a newer Turnout has migrated this database.
    """
    config = config_of(schema)
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCKS[schema]})
    config.attributes["connection"] = connection
    config.attributes["schema"] = schema
    present = revision_of(connection, schema)
    require_known(schema, present)
    if present != newest(schema):
        command.upgrade(config, to)


def config_of(schema: Schema) -> Config:
    """Return Alembic's configuration of a schema."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS / schema))
    config.set_main_option("path_separator", "os")
    return config


def revision_of(connection: Connection, schema: Schema) -> str | None:
    """Return the revision that a database's tables have; None before the first."""
    context = MigrationContext.configure(connection, opts={"version_table": f"alembic_{schema}"})
    found: str | None = context.get_current_revision()
    return found


@cache
def revisions(schema: Schema) -> tuple[str, ...]:
    """Return every revision that this Turnout knows, oldest first."""
    scripts = ScriptDirectory.from_config(config_of(schema)).walk_revisions()
    return tuple(script.revision for script in scripts)[::-1]


def newest(schema: Schema) -> str:
    """Return the revision that this Turnout works with."""
    return revisions(schema)[-1]


def require_known(schema: Schema, revision: str | None) -> None:
    """Refuse tables that a newer Turnout made: nothing here knows what is in them.

    Raises:
        SchemaTooNew: the revision is none of this Turnout's.
    """
    if revision is None or revision in revisions(schema):
        return
    raise SchemaTooNew(
        f"the {schema} store has the schema {revision} of a newer Turnout, and this one knows up to "
        f"{newest(schema)}: start a newer Turnout, or restore a backup of this one's (docs/backup.md)"
    )
