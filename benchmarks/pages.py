"""Time pages with 500,000 completions and 5 million metrics, and with 2,000 runs: `python -m benchmarks.pages`.

`python -m benchmarks.pages many` measures only the 2,000 runs. Caches have no data of the runs when a page is opened,
but the server has already shown the page with a short run. Server time is processor time of the page's script; the time
until the first chart, trace or table is wall time in a real browser, including all of the page's assets. Exits with 1
if a median misses its target.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

import streamlit as st
from playwright.sync_api import Browser
from streamlit.testing.v1 import AppTest

from app import server
from app.run import charts
from benchmarks import emergence, many
from scripts import browsing
from store.db.engine import open_store
from store.runs import create_run, list_run_heads, list_runs
from store.steps import record_metrics

RUNS, NAMES, SHORT = 10, 64, 5
SERVER, PAINT, SERVER_OF_MANY = 0.3, 2.0, 0.5
"""Targets in seconds; the last is for very many runs."""
REPEATS = 5
TITLE = "[data-testid='stMain'] h1"
FIRST = {
    "": "[data-testid='stDataFrame']",
    "run": ".live-chart .main-svg",
    "curves": ".live-chart .main-svg",
    "emergence": ".live-chart .main-svg",
    "traces": ".tv",
    "find": ".tv-place a",
    "rewards": TITLE,
    "compare": TITLE,
    "drift": TITLE,
    "datasets": TITLE,
    "launch": TITLE,
    "system": TITLE,
}
"""The first useful element on each page."""


def main() -> int:
    logging.disable(logging.WARNING)  # Streamlit warns that this is not a server
    with tempfile.TemporaryDirectory() as folder:
        is_met = of_many_runs(Path(folder) / "many.db")
        if sys.argv[1:] != ["many"]:
            is_met &= of_a_long_run(Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/pages.db").resolve())
    print("met" if is_met else "MISSED")
    return 0 if is_met else 1


def of_many_runs(database: Path) -> bool:
    """Open every page with 2,000 runs a few times; return whether the medians meet the target."""
    store = open_store(str(database))
    many.fill(store)
    uids = [run.uid for run in list_run_heads(store)]
    store.close()
    os.environ["VR1Z_DATABASE_URL"] = f"sqlite:///{database}"
    server.prepare()
    is_met = True
    for path in FIRST:
        times = [server_time(path, uids[-1], uids[0]) for _ in range(REPEATS)]
        print(f"{path or 'runs':10} of {len(uids)} runs: server {spread(times)}", flush=True)
        is_met &= median(times) <= SERVER_OF_MANY
    return is_met


def of_a_long_run(database: Path) -> bool:
    if not database.exists():
        fill(database)
    os.environ["VR1Z_DATABASE_URL"] = f"sqlite:///{database}"
    server.prepare()
    with browsing.browser() as browser:
        return all([measured(browser, database, path) for path in FIRST])


def measured(browser: Browser, database: Path, path: str) -> bool:
    """Open a page a few times; return whether the medians meet the targets."""
    store = open_store(str(database), readonly=True)
    uids = {run.name: run.uid for run in list_runs(store)}
    store.close()
    script = [server_time(path, uids["short"], uids["long"]) for _ in range(REPEATS)]
    paint = [first_paint(browser, database, path, uids) for _ in range(REPEATS)]
    print(f"{path or 'runs':10} server {spread(script)}  first paint {spread(paint)}", flush=True)
    return median(script) <= SERVER and median(paint) <= PAINT


def spread(times: Sequence[float]) -> str:
    return f"{median(times):5.2f} s ({min(times):.2f} to {max(times):.2f})"


def fill(database: Path) -> None:
    """Create the long run with completions, nine equally long runs without, and a short one."""
    store = open_store(str(database))
    emergence.fill(store)
    emergence.fill(store, "short", SHORT)
    for number in range(RUNS - 1):
        create_run(
            store,
            name=f"other {number}",
            method="grpo",
            style="cot",
            model="tiny",
            dataset="d",
            config={},
            reward_weights={},
        )
    all_charts = (*charts.outcome("grpo", ["format", "accuracy", "steps"]), *charts.optimization("grpo"))
    names = {name for chart in all_charts for name in chart.metrics}
    names |= {f"other/{number}" for number in range(NAMES - len(names))}
    lengths = {run.id: SHORT if run.name == "short" else emergence.STEPS for run in list_runs(store)}
    for run_id in lengths:
        record_metrics(store, run_id, 0, dict.fromkeys(names, 0.0))
    store.close()
    with closing(sqlite3.connect(database)) as connection, connection:
        ids = [id for name, id in connection.execute("select name, id from metric_name") if name in names]
        for run_id, steps in lengths.items():
            values = ((run_id, id, step, step * 0.001 + id) for id in ids for step in range(1, steps + 1))
            insert = "insert or ignore into metric (run_id, name_id, step, value) values (?, ?, ?, ?)"
            connection.executemany(insert, values)


def server_time(path: str, before: str, uid: str) -> float:
    """Return processor seconds until the page of a run is written, after that of another run."""
    app = AppTest.from_file(str(browsing.ROOT / "app" / "main.py"), default_timeout=60).run()
    for run_uid in (before, uid):
        app.query_params["run"] = run_uid
        st.cache_data.clear()
        start = time.process_time()
        app.switch_page(f"../pages/{path or 'runs'}.py").run()
        assert not app.exception, app.exception
    return time.process_time() - start


def first_paint(browser: Browser, database: Path, path: str, uids: Mapping[str, str]) -> float:
    """Return seconds until the first useful element of the long run's page is visible, after the short run's page."""
    with (
        tempfile.TemporaryDirectory() as folder,
        browsing.serving(f"sqlite:///{database}", Path(folder) / "log") as served,
    ):
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        browsing.goto(page, f"{served.url}/{path}?run={uids['short']}")
        time.sleep(1.5)  # let the one-second caches expire
        page.goto("about:blank")
        start = time.monotonic()
        page.goto(f"{served.url}/{path}?run={uids['long']}", wait_until="commit")
        page.locator(FIRST[path]).first.wait_for(timeout=60_000)
        seconds = time.monotonic() - start
        page.close()
    return seconds


if __name__ == "__main__":
    sys.exit(main())
