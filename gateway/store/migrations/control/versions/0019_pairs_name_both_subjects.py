"""Curated pairs of answers name the subjects of both"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.add_column("curated_rows", sa.Column("other_unit", sa.String(length=64), nullable=True))
    op.execute(
        "UPDATE curated_rows SET other_unit = (SELECT max(feedback.unit) FROM feedback "
        "WHERE feedback.request_id = curated_rows.other_id) WHERE other_id IS NOT NULL"
    )


def downgrade() -> None:
    op.drop_column("curated_rows", "other_unit")
