"""A database knows itself from its copies."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "database",
        sa.Column("uid", sa.String(length=16), nullable=False),
        sa.Column("place", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_database")),
    )
