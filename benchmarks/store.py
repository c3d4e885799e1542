"""How fast and how safe is the store? Beside bare sqlite3, in one run, on this machine: `python -m benchmarks.store`.

Both sides write the same rows with the same commits under the same pragmas, in alternating blocks, so that a busy
machine slows both; only the ratios mean something. Exits 1 when a target is missed.
"""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.dialects import sqlite

from store import read, write
from store.engine import Store, open_store
from store.rows import CompletionRow
from store.series import range_extremes

STEPS, BLOCKS = 2000, 10
METRICS = [f"metric/{number}" for number in range(40)]
COMPLETIONS, COMPLETION_CHARACTERS = 8, 1500
POINTS, KEPT, SPIKES, READS = 100_000, 2000, 20, 9
KILLS = 5
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = NORMAL",
    "foreign_keys = ON",
    "temp_store = MEMORY",
    "cache_size = -20000",
)


class Result(NamedTuple):
    what: str
    ours: str
    bare: str
    ratio: float
    target: str
    met: bool


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        results = [result for part in (writes, texts, reads, kills) for result in part(Path(folder))]
    print(f"{'what':44} {'ours':>16} {'bare sqlite3':>16} {'ratio':>6}  {'target':12}")
    for row in results:
        verdict = "met" if row.met else "MISSED"
        print(f"{row.what:44} {row.ours:>16} {row.bare:>16} {row.ratio:6.2f}  {row.target:12} {verdict}")
    return 0 if all(row.met for row in results) else 1


def writes(folder: Path) -> Iterator[Result]:
    """A commit for each step of 40 metrics."""
    with_texts: list[CompletionRow] = []
    ours, bare = _write_both(folder / "writes", with_texts)
    yield _speed(f"{STEPS:,} steps of {len(METRICS)} metrics", ours, bare)


def texts(folder: Path) -> Iterator[Result]:
    """The same with completions, and what they take on disk."""
    rows = [_completion(index) for index in range(COMPLETIONS)]
    ours, bare = _write_both(folder / "texts", rows)
    yield _speed(f"the same with {COMPLETIONS} completions of {COMPLETION_CHARACTERS / 1000} kB", ours, bare)
    raw = STEPS * sum(len(row.text.encode()) for row in rows)
    disk, bare_disk = ((folder / f"texts-{side}.db").stat().st_size for side in ("ours", "bare"))
    ratio = disk / raw
    yield Result("  on disk, against the raw text", _mb(disk), _mb(bare_disk), ratio, "at most 2", ratio <= 2)


def reads(folder: Path) -> Iterator[Result]:
    """A long curve down to what a chart can show."""
    store = open_store(str(folder / "reads.db"))
    run_id = _new_run(store)
    spikes = set(random.Random(1).sample(range(1, POINTS), SPIKES))
    noise = random.Random(2)
    curve = [(step, 100.0 if step in spikes else noise.random()) for step in range(POINTS)]
    write.record_metrics(store, run_id, 0, {"reward": curve[0][1]})
    name_id = store.metric_ids["reward"]
    statement = str(
        range_extremes(run_id, name_id, 0, POINTS - 1, (KEPT - 2) // 2).compile(
            dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}
        )
    )
    with sqlite3.connect(folder / "reads.db") as connection:
        rows = [(run_id, name_id, *point) for point in curve[1:]]
        connection.executemany("INSERT INTO metric (run_id, name_id, step, value) VALUES (?, ?, ?, ?)", rows)
    ours, bare = [], []
    for _ in range(READS):
        ours.append(_seconds(lambda: read.series(store, run_id, ["reward"], points=KEPT)))
        bare.append(_seconds(lambda: connection.execute(statement).fetchall()))
    ratio = statistics.median(a / b for a, b in zip(ours, bare, strict=True))
    what = f"{POINTS:,} points down to {KEPT:,}"
    yield Result(what, _ms(ours), _ms(bare), ratio, "at most 1.5", ratio <= 1.5)
    found = read.series(store, run_id, ["reward"], points=KEPT)["reward"]
    kept = int((found.value == 100.0).sum())
    fine = kept == SPIKES and len(found.step) <= KEPT and found.total == POINTS
    yield Result("  one-step spikes kept", f"{kept} of {SPIKES}", "", kept / SPIKES, "all", fine)
    connection.close()
    store.close()


def kills(folder: Path) -> Iterator[Result]:
    """A writer says each step that `record_step` returned from, and is killed without warning."""
    lost = said = 0
    for number in range(KILLS):
        path = folder / f"kill-{number}.db"
        writer = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.store", "writer", str(path)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        last, until = 0, time.monotonic() + 30
        wanted = random.Random(number).randrange(20, 200)
        while last < wanted and time.monotonic() < until:
            last = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        last = max([last, *(int(line) for line in writer.stdout.read().split(b"\n")[:-1])])
        writer.wait()
        writer.stdout.close()
        store = open_store(str(path), readonly=True)
        steps = read.series(store, 1, METRICS, points=10**6)
        lost += sum(len(METRICS) > 0 and last - int((curve.step <= last).sum()) for curve in steps.values())
        said += last
        store.close()
    yield Result(
        f"lost of {said:,} steps in {KILLS} kill -9", str(lost), "", lost / max(1, said), "none", lost == 0 < said
    )


def writer(path: str) -> None:
    store = open_store(path)
    run_id = _new_run(store)
    step = 0
    while True:
        step += 1
        write.record_step(store, run_id, step, _metrics(step), at=float(step), completions=[_completion(0)])
        print(step, flush=True)


def _write_both(base: Path, rows: list[CompletionRow]) -> tuple[list[float], list[float]]:
    """Seconds of each block, ours and bare; the two files lie beside each other."""
    ours_path, bare_path = (base.with_name(f"{base.name}-{side}.db") for side in ("ours", "bare"))
    store, empty = open_store(str(ours_path)), open_store(str(bare_path))
    run_id, _ = _new_run(store), _new_run(empty)
    job_id = write.add_job(store, run_id, "train", {}).id
    write.add_job(empty, run_id, "train", {})
    empty.close()
    connection = sqlite3.connect(bare_path, isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    connection.executemany("INSERT INTO metric_name (id, name) VALUES (?, ?)", list(enumerate(METRICS)))

    def ours(step: int) -> None:
        write.record_step(store, run_id, step, _metrics(step), at=float(step), completions=rows, job_id=job_id)

    def bare(step: int) -> None:
        bare_step(connection, run_id, step, _metrics(step), rows, job_id)

    size = STEPS // BLOCKS
    times: tuple[list[float], list[float]] = [], []
    for block in range(BLOCKS):
        pair = list(zip(times, (ours, bare), strict=True))
        for seconds, record in pair if block % 2 else reversed(pair):
            seconds.append(_seconds(lambda record=record, block=block: _block(record, block * size, size)))  # type: ignore[misc]
    connection.close()
    store.close()
    return times


def bare_step(
    connection: sqlite3.Connection,
    run_id: int,
    step: int,
    metrics: dict[str, float],
    rows: list[CompletionRow],
    job_id: int,
) -> None:
    """What `record_step` stores, by hand."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        'INSERT INTO step (run_id, step, "at", tokens) VALUES (?, ?, ?, ?)', (run_id, step, float(step), None)
    )
    connection.executemany(
        "INSERT INTO metric (run_id, name_id, step, value) VALUES (?, ?, ?, ?)",
        [(run_id, number, step, value) for number, value in enumerate(metrics.values())],
    )
    if rows:
        connection.executemany(
            'INSERT INTO completion (run_id, step, generation, "group", "index", example_id, advantage, text, think_start, '
            "think_end, answer_start, answer_end, answer, wellformed, correct, steps, tokens, truncated, reward, rewards) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(run_id, step, row.generation, row.group, row.index, row.example_id, row.advantage, row.text),
                    *(*(row.think or (None, None)), *(row.answer_span or (None, None)), row.answer, row.wellformed),
                    *(row.correct, row.steps, row.tokens, row.truncated, row.reward, json.dumps(row.rewards)),
                )
                for row in rows
            ],
        )
    connection.execute("UPDATE run SET step = ? WHERE id = ? AND step < ?", (step, run_id, step))
    connection.execute(
        "UPDATE job SET heartbeat = heartbeat + 1, spoke_at = ?, activity = 'training' WHERE id = ? RETURNING stop_requested",
        (time.time(), job_id),
    ).fetchone()
    connection.execute("COMMIT")


def _block(record: Callable[[int], None], start: int, size: int) -> None:
    for step in range(start, start + size):
        record(step)


def _new_run(store: Store) -> int:
    words = {"name": "benchmark", "method": "grpo", "style": "cot", "model": "tiny", "dataset": "shapes-simple"}
    return write.create_run(store, **words, config={}, reward_weights={"format": 1.0}).id


def _metrics(step: int) -> dict[str, float]:
    return {name: step + number / 100 for number, name in enumerate(METRICS)}


def _completion(index: int) -> CompletionRow:
    letters = random.Random(index)
    words = "".join(letters.choices("abcdefghijklmnopqrstuvwxyz 0123456789.", k=COMPLETION_CHARACTERS - 34))
    text = f"<think>{words}</think><answer>3</answer>"
    end = text.index("</think>")
    return CompletionRow(
        text=text,
        think=(7, end),
        answer_span=(end + 16, end + 17),
        answer=3,
        wellformed=True,
        correct=index % 2 == 0,
        steps=3,
        tokens=400,
        reward=2.3,
        rewards={"format": 1.0, "accuracy": 1.0, "steps": 0.3},
        generation=0,
        group=0,
        index=index,
        advantage=0.5,
    )


def _speed(what: str, ours: list[float], bare: list[float]) -> Result:
    ratio = statistics.median(b / a for a, b in zip(ours, bare, strict=True))
    size = STEPS // BLOCKS
    rates = (f"{size / statistics.median(times):,.0f} steps/s" for times in (ours, bare))
    return Result(what, *rates, ratio, "at least 0.5", ratio >= 0.5)


def _seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def _ms(times: list[float]) -> str:
    return f"{statistics.median(times) * 1000:.1f} ms"


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


if __name__ == "__main__":
    if sys.argv[1:2] == ["writer"]:
        writer(sys.argv[2])
    sys.exit(main())
