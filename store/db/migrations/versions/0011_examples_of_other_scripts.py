"""Examples of other scripts: any gold answer, the whole prompt, further columns; how the texts of a run are read.

A database knows itself from its copies.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    for name in ("gold", "prompt", "columns"):
        op.add_column("example", sa.Column(name, sa.JSON(none_as_null=True), nullable=True))
    # Groups of several generations were summarized as one; who asks for these steps has them made again.
    op.execute(
        "DELETE FROM step_summary WHERE EXISTS (SELECT 1 FROM run WHERE run.id = step_summary.run_id "
        "AND run.dataset = '(recorded)') AND (SELECT count(DISTINCT generation) FROM completion WHERE "
        "completion.run_id = step_summary.run_id AND completion.step = step_summary.step) > 1"
    )
    op.add_column("run", sa.Column("grammar", sa.String(length=16), server_default="ours", nullable=False))
    op.create_table(
        "database",
        sa.Column("uid", sa.String(length=16), nullable=False),
        sa.Column("place", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_database")),
    )
