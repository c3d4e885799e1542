"""Who starts a job's process, and on how many devices."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("job", sa.Column("launcher", sa.String(length=16), server_default="local", nullable=False))
    if op.get_context().dialect.name != "sqlite":  # which minds no length
        op.alter_column("job", "device", type_=sa.String(1000))
