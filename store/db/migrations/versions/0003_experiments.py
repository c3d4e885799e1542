"""Experiments, and how long a prediction took."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "experiment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("matrix", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiment")),
        sa.UniqueConstraint("uid", name=op.f("uq_experiment_uid")),
    )
    op.create_table(
        "experiment_run",
        sa.Column("experiment_id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("arm", sa.String(length=100), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"],
            ["experiment.id"],
            name=op.f("fk_experiment_run_experiment_id_experiment"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_experiment_run_run_id_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("experiment_id", "run_id", name=op.f("pk_experiment_run")),
    )
    op.create_index(op.f("ix_experiment_run_run_id"), "experiment_run", ["run_id"])
    op.add_column("prediction", sa.Column("seconds", sa.Double(), nullable=True))
