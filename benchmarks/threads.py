"""Time a GRPO step of the demo with few and many threads, which sleep or spin while they wait, during other work.

    python -m benchmarks.threads [--steps 8] [--rounds 2] [--threads 1 2] [--beside nothing busy another chromium]

`busy` is a process that computes all the time, `another` is the same training again, and `chromium` is a browser that
shows the run's page. Results are medians over all rounds, which alternate. Two concurrent jobs end earlier than two
successive ones if a step with few threads during another takes less than twice as long as one alone with many.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path

from scripts import browsing
from store.db.engine import URL_VARIABLE, open_store
from store.metrics import read_series
from store.runs import list_run_heads
from trainer.launch import threads

WARM_UP = 2
"""First steps, which do not count."""
SETTINGS = {"evaluation.probe_every": 10_000, "data.val_examples": 1, "evaluation.probe_examples": 1}
SETTINGS |= {"evaluation.val_every": 10_000, "data.test_examples": 0, "evaluation.probe_samples": 0}
WAITING = {"sleeping": "PASSIVE", "spinning": "ACTIVE"}


def training(folder: Path, name: str, steps: int, count: int, waiting: str) -> subprocess.Popen[bytes]:
    """Start a training of the demo with this number of threads and a job's priority."""
    chosen = {URL_VARIABLE: f"sqlite:///{folder}/runs.db", threads.VARIABLE: str(count)}
    chosen["OMP_WAIT_POLICY"] = WAITING[waiting]
    values = SETTINGS | {"optimization.steps": steps, "name": name}
    settings = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "trainer", "run", "--preset", "shapes-grpo", *settings]
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(["nice", "-n", "5", *command], env=os.environ | chosen, stdout=log, stderr=log)


@contextmanager
def busy() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    with (
        browsing.serving(f"sqlite:///{folder}/runs.db", folder / "server.log") as server,
        browsing.browser() as browser,
    ):
        page = browser.new_page()
        browsing.goto(page, f"{server.url}/run")
        yield


def seconds(beside: str, steps: int, count: int, waiting: str) -> list[float]:
    """Return the seconds of a training's steps during other work."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        open_store(str(folder / "runs.db")).close()
        other = {"busy": busy, "chromium": lambda: watched(folder)}.get(beside, nullcontext)
        with other():
            names = ["measured", *(["another"] if beside == "another" else [])]
            started = [training(folder, name, steps, count, waiting) for name in names]
            if any(process.wait() for process in started):
                raise SystemExit((folder / "measured.log").read_text()[-2000:])
        store = open_store(str(folder / "runs.db"), readonly=True)
        run = next(run for run in list_run_heads(store) if run.name == "measured")
        step_seconds = read_series(store, run.id, ["time/step"])["time/step"].value.tolist()
        store.close()
    return step_seconds[WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.threads", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, threads.processors()])
    parser.add_argument("--waiting", nargs="+", choices=WAITING, default=[*WAITING])
    choices = ("nothing", "busy", "another", "chromium")
    parser.add_argument("--beside", nargs="+", choices=choices, default=choices)
    options = parser.parse_args()
    cases = [*product(options.beside, options.threads, options.waiting)]
    seconds_by_case: dict[tuple[str, int, str], list[float]] = {case: [] for case in cases}
    for _ in range(options.rounds):
        for case in cases:
            seconds_by_case[case] += seconds(case[0], options.steps, *case[1:])
    alone = {case[1:]: statistics.median(seconds_by_case[case]) for case in cases if case[0] == "nothing"}
    for case in cases:
        median = statistics.median(seconds_by_case[case])
        times = f", {median / alone[case[1:]]:.2f} times alone" if case[1:] in alone else ""
        print(f"beside {case[0]}, {case[1]} threads {case[2]}: {median:.2f} s/step{times}", flush=True)


if __name__ == "__main__":
    main()
