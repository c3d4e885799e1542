"""Measure the speed and durability of the store compared with bare sqlite3: `python -m benchmarks.store`.

Both sides do the same with the same pragmas, alternately, so that a busy machine slows both. Only the ratios are
meaningful; each is the median over the turns. Exits with 1 if a target is missed.
"""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from sqlalchemy.dialects import sqlite

from store.completions.summary import summarize
from store.db.engine import Store, open_store
from store.db.rows import CompletionRow
from store.jobs import add_job
from store.metrics import EXTREMES, range_width, read_clock, read_series
from store.runs import create_run
from store.steps import record_metrics, record_step

STEPS, BLOCKS = 2000, 10
METRICS = [f"metric/{number}" for number in range(40)]
COMPLETIONS, COMPLETION_CHARACTERS = 8, 1500
POINTS, KEPT, SPIKES, READS = 100_000, 2000, 20, 9
KILLS = 5

PRAGMAS = (
    *("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"),
    *("temp_store = MEMORY", "cache_size = -20000", "journal_size_limit = 67108864"),
)
ADD_STEP = 'INSERT INTO step (run_id, step, "at", tokens) VALUES (?, ?, ?, ?)'
ADD_METRIC = "INSERT INTO metric (run_id, name_id, step, value) VALUES (?, ?, ?, ?)"
ADD_COMPLETION = (
    'INSERT INTO completion (run_id, step, generation, "group", "index", example_id, advantage, text, think_start, '
    "think_end, answer_start, answer_end, answer, wellformed, correct, reasoning_steps, tokens, truncated, reward, "
    f"rewards) VALUES ({', '.join('?' * 20)})"
)
ADD_SUMMARY = "INSERT INTO step_summary (run_id, step, figures) VALUES (?, ?, ?)"
ADVANCE = "UPDATE run SET step = ? WHERE id = ? AND step < ?"
BEAT = "UPDATE job SET heartbeat = heartbeat + 1, spoke_at = ?, activity = 'training' WHERE id = ? RETURNING id"


class Result(NamedTuple):
    what: str
    ours: str
    bare: str
    ratio: float
    target: str
    met: bool


def main() -> int:
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        for part in (writes, texts, reads, kills):
            results += part(Path(folder))
    print(f"{'what':40} {'ours':>14} {'bare sqlite3':>14} {'ratio':>6}  target")
    for row in results:
        figures = f"{row.ours:>14} {row.bare:>14} {row.ratio:6.2f}  {row.target:12}"
        print(f"{row.what:40} {figures} {'met' if row.met else 'MISSED'}")
    return 0 if all(row.met for row in results) else 1


def writes(folder: Path) -> Iterator[Result]:
    """Measure one commit per step of 40 metrics."""
    yield _speed(f"{STEPS:,} steps of {len(METRICS)} metrics", *_record_both(folder, "writes", []))


def texts(folder: Path) -> Iterator[Result]:
    """Measure the same with completions, and their size on disk."""
    rows = [completion(index) for index in range(COMPLETIONS)]
    yield _speed(f"  with {COMPLETIONS} completions of {COMPLETION_CHARACTERS} B", *_record_both(folder, "texts", rows))
    raw = STEPS * sum(len(row.text.encode()) for row in rows)
    our_size, bare_size = ((folder / f"texts-{side}.db").stat().st_size for side in ("ours", "bare"))
    yield Result(
        "  on disk, against the raw text",
        _mb(our_size),
        _mb(bare_size),
        our_size / raw,
        "at most 2",
        our_size <= 2 * raw,
    )


def reads(folder: Path) -> Iterator[Result]:
    """Measure reading a long curve, downsampled to what a chart can show."""
    store = open_store(str(folder / "reads.db"))
    run_id = new_run(store)
    record_metrics(store, run_id, 0, {"reward": 0.0})
    name_id = store.metric_ids["reward"]
    dice = random.Random(1)
    spikes = set(dice.sample(range(1, POINTS), SPIKES))
    curve = [(run_id, name_id, step, 100.0 if step in spikes else dice.random()) for step in range(1, POINTS)]
    with sqlite3.connect(folder / "reads.db") as connection:
        connection.executemany(ADD_METRIC, curve)
    bounds = {"first": 0, "last": POINTS - 1, "width": range_width(0, POINTS - 1, KEPT)}
    query = EXTREMES.params(run_id=run_id, name_id=name_id, **bounds)
    sql = str(query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    our_seconds, bare_seconds = [], []
    for _ in range(READS):
        our_seconds.append(_seconds(lambda: read_series(store, run_id, ["reward"], points=KEPT)))
        bare_seconds.append(_seconds(lambda: connection.execute(sql).fetchall()))
    ratio = median(a / b for a, b in zip(our_seconds, bare_seconds, strict=True))
    yield Result(
        f"{POINTS:,} points down to {KEPT:,}", _ms(our_seconds), _ms(bare_seconds), ratio, "at most 1.5", ratio <= 1.5
    )
    read_curve = read_series(store, run_id, ["reward"], points=KEPT)["reward"]
    spikes_kept = int((read_curve.value == 100.0).sum())
    fine = spikes_kept == SPIKES and len(read_curve.step) <= KEPT and read_curve.total == POINTS
    yield Result("  one-step spikes kept", f"{spikes_kept} of {SPIKES}", "", spikes_kept / SPIKES, "all", fine)
    connection.close()
    store.close()


def kills(folder: Path) -> Iterator[Result]:
    """Kill a writer, and check that every step for which `record_step` returned is stored."""
    missing = reported = 0
    for number in range(KILLS):
        path = str(folder / f"kill-{number}.db")
        last = _run_and_kill(path, after=20 + 40 * number)
        store = open_store(path, readonly=True)
        curves = read_series(store, 1, METRICS, points=10**6).values()
        stored = [
            int((steps <= last).sum()) for steps in (read_clock(store, 1).step, *(curve.step for curve in curves))
        ]
        missing += last - min(stored)
        reported += last
        store.close()
    yield Result(
        f"lost of {reported:,} steps in {KILLS} kill -9", str(missing), "", missing / reported, "none", missing == 0
    )


def _run_and_kill(path: str, after: int) -> int:
    """Return the last step that a writer reported before it was killed, after at least `after` steps."""
    writer = subprocess.Popen([sys.executable, "-m", "benchmarks.store", path], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    reported = [int(writer.stdout.readline()) for _ in range(after)]
    writer.send_signal(signal.SIGKILL)
    reported += map(int, writer.stdout.read().split("\n")[:-1])
    writer.stdout.close()
    writer.wait()
    return reported[-1]


def _write_for_ever(path: str) -> None:
    store = open_store(path)
    run_id, step = new_run(store), 0
    while True:
        step += 1
        record_step(store, run_id, step, metrics(step), at=float(step), completions=[completion(0)])
        print(step, flush=True)


def _record_both(folder: Path, name: str, rows: list[CompletionRow]) -> tuple[list[float], list[float]]:
    """Return the seconds of each block of steps, ours and bare, in two files with the same tables."""
    store, other = (open_store(str(folder / f"{name}-{side}.db")) for side in ("ours", "bare"))
    for database in (store, other):
        run_id = new_run(database)
        job_id = add_job(database, run_id, "train", {}).id
    other.close()
    connection = sqlite3.connect(folder / f"{name}-bare.db", isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    connection.executemany("INSERT INTO metric_name (id, name) VALUES (?, ?)", list(enumerate(METRICS)))

    def ours(step: int) -> None:
        record_step(store, run_id, step, metrics(step), at=float(step), completions=rows, job_id=job_id)

    def bare(step: int) -> None:
        _bare_step(connection, run_id, step, rows, job_id)

    sides: list[tuple[Callable[[int], None], list[float]]] = [(ours, []), (bare, [])]
    for block in range(BLOCKS):
        for record, seconds in sides if block % 2 else reversed(sides):
            seconds.append(_seconds(partial(_block, record, block)))
    connection.close()
    store.close()
    return sides[0][1], sides[1][1]


def _block(record: Callable[[int], None], block: int) -> None:
    for step in range(block * STEPS // BLOCKS, (block + 1) * STEPS // BLOCKS):
        record(step)


def _bare_step(connection: sqlite3.Connection, run_id: int, step: int, rows: list[CompletionRow], job_id: int) -> None:
    """Store what `record_step` stores, with bare sqlite3."""
    values = metrics(step)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(ADD_STEP, (run_id, step, float(step), None))
    connection.executemany(ADD_METRIC, [(run_id, number, step, values[name]) for number, name in enumerate(METRICS)])
    if rows:
        connection.executemany(ADD_COMPLETION, [(run_id, step, *_bare_completion(row)) for row in rows])
        connection.execute(ADD_SUMMARY, (run_id, step, json.dumps(summarize(rows, {}))))
    connection.execute(ADVANCE, (step, run_id, step))
    connection.execute(BEAT, (time.time(), job_id)).fetchone()
    connection.execute("COMMIT")


def _bare_completion(row: CompletionRow) -> tuple[object, ...]:
    return (
        *(row.generation, row.group, row.index, row.example_id, row.advantage, row.text),
        *(*(row.think or (None, None)), *(row.answer_span or (None, None)), row.answer, row.wellformed),
        *(row.correct, row.reasoning_steps, row.tokens, row.truncated, row.reward, json.dumps(row.rewards)),
    )


def new_run(store: Store) -> int:
    run = create_run(
        store, name="a", method="grpo", style="cot", model="tiny", dataset="shapes", config={}, reward_weights={}
    )
    return run.id


def metrics(step: int) -> dict[str, float]:
    return {name: step + number / 100 for number, name in enumerate(METRICS)}


def completion(index: int) -> CompletionRow:
    words = "".join(random.Random(index).choices("abcdefghijklmnopqrstuvwxyz 123.", k=COMPLETION_CHARACTERS - 33))
    text = f"<think>{words}</think><answer>3</answer>"
    end = text.index("</think>")
    return CompletionRow(
        text=text,
        think=(7, end),
        answer_span=(end + 16, end + 17),
        answer=3,
        wellformed=True,
        correct=index % 2 == 0,
        reasoning_steps=3,
        tokens=400,
        reward=2.3,
        rewards={"format": 1.0, "accuracy": 1.0, "steps": 0.3},
        generation=0,
        group=0,
        index=index,
        advantage=0.5,
    )


def _speed(title: str, our_seconds: list[float], bare_seconds: list[float]) -> Result:
    ratio = median(b / a for a, b in zip(our_seconds, bare_seconds, strict=True))
    return Result(title, _rate(our_seconds), _rate(bare_seconds), ratio, "at least 0.5", ratio >= 0.5)


def _rate(seconds: list[float]) -> str:
    return f"{STEPS / BLOCKS / median(seconds):,.0f} steps/s"


def _seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def _ms(seconds: list[float]) -> str:
    return f"{median(seconds) * 1000:.1f} ms"


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _write_for_ever(sys.argv[1])
    sys.exit(main())
