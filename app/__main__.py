"""`python -m app`: open the database, start the dashboard, and monitor the jobs."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from streamlit.auth_util import is_authlib_installed

from app import access, server
from app.access import SignIn
from store.db import private
from store.db.engine import StoreError, database_url, open_store
from store.terminal import shown

BAD_USE = 2
BASE_PATH = "STREAMLIT_SERVER_BASE_URL_PATH"
"""Streamlit's own environment variable, as documented."""


def main(argv: list[str] | None = None) -> int:
    options = _parse(argv)
    problem = _cannot_listen(options.host, options.port)
    if problem:
        return _refuse(problem)
    try:
        sign_in = _sign_in(options.host, options.sign_in)
        url = database_url(options.db)
        store = open_store(url)
    except StoreError as error:
        return _refuse(str(error))
    # Pages, and the processes that they start, read the URL from the environment.
    os.environ["VR1Z_DATABASE_URL"] = url
    base = options.base_path.strip("/")
    with _demo() if options.demo else nullcontext():
        web_app = server.build(store, sign_in, base)
        web_app.run(config=server.settings(options.host, options.port, sign_in, base))
    return 0


@contextmanager
def _demo() -> Iterator[None]:
    """Prepare the demo in a process beside the server; it ends with the server, whether done or not."""
    preparing = subprocess.Popen([sys.executable, "-m", "app.demo"])
    try:
        yield
    finally:
        preparing.terminate()
        preparing.wait()


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m app", description="The experiment dashboard.")
    parser.add_argument("--db", metavar="URL", help="database URL or SQLite file (default: $VR1Z_DATABASE_URL)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8501, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--sign-in", metavar="FILE.toml", type=Path, help="require sign-in by OpenID Connect: see docs/threats.md"
    )
    parser.add_argument(
        "--base-path",
        metavar="PATH",
        default=os.environ.get(BASE_PATH, ""),
        help="URL path below which a proxy serves the dashboard; leave it out if the proxy strips the path "
        f"(default: ${BASE_PATH})",
    )
    parser.add_argument("--demo", action="store_true", help="show the recorded experiment and train the two demo runs")
    return parser.parse_args(argv)


def _sign_in(host: str, path: Path | None) -> SignIn | None:
    """Return the configured sign-in. Raises StoreError if there is none and others could reach the server."""
    os.environ.pop(access.VARIABLE, None)
    if path is None:
        if host not in access.LOOPBACK:
            raise StoreError(
                f"Anyone who can reach {host} could start processes on this machine: leave out --host and use an SSH "
                "tunnel, or require sign-in with --sign-in FILE.toml."
            )
        return None
    sign_in = access.load(path)
    if not is_authlib_installed():
        raise StoreError("Sign-in needs the package Authlib: install it with `pip install streamlit[auth]`.")
    os.environ[access.VARIABLE] = str(path.absolute())
    return sign_in


def _cannot_listen(host: str, port: int) -> str | None:
    """Return a sentence that says why the server cannot listen there, or None if it can."""
    if not 1 <= port <= 65535:
        return f"{port} is not a port: choose one from 1 to 65535 with --port."
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        return f"{host} is not an address of this machine: choose another with --host."
    with socket.socket(family, kind, protocol) as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            return f"Cannot listen on {host}:{port} ({error.strerror}): free it or choose another with --port."
    return None


def _refuse(sentence: str) -> int:
    print(shown(sentence), file=sys.stderr)
    return BAD_USE


if __name__ == "__main__":
    os.umask(private.UMASK)
    sys.exit(main())
