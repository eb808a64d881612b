"""The index of answers holds only those whose id is not made of the request's"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.drop_index("requests_answer", table_name="requests")
    op.create_index(
        "requests_answer",
        "requests",
        ["answer_id"],
        sqlite_where=sa.text("instr(answer_id, id) = 0"),
        postgresql_where=sa.text("strpos(answer_id, id) = 0"),
    )


def downgrade() -> None:
    op.drop_index("requests_answer", table_name="requests")
    op.create_index("requests_answer", "requests", ["answer_id"], unique=False)
