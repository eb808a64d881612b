"""The watch: what its looks say, where it stands, and what it compares with"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_NEW: dict[str, sa.types.TypeEngine[Any]] = {
    "severity": sa.String(length=16),
    "cause": sa.String(length=16),
    "evidence": sa.Float(),
    "threshold": sa.Float(),
    "effect": sa.Float(),
    "looked_from": sa.Float(),
    "looked_to": sa.Float(),
    "adapter": sa.String(length=80),
}


def upgrade() -> None:
    op.add_column("drift", sa.Column("kind", sa.String(length=16), nullable=False, server_default="look"))
    for name, kind in _NEW.items():
        op.add_column("drift", sa.Column(name, kind, nullable=True))
    op.create_table(
        "watches",
        sa.Column("route", sa.String(length=64), primary_key=True),
        sa.Column("looks", sa.BigInteger(), nullable=False),
        sa.Column("adapter", sa.String(length=80), nullable=True),
        sa.Column("basis", sa.JSON(), nullable=False),
        sa.Column("reference", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.JSON(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("seen_id", sa.String(length=64), nullable=False),
        sa.Column("rated_id", sa.BigInteger(), nullable=False),
        sa.Column("looked_at", sa.Float(), nullable=True),
        sa.Column("due_at", sa.Float(), nullable=True),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("alarms", sa.JSON(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
    )
    op.create_table(
        "watch_references",
        sa.Column("route", sa.String(length=64), primary_key=True),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("made_at", sa.Float(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.Column("arrays", sa.LargeBinary(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("watch_references")
    op.drop_table("watches")
    for name in ("kind", *_NEW):
        op.drop_column("drift", name)
