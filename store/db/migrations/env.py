"""Alembic's entry point. The connection comes from `store.db.upgrade`, or from the configured database.

To add a revision, change `store/db/schema/`, then run
`alembic -c store/db/migrations/alembic.ini revision --autogenerate --rev-id 0002 -m "what changes"`,
review the generated file, and raise `store.db.upgrade.HEAD`.
"""

from alembic import context
from sqlalchemy import Connection

from store.db.engine import open_store
from store.db.schema import Base


def migrate(connection: Connection) -> None:
    # SQLite's driver cannot roll back tables unless BEGIN is sent first; the begin event of store.db.engine does.
    context.configure(
        connection=connection, target_metadata=Base.metadata, render_as_batch=True, transactional_ddl=True
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    with open_store().engine.begin() as own:
        migrate(own)
