"""Who is forgotten"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.create_table(
        "forgotten",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("pepper", sa.String(length=16), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("runs", sa.JSON(), nullable=False),
        sa.Column("routes", sa.JSON(), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("cursor", sa.JSON(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "forgotten_units",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("pepper", sa.String(length=16), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("forgotten_units_until", "forgotten_units", ["until"])


def downgrade() -> None:
    op.drop_table("forgotten_units")
    op.drop_table("forgotten")
