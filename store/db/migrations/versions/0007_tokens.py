"""What policy and base think of each token of some completions."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "completion_tokens",
        sa.Column("completion_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("exact", sa.Boolean(), nullable=False),
        sa.Column("ends", sa.JSON(), nullable=False),
        sa.Column("entropy", sa.JSON(), nullable=False),
        sa.Column("logp", sa.JSON(), nullable=False),
        sa.Column("base_logp", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["completion_id"],
            ["completion.id"],
            name=op.f("fk_completion_tokens_completion_id_completion"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("completion_id", name=op.f("pk_completion_tokens")),
    )
