"""Answers are kept with the noise of the conditions in which an engine gave them"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("answers", sa.Column("noise", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("answers", "noise")
