"""Vectors of texts under an encoder, and how far a job has come."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "encoder",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_encoder")),
        sa.UniqueConstraint("name", "version", name=op.f("uq_encoder_name_version")),
    )
    op.create_table(
        "embedding",
        sa.Column("encoder_id", sa.Integer(), nullable=False),
        sa.Column("text_hash", sa.LargeBinary(length=16), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["encoder_id"], ["encoder.id"], name=op.f("fk_embedding_encoder_id_encoder"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("encoder_id", "text_hash", name=op.f("pk_embedding")),
    )
    op.add_column("job", sa.Column("done", sa.Integer(), nullable=True))
    op.add_column("job", sa.Column("total", sa.Integer(), nullable=True))
