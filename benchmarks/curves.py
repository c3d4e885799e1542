"""Time the curves of 50 runs with 100,000 steps: `python -m benchmarks.curves [DATABASE] [--trackio PYTHON]`

The database, a file or a PostgreSQL URL, is filled unless it has runs: 200 million values, about 7 GB in SQLite. One of
the runs is active. Six charts of all runs are drawn. Server time is processor time of the page's script with cold
caches; for a refresh, the curves of ended runs are cached. The time until the first chart is wall time in a real
browser. PYTHON is the interpreter of a fresh environment with `pip install trackio`, whose time to read one run of that
length is compared with ours. Exits with 1 if a median misses its target.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import streamlit as st
from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from app import server
from scripts import browsing
from store import rollups
from store.db.connection import Store, driver_writing
from store.db.engine import open_store
from store.db.states import JobState
from store.jobs import add_job, end_job, start_job
from store.rollups import read_rollups
from store.runs import create_run, list_run_heads
from store.steps import record_metrics

RUNS, STEPS = 50, 100_000
DRAWN = ("reward", "reasoning_steps", "completion_length", "kl", "entropy", "grad_norm")
CHARTS = "Reward,Reasoning,Length,KL,Entropy,Gradient"
METRICS = 40
SERVER, PAINT, REFRESH = 1.0, 2.5, 0.3
"""Targets: at most this many seconds."""
REPEATS = 5
NUMBERS = (
    "WITH RECURSIVE digit(d) AS (SELECT 0 UNION ALL SELECT d + 1 FROM digit WHERE d < 9) "
    "SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d + 1 FROM digit a, digit b, digit c, digit e, digit f"
)
VALUE = "CAST(:name + s * 0.00001 + (s * 7919 + :run * 104729 + :name * 1299709) % 1000 * 0.001 AS FLOAT)"
TRACKIO = """
import sys, time, sqlite3, json
import trackio
from trackio.sqlite_storage import SQLiteStorage
steps, names = int(sys.argv[1]), int(sys.argv[2])
trackio.init(project="curves", name="one")
for step in range(steps):
    trackio.log({f"m{i}": step * 1e-5 + i for i in range(names)}, step=step)
trackio.finish()
times = []
for _ in range(3):
    start = time.perf_counter()
    found = SQLiteStorage.get_logs("curves", "one", max_points=3000)
    times.append(time.perf_counter() - start)
print(sorted(times)[1])
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("database", nargs="?", help="file or URL (default: a temporary file)")
    parser.add_argument("--trackio", metavar="PYTHON", help="interpreter of an environment with trackio")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each run (default: %(default)s)")
    parser.add_argument("--metrics", type=int, default=METRICS, help="of each run (default: %(default)s)")
    options = parser.parse_args()
    names = (*DRAWN, *(f"other/{number}" for number in range(options.metrics - len(DRAWN))))
    logging.disable(logging.WARNING)  # Streamlit warns that this is not a server
    with tempfile.TemporaryDirectory() as folder:
        place = options.database or f"{folder}/curves.db"
        store = open_store(place)
        if not list_run_heads(store):
            print(f"filled in {timed(lambda: fill(store, options.steps, names)):.0f} s", flush=True)
        is_met = measure(store)
        beside_trackio(store, options.trackio, options.steps, names)
        store.close()
    print("met" if is_met else "MISSED")
    return 0 if is_met else 1


def fill(store: Store, steps: int, metrics: Sequence[str]) -> None:
    """Create the runs, of which all but the last have ended."""
    for number in range(RUNS):
        run = create_run(
            store,
            name=f"run {number}",
            method="grpo",
            style="cot",
            model="tiny",
            dataset="shapes-simple",
            config={"seed": number % 5, "lora": {"rank": 8 * (1 + number // 5)}},
            reward_weights={"format": 1.0},
            max_steps=steps,
        )
        job = add_job(store, run.id, "train", {})
        start_job(store, job.id, host="here", boot_id="boot", pid=1, pid_started=1.0, log_path="log")
        record_metrics(store, run.id, 0, dict.fromkeys(metrics, 0.0))
        if number < RUNS - 1:
            end_job(store, job.id, JobState.FINISHED, exit_code=0)
    with store.engine.connect() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE number (s INTEGER PRIMARY KEY)"))
        connection.execute(text(f"INSERT INTO number {NUMBERS}"))
        connection.execute(text("DELETE FROM number WHERE s > :steps"), {"steps": steps})
        names = dict(connection.execute(text("SELECT name, id FROM metric_name")).all())  # type: ignore[arg-type]
        add = f"INSERT INTO metric (run_id, name_id, step, value) SELECT :run, :name, s, {VALUE} FROM number ORDER BY s"
        clock = 'INSERT INTO step (run_id, step, "at", tokens) SELECT :run, s, 1.7e9 + s, 900.0 * s FROM number'
        ids = [row.id for row in connection.execute(text("SELECT id FROM run ORDER BY id"))]
        for run_id in ids:
            for name in sorted(names[each] for each in metrics):
                connection.execute(text(add), {"run": run_id, "name": name})
            connection.execute(text(clock), {"run": run_id})
            connection.commit()
        connection.execute(text("UPDATE run SET step = :steps"), {"steps": steps})
        connection.commit()
    for run_id in ids:
        with driver_writing(store) as cursor:
            rollups.build(cursor, run_id)


def measure(store: Store) -> bool:
    os.environ["VR1Z_DATABASE_URL"] = store.url
    server.prepare()
    uids = ",".join(run.uid for run in list_run_heads(store))
    app = AppTest.from_file(str(browsing.ROOT / "app" / "main.py"), default_timeout=600).run()
    app.query_params["runs"], app.query_params["charts"], app.query_params["group"] = uids, CHARTS, "-"
    cold, again = [], []
    for _ in range(REPEATS):
        st.cache_data.clear()
        cold.append(processor(lambda: app.switch_page("../pages/curves.py").run()))
        assert not app.exception, app.exception
        time.sleep(1.1)  # let the one-second caches expire, as they have when a live page refreshes
        again.append(processor(lambda: app.run()))
    paints = first_paints(store.url, f"curves?runs={uids}&charts={CHARTS}&group=-")
    for label, times, most in (
        ("server, six charts", cold, SERVER),
        ("refresh", again, REFRESH),
        ("first chart", paints, PAINT),
    ):
        print(f"{label:20} {median(times):5.2f} s ({min(times):.2f} to {max(times):.2f}), at most {most} s", flush=True)
    return median(cold) <= SERVER and median(again) <= REFRESH and median(paints) <= PAINT


def first_paints(url: str, address: str) -> list[float]:
    """Return seconds until the first chart is visible, on a server that has already loaded the page's code."""
    times = []
    with tempfile.TemporaryDirectory() as folder, browsing.browser() as browser:
        for _ in range(3):
            with browsing.serving(url, Path(folder) / "log") as served:
                page = browser.new_page(viewport={"width": 1440, "height": 900})
                browsing.goto(page, f"{served.url}/runs")
                page.goto("about:blank")
                start = time.monotonic()
                page.goto(f"{served.url}/{address}", wait_until="commit")
                page.locator(".live-chart .main-svg").first.wait_for(timeout=120_000)
                times.append(time.monotonic() - start)
                page.close()
    return times


def beside_trackio(store: Store, python: str | None, steps: int, names: Sequence[str]) -> None:
    """Time reading all metrics of one long run, as trackio's dashboard does and as ours does."""
    run = list_run_heads(store)[0].id
    our_seconds = median(
        timed(lambda: [read_rollups(store, [run], name, points=1500) for name in names]) for _ in range(3)
    )
    print(f"ours: {our_seconds:.2f} s for {len(names)} metrics of one run in 1,500 ranges each", flush=True)
    if python is None:
        print("trackio is not measured. Use --trackio with the interpreter of an environment that has it.")
        return
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"TRACKIO_DIR": folder, "HF_HUB_OFFLINE": "1"}
        command = [python, "-c", TRACKIO, str(steps), str(len(names))]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"trackio failed: {done.stderr.strip().splitlines()[-1]}")
        return
    trackio_seconds = float(done.stdout.split()[-1])
    ratio = trackio_seconds / our_seconds
    print(f"trackio: {trackio_seconds:.2f} s for the same in 3,000 points; {ratio:.1f} times as long")


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def processor(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    sys.exit(main())
