"""Who starts a job's process."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("job", sa.Column("launcher", sa.String(length=16), server_default="local", nullable=False))
