"""Indexed datasets, and what images are recognised by."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "dataset_index",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("path", sa.String(length=1000), nullable=False),
        sa.Column("split", sa.String(length=50), nullable=False),
        sa.Column("dataset", sa.String(length=200), nullable=True),
        sa.Column("revision", sa.String(length=200), nullable=True),
        sa.Column("limit", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("host", sa.String(length=200), nullable=True),
        sa.Column("boot_id", sa.String(length=64), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("pid_started", sa.Double(), nullable=True),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("indexed_at", sa.Double(), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=True),
        sa.Column("usable", sa.Integer(), nullable=True),
        sa.Column("images", sa.Integer(), nullable=True),
        sa.Column("complete", sa.Boolean(), nullable=True),
        sa.Column("skipped", sa.JSON(), nullable=False),
        sa.Column("sizes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_index")),
        sa.UniqueConstraint("name", "path", "split", name=op.f("uq_dataset_index_name_path_split")),
    )
    op.create_table(
        "image_hash",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("phash", sa.BigInteger(), nullable=False),
        sa.Column("origin", sa.String(length=50), nullable=True),
        sa.ForeignKeyConstraint(["sha256"], ["media.sha256"], name=op.f("fk_image_hash_sha256_media")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_image_hash")),
    )
    op.create_index("ix_example_facets", "example", ["dataset", "split", "difficulty", "answer"])
    op.create_index(op.f("ix_example_image_sha256"), "example_image", ["sha256"])
