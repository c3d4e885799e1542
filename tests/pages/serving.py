"""Serves a database with sign-in, without the package that talks to a provider: `python -m tests.pages.serving PORT`.

The cookie that a provider would have led to is made by the tests.
"""

from __future__ import annotations

import sys

from app import access, server
from store.db.engine import open_store

if __name__ == "__main__":
    port = int(sys.argv[1])
    sign_in = access.current_settings()
    server.build(open_store(), sign_in).run(config=server.settings("127.0.0.1", port, sign_in))
