"""PostgreSQL's index of facets holds the ids as well, as SQLite's does by itself: Find reads nothing else."""

from alembic import op

revision = "0010"
down_revision = "0009"

NAME = "ix_completion_facets"
COLUMNS = ("run_id", "step", "group", "index", "reward", "tokens", "steps", "answer")
FLAGS = ("correct", "wellformed", "truncated", "example_id")


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        return
    op.drop_index(NAME, "completion")
    op.create_index(NAME, "completion", [*COLUMNS, *FLAGS], postgresql_include=["id"])
