"""Which device of its host a job has to itself."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("job", sa.Column("device", sa.String(length=32), nullable=True))
