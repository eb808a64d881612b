"""The watch: what its looks say, where it stands, and what it compares with"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def _new() -> list[sa.Column]:
    return [
        sa.Column("kind", sa.String(length=16), nullable=False, server_default="look"),
        sa.Column("severity", sa.String(length=16), nullable=True),
        sa.Column("cause", sa.String(length=16), nullable=True),
        sa.Column("evidence", sa.Float(), nullable=True),
        sa.Column("threshold", sa.Float(), nullable=True),
        sa.Column("effect", sa.Float(), nullable=True),
        sa.Column("looked_from", sa.Float(), nullable=True),
        sa.Column("looked_to", sa.Float(), nullable=True),
        sa.Column("adapter", sa.String(length=80), nullable=True),
    ]


def upgrade() -> None:
    for column in _new():
        op.add_column("drift", column)
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
    for column in reversed(_new()):
        op.drop_column("drift", column.name)
