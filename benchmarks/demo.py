"""Break down the wall time of the demo: `make demo` without its server, or with it and a browser.

    python -m benchmarks.demo [--share 1.0] [--watched]

`--share 0.1` does a tenth of the updates. Both runs go through the queue, which decides how many run concurrently.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from app import demo
from benchmarks.threads import watched
from scripts import browsing
from store.db.engine import Store, open_store
from store.db.rows import RunDetail
from store.evaluations.records import list_evaluations
from store.jobs import list_jobs
from store.metrics import read_clock, read_series
from store.runs import get_run
from trainer import launch
from trainer.spec import config

PARTS = {
    "time/generation": "sampling",
    "time/scoring": "rewards",
    "time/update": "updates",
    "time/tokens": "token measures",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--share", type=float, default=1.0, help="fraction of the updates to do")
    parser.add_argument("--watched", action="store_true", help="show the run's page in a browser meanwhile")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        store = open_store(str(folder / "runs.db"))
        ids = [submit(store, name, options.share) for name in demo.PRESETS]
        started_at = time.time()
        command = [sys.executable, "-m", "trainer", "queue", "--db", str(folder / "runs.db")]
        queue = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with watched(folder) if options.watched else nullcontext():
                while any(job.ended_at is None for job in list_jobs(store)) and queue.poll() is None:
                    time.sleep(0.5)
                ended = time.time()
        finally:
            queue.terminate()
            queue.wait()
            browsing.end_processes(store.url)
        for run_id in ids:
            print("\n".join(account(store, get_run(store, run_id), started_at)), flush=True)
        print(f"both: {ended - started_at:.0f} s", flush=True)
        store.close()


def submit(store: Store, name: str, share: float) -> int:
    settings = config.preset(name)
    steps = max(1, round(settings.optimization.steps * share))
    return launch.create(store, config.override(settings, {"optimization.steps": str(steps)}))[0].id


def account(store: Store, run: RunDetail, started_at: float) -> list[str]:
    """Describe a run: when it began and ended, and how long its parts took."""
    (job,) = list_jobs(store, run_id=run.id)
    if job.started_at is None or job.ended_at is None:
        return [f"{run.name}: {job.state}, {job.error}"]
    at = read_clock(store, run.id).at
    series = read_series(store, run.id, [*PARTS, "time/step"], points=1_000_000)
    sums = {name: float(np.nansum(series[name].value)) for name in series}
    evaluations: dict[str, float] = {}
    for evaluation in list_evaluations(store, run.id):
        name = f"{evaluation.kind} of the base" if evaluation.step == 0 else evaluation.kind
        evaluations[name] = (
            evaluations.get(name, 0.0) + (evaluation.ended_at or evaluation.started_at) - evaluation.started_at
        )
    whole = job.ended_at - job.started_at
    steps = sums.get("time/step", 0.0)
    lines = [
        f"{run.name}: {job.state} after {job.ended_at - started_at:.0f} s, "
        f"began at {job.started_at - started_at:.0f} s",
        f"  until its first update {at[0] - job.started_at:.1f} s" if len(at) else "  no update",
        f"  {len(at)} updates {steps:.1f} s, {steps / max(1, len(at)):.2f} s each"
        + "".join(f"; {words} {sums[name]:.1f}" for name, words in PARTS.items() if sums.get(name)),
        *(f"  {name} {duration:.1f} s" for name, duration in sorted(evaluations.items())),
    ]
    rest = whole - steps - sum(evaluations.values())
    return [*lines, f"  the rest (start, checkpoints, waiting) {rest:.1f} s of {whole:.1f} s"]


if __name__ == "__main__":
    main()
