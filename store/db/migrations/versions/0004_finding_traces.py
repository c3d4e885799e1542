"""Tags and notes on traces, and an index that holds every column by which completions are filtered and sorted."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.drop_index("ix_completion_run_step", "completion")
    op.create_index(
        "ix_completion_facets",
        "completion",
        [
            *("run_id", "step", "group", "index", "reward", "tokens", "steps", "answer"),
            *("correct", "wellformed", "truncated", "example_id"),
        ],
    )
    op.create_table(
        "trace_tag",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("completion_id", sa.Integer(), nullable=True),
        sa.Column("prediction_id", sa.Integer(), nullable=True),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.ForeignKeyConstraint(
            ["completion_id"], ["completion.id"], name=op.f("fk_trace_tag_completion_id_completion"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["prediction_id"], ["prediction.id"], name=op.f("fk_trace_tag_prediction_id_prediction"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trace_tag")),
        sa.UniqueConstraint("completion_id", "name", name=op.f("uq_trace_tag_completion_id_name")),
        sa.UniqueConstraint("prediction_id", "name", name=op.f("uq_trace_tag_prediction_id_name")),
    )
    op.create_index(op.f("ix_trace_tag_name"), "trace_tag", ["name"])
    op.create_table(
        "trace_note",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("completion_id", sa.Integer(), nullable=True),
        sa.Column("prediction_id", sa.Integer(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["completion_id"],
            ["completion.id"],
            name=op.f("fk_trace_note_completion_id_completion"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["prediction_id"],
            ["prediction.id"],
            name=op.f("fk_trace_note_prediction_id_prediction"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trace_note")),
        sa.UniqueConstraint("completion_id", name=op.f("uq_trace_note_completion_id")),
        sa.UniqueConstraint("prediction_id", name=op.f("uq_trace_note_prediction_id")),
    )
