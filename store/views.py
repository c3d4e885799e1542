"""Saved views: page addresses that users saved under a name, shared by all users of the database."""

from __future__ import annotations

import time

from sqlalchemy import delete, select

from store.db.connection import Store, StoreError, reading, writing
from store.db.schema import SavedView
from store.db.sql import upsert
from store.db.values import clean

LONGEST_NAME, LONGEST_ADDRESS = 100, 20_000


def list_views(store: Store, page: str) -> dict[str, str]:
    """Return the addresses of a page's views by name, in alphabetical order."""
    statement = select(SavedView.name, SavedView.address).where(SavedView.page == page).order_by(SavedView.name)
    with reading(store) as connection:
        return {str(name): str(address) for name, address in connection.execute(statement)}


def save_view(store: Store, page: str, name: str, address: str) -> None:
    """Save a view, replacing one of the same name. Raises StoreError for a name or address that cannot be stored."""
    name = clean(name).strip()
    if not name or len(name) > LONGEST_NAME:
        raise StoreError(f"The name of a view must have 1 to {LONGEST_NAME} characters.")
    if len(address) > LONGEST_ADDRESS:
        raise StoreError("The view lists too many single runs. Select them by experiment, tag or search words.")
    row = {"address": clean(address), "created_at": time.time()}
    with writing(store) as connection:
        statement = upsert(connection.dialect.name, SavedView).values(page=page, name=name, **row)
        connection.execute(statement.on_conflict_do_update(index_elements=["page", "name"], set_=row))


def delete_view(store: Store, page: str, name: str) -> None:
    with writing(store) as connection:
        connection.execute(delete(SavedView).where(SavedView.page == page, SavedView.name == name))
