"""The token with which recorders authenticate: anyone who can read the database's folder may record."""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from store.db import private
from store.db.connection import Store, StoreError

NAME = "recorder-token"


def path_of(store: Store) -> Path:
    return store.folder / NAME


def token_of(store: Store) -> str:
    """Return the token, which is created when first needed. Raises StoreError."""
    path = path_of(store)
    try:
        if not path.exists():
            _make(path)
        facts = path.stat()
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise StoreError(f"{path} cannot be read ({error}). Remove it; a new token is then created.") from None
    if private.IS_POSIX and (facts.st_uid != os.geteuid() or facts.st_mode & private.UMASK):
        raise StoreError(f"{path} can be read by other users. Remove it; a new token is then created.")
    if len(token) < 32:
        raise StoreError(f"{path} contains no token. Remove it; a new one is then created.")
    return token


def is_right(store: Store, given_token: str) -> bool:
    """Return whether this is the right token. Raises StoreError."""
    return hmac.compare_digest(given_token.encode("utf-8", "replace"), token_of(store).encode())


def _make(path: Path) -> None:
    """Create the file atomically, readable only by this user. Of two processes, the first one wins."""
    private.make_folder(path.parent)
    new = path.with_name(f".{NAME}-{secrets.token_hex(8)}")
    private.make_file(new)
    new.write_text(secrets.token_hex(24), encoding="ascii")
    with suppress(FileExistsError):
        os.link(new, path)
    new.unlink()
