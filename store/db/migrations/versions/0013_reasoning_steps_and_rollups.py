"""What a trace holds is called `reasoning_steps`, since a step is an update; metrics are rolled up.

See `store.rollups`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

ROLL_UP = """
INSERT INTO metric_rollup (run_id, name_id, width, start, n, low, high, mean)
SELECT metric.run_id, name_id, 32, step / 32 * 32, count(value), min(value), max(value),
    sum(CASE WHEN value > 1e300 THEN 1e300 WHEN value < -1e300 THEN -1e300 ELSE value END) / count(value)
FROM metric JOIN rolled_up ON rolled_up.run_id = metric.run_id AND step < until
GROUP BY metric.run_id, name_id, step / 32 * 32 HAVING count(value) > 0
"""
WIDEN = """
INSERT INTO metric_rollup (run_id, name_id, width, start, n, low, high, mean)
SELECT finer.run_id, name_id, {width}, start / {width} * {width}, sum(n), min(low), max(high), sum(mean * n) / sum(n)
FROM metric_rollup AS finer JOIN rolled_up
    ON rolled_up.run_id = finer.run_id AND width = {finer} AND start < until / {width} * {width}
GROUP BY finer.run_id, name_id, start / {width} * {width}
"""


def upgrade() -> None:
    _rename_steps()
    _roll_up()


def _rename_steps() -> None:
    for table in ("completion", "prediction"):
        op.execute(f"ALTER TABLE {table} RENAME COLUMN steps TO reasoning_steps")
    # The histogram alone: a component of rewards of that name has a number there.
    renamed = "replace(CAST(figures AS TEXT), '\"steps\": {', '\"reasoning_steps\": {')"
    kind = "json" if op.get_context().dialect.name == "postgresql" else "text"
    op.execute(f"UPDATE step_summary SET figures = CAST({renamed} AS {kind})")


def _roll_up() -> None:
    op.create_table(
        "rolled_up",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("until", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_rolled_up")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_rolled_up_run_id_run"), ondelete="CASCADE"),
    )
    op.create_table(
        "metric_rollup",
        *(sa.Column(name, sa.Integer(), nullable=False) for name in ("run_id", "name_id")),
        *(sa.Column(name, sa.Integer(), autoincrement=False, nullable=False) for name in ("width", "start")),
        sa.Column("n", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Double(), nullable=False) for name in ("low", "high", "mean")),
        sa.PrimaryKeyConstraint("run_id", "name_id", "width", "start", name=op.f("pk_metric_rollup")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_metric_rollup_run_id_run"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["name_id"], ["metric_name.id"], name=op.f("fk_metric_rollup_name_id_metric_name")),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO rolled_up SELECT run_id, max(step) / 32 * 32 FROM metric GROUP BY run_id")
    op.execute(ROLL_UP)
    for finer, width in ((32, 256), (256, 2048)):
        op.execute(WIDEN.format(finer=finer, width=width))
