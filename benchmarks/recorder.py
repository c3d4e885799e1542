"""Measure the cost of recording a GRPO step: time in recorder calls, and the difference to training without one.

    python -m benchmarks.recorder [--steps 20] [--repeats 3] [--script]

Target: recorder calls take less than 1 % of step time. Both kinds of runs alternate in one process; prints medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PrinterCallback, set_seed

from store.db.engine import open_store
from trainer import datasets, launch
from trainer.evaluate import recording as evaluate
from trainer.models import loading
from trainer.record.spool import NAME, Spool
from trainer.record.vr1z import Gatherer, GenerationCapture
from trainer.recorder import Recorder, record
from trainer.spec import config, rewards
from trainer.train import grpo

TARGET = 0.01


class Timed(NamedTuple):
    seconds: float
    """Duration of a whole training in seconds."""
    recording: float
    """Seconds of that in recorder calls."""


def train(steps: int, folder: Path, *, recorded: bool, as_script: bool = False) -> Timed:
    chosen = config.override(config.preset("shapes-grpo"), {"optimization.steps": str(steps)})
    set_seed(0)
    base = loading.load_base(chosen.model)
    examples = datasets.load_role(chosen.data, "train", 400)
    components = rewards.build(chosen)
    trainer: Any = grpo.build(chosen, base, examples, components, folder / "out")
    trainer.remove_callback(PrinterCallback)
    recorder: Gatherer | None = None
    if recorded and as_script:
        recorder = record(trainer, name="script", db=f"sqlite:///{folder / 'runs.db'}")
    elif recorded:
        store = open_store(f"sqlite:///{folder / 'runs.db'}")
        run, job = launch.create(store, chosen)
        ids = evaluate.store_examples(store, examples)
        recorder = direct_recorder = Recorder(
            store,
            run.id,
            job.id,
            Spool(folder / NAME),
            weights={r.name: r.weight for r in components},
            identify=lambda rows: [ids[row["example"]] for row in rows],
        )
        GenerationCapture(trainer, direct_recorder.keep)
        trainer.add_callback(direct_recorder)
    start = time.perf_counter()
    trainer.train()
    return Timed(time.perf_counter() - start, recorder.seconds if recorder else 0.0)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recorder", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--script", action="store_true", help="use the recorder for scripts, vr1z.py, with a database")
    args = parser.parse_args()
    with_recorder, without = [], []
    for _ in range(args.repeats):
        for recorded, results in ((False, without), (True, with_recorder)):
            with tempfile.TemporaryDirectory() as folder:
                results.append(train(args.steps, Path(folder), recorded=recorded, as_script=args.script))
    share = statistics.median(t.recording / t.seconds for t in with_recorder)
    bare = statistics.median(t.seconds for t in without)
    whole = statistics.median(t.seconds for t in with_recorder)
    print(f"{args.steps} steps of 64 completions, {args.repeats} repeats, medians")
    print(f"inside recorder calls  {share:.3%} of training time (target below {TARGET:.0%})")
    print(f"with / without         {whole / bare:.4f} (spread without: {_spread(without):.1%})")
    return 0 if share < TARGET else 1


def _spread(results: list[Timed]) -> float:
    seconds = [t.seconds for t in results]
    return (max(seconds) - min(seconds)) / statistics.median(seconds)


if __name__ == "__main__":
    raise SystemExit(main())
