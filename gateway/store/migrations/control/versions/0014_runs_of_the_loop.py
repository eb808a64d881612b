"""runs of the loop"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "loop_runs",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("route", sa.String(length=64), nullable=False),
        sa.Column("trigger", sa.String(length=16), nullable=False),
        sa.Column("cause", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("policy", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("champion", sa.String(length=80), nullable=False),
        sa.Column("candidate", sa.String(length=80), nullable=True),
        sa.Column("verdict", sa.String(length=24), nullable=True),
        sa.Column("drift_id", sa.BigInteger(), nullable=True),
        sa.Column("drift_at", sa.Float(), nullable=True),
        sa.Column("starts", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("approvals", sa.JSON(), nullable=False),
        sa.Column("stop", sa.JSON(), nullable=True),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("loop_runs_route", "loop_runs", ["route", "created_at"])
    op.create_index("loop_runs_candidate", "loop_runs", ["candidate"])
    op.create_index(
        "loop_runs_open",
        "loop_runs",
        ["route"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("drift_calls", "drift", ["severity", "kind", "route", "id"])
    op.create_table(
        "loop_routes",
        sa.Column("route", sa.String(length=64), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("paused_at", sa.Float(), nullable=True),
        sa.Column("paused_by", sa.String(length=128), nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("route"),
    )


def downgrade() -> None:
    op.drop_table("loop_routes")
    op.drop_index("drift_calls", table_name="drift")
    op.drop_index("loop_runs_open", table_name="loop_runs")
    op.drop_index("loop_runs_candidate", table_name="loop_runs")
    op.drop_index("loop_runs_route", table_name="loop_runs")
    op.drop_table("loop_runs")
