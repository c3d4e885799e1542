"""Measure how disk space and reads grow with the number of runs: `python -m benchmarks.sizing [RUNS ...]`.

One database grows by runs of 100 steps, each with 40 metrics and 8 completions of 1,500 characters. Times are processor
time of this process, so that a busy machine does not matter; those of reads are medians. The last column extrapolates
the line through the last two sizes to a hundred times the largest. It is not a measurement.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median

from benchmarks.store import COMPLETIONS, METRICS, completion, metrics, new_run
from store.completions.find import ORDERS, Order, TraceFilter, count_found, find_completions
from store.completions.rows import list_groups
from store.db.engine import Store, open_store
from store.evaluations.records import list_evaluations
from store.metrics import read_clock, read_series
from store.runs import get_run, list_runs
from store.steps import record_metrics, record_step

SIZES, STEPS, REPEATS, BEYOND = (10, 40, 160), 100, 7, 100
Read = Callable[[Store, int], object]
"""Reads to time; the second argument is the newest run's id."""
READS: dict[str, Read] = {
    "the list of runs": lambda store, run: list_runs(store),
    "a run, its clock and evaluations": lambda store, run: (
        get_run(store, run),
        read_clock(store, run),
        list_evaluations(store, run),
    ),
    "four curves of a run": lambda store, run: read_series(store, run, METRICS[:4], points=500),
    "the groups of a step": lambda store, run: list_groups(store, run, STEPS // 2),
    "Find in a run, by reward": lambda store, run: _page(store, TraceFilter(run_id=run), "reward"),
    **{f"Find in all runs, by {by}": lambda store, run, by=by: _page(store, TraceFilter(), by) for by in ORDERS},
    "Find in all runs, the wrong and long": lambda store, run: _page(
        store, TraceFilter(correct=False, tokens=(300, None)), "tokens"
    ),
    "their count": lambda store, run: count_found(store, TraceFilter(correct=False, tokens=(300, None))),
}


def main() -> int:
    sizes = [int(word) for word in sys.argv[1:]] or list(SIZES)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sizing.db"
        with closing(open_store(str(file))) as store:
            columns = [_measured(store, file, size) for size in sizes]
    print(f"{'':40}" + "".join(f"{size:>9,} runs" for size in (*sizes, BEYOND * sizes[-1])))
    for measure in columns[0]:
        values = [column[measure] for column in columns]
        print(
            f"{measure:40}" + "".join(f"{value:14,.1f}" for value in (*values, _continued(sizes, values))), flush=True
        )
    return 0


def _measured(store: Store, file: Path, size: int) -> dict[str, float]:
    """Return the measurements of a database after filling it up to `size` runs."""
    started, before = time.process_time(), len(list_runs(store))
    for _ in range(before, size):
        run = _fill(store)
    seconds = (time.process_time() - started) / ((size - before) * STEPS)
    figures = {
        "steps": float(size * STEPS),
        "completions": float(size * STEPS * COMPLETIONS),
        "MB of database": sum(each.stat().st_size for each in file.parent.glob(f"{file.name}*")) / 1e6,
        "a step written, ms": 1000 * seconds,
    }
    return figures | {f"{name}, ms": 1000 * _seconds(lambda act=act: act(store, run)) for name, act in READS.items()}


def _fill(store: Store) -> int:
    run = new_run(store)
    record_metrics(store, run, 0, dict.fromkeys(METRICS, 0.0))
    rows = [completion(index) for index in range(COMPLETIONS)]
    for step in range(1, STEPS + 1):
        record_step(store, run, step, metrics(step), at=float(step), completions=rows)
    return run


def _page(store: Store, trace_filter: TraceFilter, by: str) -> object:
    return find_completions(store, trace_filter, Order(by, True), limit=25)


def _seconds(act: Callable[[], object]) -> float:
    def once() -> float:
        start = time.process_time()
        act()
        return time.process_time() - start

    return median(once() for _ in range(REPEATS))


def _continued(sizes: list[int], values: list[float]) -> float:
    """Extrapolate the line through the last two points to BEYOND times the last size, never below the last value."""
    if len(sizes) < 2:
        return values[-1]
    slope = (values[-1] - values[-2]) / (sizes[-1] - sizes[-2])
    return max(values[-1] + slope * (BEYOND - 1) * sizes[-1], values[-1])


if __name__ == "__main__":
    sys.exit(main())
