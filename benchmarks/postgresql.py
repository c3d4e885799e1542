"""Compare PostgreSQL with SQLite on this machine: `python -m benchmarks.postgresql`; needs requirements-dev.txt.

Eight processes record steps with 40 metrics and 8 completions to a real server, at a fixed pace and as fast as
possible; then the pages' reads among 500,000 completions are timed on the same rows in both. Exits with 1 if a target
is missed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import find as finder
from benchmarks.store import COMPLETIONS, METRICS, completion, metrics, new_run
from store.care import copying
from store.completions import emergence
from store.completions.find import ORDERS, Order, TraceFilter, count_found, find_completions
from store.completions.rows import get_step_bounds, list_groups
from store.db.engine import Store, open_store
from store.metrics import read_clock
from store.runs import list_runs
from store.steps import record_metrics, record_step
from tests import postgres

WRITERS, STEPS, PACE = 8, 120, 0.25
"""Seconds between a writer's steps, which is faster than any trainer here."""
SLOWEST = 0.050
REPEATS, WORST_RATIO = 5, 2.0


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, postgres.server(is_durable=True) as server:
        met = [writes(server, PACE, SLOWEST), writes(server, 0.0, None), reads(server, Path(folder))]
    return 0 if all(met) else 1


def writes(server: str, pace: float, slowest: float | None) -> bool:
    with postgres.database(server) as url:
        open_store(url).close()
        command = [sys.executable, "-m", "benchmarks.postgresql", url, str(pace)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(WRITERS)]
        commit_seconds = [np.array([float(line) for line in process.communicate()[0].split()]) for process in processes]
        with closing(open_store(url, readonly=True)) as store:
            stored_steps = sum(len(read_clock(store, run.id).step) for run in list_runs(store))
            texts = count_found(store, TraceFilter())
    whole = stored_steps == WRITERS * STEPS and texts == stored_steps * COMPLETIONS
    p99 = max(float(np.percentile(seconds, 99)) for seconds in commit_seconds)
    typical = float(np.median(np.concatenate(commit_seconds)))
    met = whole and (slowest is None or p99 < slowest)
    print(
        f"{WRITERS} writers, one step per {pace:g} s each: {stored_steps} of {WRITERS * STEPS} steps kept, "
        f"commit {1000 * typical:.1f} ms (median), {1000 * p99:.1f} ms (p99 of the slowest writer)  "
        f"{'met' if met else 'MISSED'}",
        flush=True,
    )
    return met


def write_steps(url: str, pace: float) -> None:
    with closing(open_store(url)) as store:
        run_id = new_run(store)
        record_metrics(store, run_id, 0, dict.fromkeys(METRICS, 0.0))
        rows = [completion(index) for index in range(COMPLETIONS)]
        for step in range(1, STEPS + 1):
            start = time.perf_counter()
            record_step(store, run_id, step, metrics(step), at=float(step), completions=rows)
            duration = time.perf_counter() - start
            print(duration)
            time.sleep(max(0.0, pace - duration))


def reads(server: str, folder: Path) -> bool:
    with closing(open_store(str(folder / "find.db"))) as file, postgres.database(server) as url:
        finder.fill(file)
        emergence.add_summaries(file, 1, range(50))
        with closing(open_store(url)) as opened:
            there = replace(opened, media=folder / "media")
            start = time.perf_counter()
            copying.copy(file, there)
            print(f"copied and verified in {time.perf_counter() - start:.0f} s", flush=True)
            return all([compare(name, act, file, there) for name, act in READS.items()])


def _first_page(trace_filter: TraceFilter, by: str) -> Callable[[Store], object]:
    return lambda store: find_completions(store, trace_filter, Order(by, True), limit=25)


READS: dict[str, Callable[[Store], object]] = {
    "runs": list_runs,
    "groups of a step": lambda store: list_groups(store, 1, 700),
    "step bounds": lambda store: get_step_bounds(store, 1),
    "emergence, 50 steps": lambda store: emergence.emergence(store, 1),
    "count, right and long": lambda store: count_found(store, TraceFilter(correct=True, tokens=(80, None))),
    **{f"first page of all, by {by}": _first_page(TraceFilter(), by) for by in ORDERS},
    **{f"first page of a run, by {by}": _first_page(TraceFilter(run_id=1), by) for by in ORDERS},
    "answers of an example": lambda store: find_completions(store, TraceFilter(example_id=7), limit=25),
}


def compare(name: str, act: Callable[[Store], object], file: Store, there: Store) -> bool:
    sqlite, server = [], []
    for _ in range(REPEATS):
        for store, seconds in ((file, sqlite), (there, server)):
            start = time.perf_counter()
            act(store)
            seconds.append(time.perf_counter() - start)
    # Two milliseconds do not matter for a page.
    ratio = median(server) / max(median(sqlite), 0.002)
    met = ratio <= WORST_RATIO
    figures = f"SQLite {1000 * median(sqlite):7.1f} ms, PostgreSQL {1000 * median(server):7.1f} ms"
    print(f"{name:32} {figures}  {'met' if met else 'MISSED'}", flush=True)
    return met


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write_steps(sys.argv[1], float(sys.argv[2]))
    else:
        sys.exit(main())
