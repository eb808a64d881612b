"""How both migration folders run: inside the transaction that `Database.migrate` opened."""

from alembic import context

from gateway.store import schema


def run() -> None:
    """Run the migrations of the schema that the caller named."""
    attributes = context.config.attributes
    name = attributes["schema"]
    context.configure(
        connection=attributes["connection"],
        target_metadata=getattr(schema, name),
        version_table=f"alembic_{name}",
        transactional_ddl=False,
    )
    context.run_migrations()
