"""Alembic's entry point; see env_common."""

from gateway.store.migrations.env_common import run

run()
