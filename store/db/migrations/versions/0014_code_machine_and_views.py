"""The code of runs, what their machines did, and views of pages under names."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "code",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("revision", sa.String(64), nullable=False),
        sa.Column("changed", sa.JSON(), nullable=False),
        sa.Column("difference", sa.Text(), nullable=False),
        sa.Column("is_cut", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_code")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_code_run_id_run"), ondelete="CASCADE"),
    )
    op.create_index(op.f("ix_code_run_id"), "code", ["run_id"])
    op.create_table(
        "machine_sample",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("what", sa.String(40), nullable=False),
        sa.Column("at", sa.Double(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "what", "at", name=op.f("pk_machine_sample")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_machine_sample_run_id_run"), ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "saved_view",
        sa.Column("page", sa.String(40), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("page", "name", name=op.f("pk_saved_view")),
    )
