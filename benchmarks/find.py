"""Time searches among 500,000 completions: `python -m benchmarks.find`.

Measures the first page and the count for every order and for filters with many and few matches, and how soon a text
search has its first match. Exits with 1 if a target is missed.
"""

from __future__ import annotations

import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from store.completions.find import ORDERS, Order, TraceFilter, count_found, find_completions, scan_completions
from store.completions.patterns import Matcher, containing, matching
from store.db.engine import Store, open_store, sqlite_path
from store.db.rows import ExampleRow
from store.examples import add_examples
from store.runs import create_run, list_runs

RUNS, STEPS, GROUPS, SIZE = 5, 1563, 8, 8
EXAMPLES = 2000
REPEATS, FIRST_PAGE, FIRST_MATCHES = 3, 0.5, 1.0
ADD = (
    'INSERT INTO completion (run_id, step, generation, "group", "index", example_id, advantage, text, think_start, '
    "think_end, answer_start, answer_end, answer, wellformed, correct, steps, tokens, truncated, reward, rewards) "
    f"VALUES ({', '.join('?' * 20)})"
)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(sys.argv[1] if len(sys.argv) > 1 else str(Path(folder) / "find.db"))
        if not list_runs(store):
            fill(store)
        slow = [name for name, seconds, target in measure(store) if seconds > target]
        store.close()
    return 1 if slow else 0


def measure(store: Store) -> list[tuple[str, float, float]]:
    everything, one = TraceFilter(), TraceFilter(run_id=1)
    filters = {
        "all runs": everything,
        "one run": one,
        "all runs, right and long": TraceFilter(correct=True, tokens=(80, None)),
        "all runs, malformed, steps 100 to 900, answer 3": TraceFilter(wellformed=False, step=(100, 900), answer=3),
        "all runs, truncated, reward at most 0.5": TraceFilter(truncated=True, reward=(None, 0.5)),
        "one run, one example": one._replace(example_id=7),
        "none matches": TraceFilter(reward=(99, None)),
    }
    rows = []
    for name, trace_filter in filters.items():
        for by in ORDERS:
            for descending in (True, False):
                order = Order(by, descending)
                seconds = timed(
                    lambda wanted=trace_filter, order=order: find_completions(store, wanted, order, limit=25)
                )
                rows.append((f"{name}, by {by} {'down' if descending else 'up'}", seconds, FIRST_PAGE))
        rows.append((f"{name}, count", timed(lambda wanted=trace_filter: count_found(store, wanted)), FIRST_PAGE))
    texts = {
        "substring in one of 1,000": containing("purple hexagon"),
        "expression in one of 1,000": matching(r"purple\s+hex\w+"),
    }
    for name, matches in texts.items():
        for by in ORDERS:
            seconds = timed(lambda m=matches, by=by: first_match(store, m, Order(by, True)))
            rows.append((f"{name}, by {by}, first match", seconds, FIRST_MATCHES))
        start = time.perf_counter()
        count = sum(id is not None for id in scan_completions(store, everything, matches, Order("reward", True)))
        rows.append((f"{name}, all texts ({count} found)", time.perf_counter() - start, 60.0))
    for name, seconds, target in rows:
        print(f"{name:60} {1000 * seconds:8.0f} ms  at most {target} s  {'met' if seconds <= target else 'MISSED'}")
    return rows


def first_match(store: Store, matches: Matcher, order: Order) -> int | None:
    return next((id for id in scan_completions(store, TraceFilter(), matches, order) if id is not None), None)


def timed(act: Callable[[], object]) -> float:
    """Return the median seconds."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def fill(store: Store) -> None:
    """Create runs with texts of about 300 characters, of which one in a thousand has a purple hexagon."""
    examples = [
        ExampleRow(dataset="d", split="train", key=str(i), question="How many?", answer=3) for i in range(EXAMPLES)
    ]
    ids = add_examples(store, examples)
    path = sqlite_path(store.engine.url)
    assert path is not None
    dice = random.Random(0)
    connection = sqlite3.connect(path)
    for _ in range(RUNS):
        run = create_run(
            store, name="a", method="grpo", style="cot", model="tiny", dataset="d", config={}, reward_weights={}
        )
        rows = (
            _row(dice, run.id, step, group, index, ids)
            for step in range(STEPS)
            for group in range(GROUPS)
            for index in range(SIZE)
        )
        with connection:
            connection.executemany(ADD, rows)
            connection.execute("UPDATE run SET step = ? WHERE id = ?", (STEPS, run.id))
    connection.close()


def _row(dice: random.Random, run_id: int, step: int, group: int, index: int, ids: list[int]) -> tuple[object, ...]:
    words = " ".join(dice.choices(("red", "circle", "top", "left", "1.", "2.", "square", "small"), k=45))
    extra = " purple hexagon" if dice.random() < 0.001 else ""
    text = f"<think>{words}{extra}</think><answer>{index}</answer>"
    think_end = text.index("</think>")
    values = (index, dice.random() < 0.8, index == 3, dice.randrange(9), dice.randrange(20, 112), dice.random() < 0.05)
    spans = (7, think_end, think_end + 16, think_end + 17)
    place = (run_id, step, step, group, index, ids[(step * GROUPS + group) % len(ids)], dice.gauss(0, 1))
    return (*place, text, *spans, *values, 3 * dice.random(), '{"format": 1.0}')


if __name__ == "__main__":
    sys.exit(main())
