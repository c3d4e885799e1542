"""The web server around the pages: its routes, startup and shutdown."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import pkgutil
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from importlib.resources import files
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

import app
from app import access, invalid_rows, pending_changes, recording, sign_in_page
from app.access import LOOPBACK, SignIn
from app.emergence import webhook
from app.guard import Guard
from app.heartbeats import HEARTBEATS
from app.host_names import OwnNames
from app.shared import trace_search
from app.shared.live_chart import LIBRARY_ROUTE
from app.shared.trace_search import Search
from store.completions.patterns import Matcher
from store.db.engine import Store, StoreError
from store.jobs import list_jobs
from store.media.rows import get_media, media_path
from store.recording import leftover, token
from store.recording.leftover import JournalSweep
from store.runs import resolve_run
from trainer.launch import identity, indexing
from trainer.launch.supervision import Supervisor

RECONCILE_EVERY = 2.0
FINDINGS_EVERY = 60.0
JOURNALS_EVERY = 20.0
FOR_EVER = "public, max-age=31536000, immutable"
MAIN = Path(__file__).with_name("main.py").resolve()
log = logging.getLogger(__name__)


def build(store: Store, sign_in: SignIn | None = None, base: str = "") -> st.App:
    """Return the application below the path `base`; it answers to loopback names and the host of `sign_in`."""
    pending_changes.install()
    names = [f"[{name}]" if ":" in name else name for name in allowed_hosts(sign_in)]
    middleware = [
        Middleware(OwnNames, names=names, sign_in=sign_in),
        Middleware(Guard, store=store, has_sign_in=sign_in is not None),
    ]
    return st.App(
        MAIN,
        routes=routes(store, base, sign_in),
        middleware=middleware,
        lifespan=lifespan(store),
        on_script_error=invalid_rows.explain,  # for errors in a page's fragments
    )


def allowed_hosts(sign_in: SignIn | None) -> list[str]:
    """Return the host names that requests may use, on any port, since a tunnel may change it."""
    return [*LOOPBACK, *([sign_in.host] if sign_in else [])]


def settings(host: str, port: int, sign_in: SignIn | None = None, base: str = "") -> dict[str, Any]:
    """Return the settings that Streamlit must not read from a file or the environment."""
    secrets = {"secrets.files": [os.environ[access.VARIABLE]]} if sign_in else {}
    return secrets | {
        "server.address": host,
        "server.port": port,
        "server.baseUrlPath": base,
        "server.headless": True,
        "server.allowedHosts": allowed_hosts(sign_in),
        "server.enableAgentApi": False,
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.fileWatcherType": "none",
        "server.enableStaticServing": False,
        # No page accepts uploads, and no message from a browser is large.
        "server.maxUploadSize": 1,
        "server.maxWidgetStateSize": 2,
        "server.maxMessageSize": 50,
        "browser.gatherUsageStats": False,
    }


def routes(store: Store, base: str = "", sign_in: SignIn | None = None) -> list[Route]:
    plotly_js = str(files("plotly") / "package_data" / "plotly.min.js")

    def health(_request: Request) -> Response:
        try:
            store.check_file()
        except StoreError:
            return JSONResponse({"status": "restart"}, 503)
        return JSONResponse({"status": "ok"})

    def media(request: Request) -> Response:
        sha256 = request.path_params["sha256"]
        try:
            # In this order: only hashes in the database are looked up by URL.
            mime, path = get_media(store, sha256).mime, media_path(store, sha256)
        except StoreError as error:
            raise HTTPException(404, str(error)) from None
        headers = {
            "Cache-Control": "private, max-age=31536000, immutable",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
        }
        return FileResponse(path, media_type=mime, headers=headers)

    def completions(request: Request) -> Response:
        try:
            query = _unique_parameters(request)
            uid = query.get("run")
            search = trace_search.parse_search(query, resolve_run(store, uid) if uid else None)
            matches = search.matcher()
        except StoreError as error:
            raise HTTPException(400, str(error)) from None
        headers = {
            "Content-Disposition": 'attachment; filename="completions.jsonl"',
            "X-Content-Type-Options": "nosniff",
        }
        return StreamingResponse(_json_lines(store, search, matches), media_type="application/jsonl", headers=headers)

    def library(_request: Request) -> Response:
        return FileResponse(plotly_js, media_type="text/javascript", headers={"Cache-Control": FOR_EVER})

    def first_page(request: Request) -> Response:
        # Streamlit serves its default page only at the root.
        return RedirectResponse(f"./?{query}" if (query := request.url.query) else "./", status_code=307)

    below = f"/{base}" if base else ""
    return [
        Route(f"{below}/runs", first_page),
        Route(f"{below}/api/health", health),
        Route(f"{below}/api/media/{{sha256}}", media),
        Route(f"{below}/api/completions.jsonl", completions),
        *recording.routes(store, below, sign_in),
        Route(below + LIBRARY_ROUTE, library),
        Route(below + sign_in_page.PATH, sign_in_page.start),
    ]


def _unique_parameters(request: Request) -> dict[str, str]:
    """Return the query of a URL. Raises StoreError if a name occurs twice."""
    pairs = request.query_params.multi_items()
    if repeated := next((name for name, count in Counter(name for name, _ in pairs).items() if count > 1), None):
        raise StoreError(f"{repeated!r} occurs more than once: give each filter once.")
    return dict(pairs)


def _json_lines(store: Store, search: Search, matches: Matcher | None) -> Iterator[str]:
    """Yield the search results, one per line; if the search ends early, the last line says why."""
    try:
        for line in trace_search.export_lines(store, search, matches):
            yield json.dumps(line, ensure_ascii=False) + "\n"
    except StoreError as error:
        yield json.dumps({"error": str(error)}) + "\n"


def lifespan(store: Store) -> Callable[[st.App], AbstractAsyncContextManager[None]]:
    """Run a thread that closes jobs and indexes whose process is gone, for as long as the server runs."""

    @contextlib.asynccontextmanager
    async def live(_app: st.App) -> AsyncIterator[None]:
        prepare()
        with contextlib.suppress(StoreError):  # the error is reported to recorders
            token.token_of(store)
        stopped = threading.Event()
        thread = threading.Thread(target=_reconcile, args=(store, stopped), name="reconcile", daemon=True)
        thread.start()
        threading.Thread(target=_take_in_journals, args=(store, stopped), name="journals", daemon=True).start()
        yield
        stopped.set()
        thread.join(timeout=2 * RECONCILE_EVERY)

    return live


def _take_in_journals(store: Store, stopped: threading.Event) -> None:
    """Import at startup, and then regularly, what scripts on this machine left behind when they ended."""
    sweep = JournalSweep(store, identity.host())
    while True:
        try:
            for message in leftover.summarize_results(sweep.look()):
                log.warning(message)
        except Exception:
            log.exception("Could not import journals; trying again in %g seconds.", JOURNALS_EVERY)
        if stopped.wait(JOURNALS_EVERY):
            return


def prepare() -> None:
    """Import the pages' modules, and exclude them from garbage collection.

    Streamlit runs a full garbage collection after each run of a page: a tenth of a second on a slow processor, every
    other second for each tab that follows a run.
    """
    for module in pkgutil.walk_packages(app.__path__, "app."):
        if not module.name.endswith((".__main__", ".main")):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()


def _reconcile(store: Store, stopped: threading.Event) -> None:
    supervisor, herald_at = Supervisor(store), 0.0
    while True:
        try:
            HEARTBEATS.update(list_jobs(store, open_only=True))
            for message in (*supervisor.look(), *indexing.close_gone(store)):
                log.warning(message)
            if time.monotonic() - herald_at > FINDINGS_EVERY:
                herald_at = time.monotonic()
                webhook.send_findings(store)
        except Exception:
            log.exception("Could not check the jobs; trying again in %g seconds.", RECONCILE_EVERY)
        if stopped.wait(RECONCILE_EVERY):
            return
