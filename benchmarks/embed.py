"""Time embedding 20,000 traces, and the Drift page during and after it: `python -m benchmarks.embed [TRACES]`.

The job is a process of the queue with the default encoder; the page runs in this process. Exits with 1 if a target is
missed.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil
from streamlit.testing.v1 import AppTest

from store import embeddings
from store.db.engine import URL_VARIABLE, Store, open_store
from store.db.rows import ExampleRow, JobRow, PredictionRow
from store.evaluations.records import begin_evaluation, finish_evaluation, record_predictions
from store.examples import add_examples
from store.jobs import list_jobs
from store.runs import create_run, list_runs
from trainer import launch
from trainer.spec.config import EvaluationConfig

MAIN = Path(__file__).resolve().parents[1] / "app/main.py"
TRACES, EXAMPLES = 20_000, 200
METHODS = ("sft", "grpo")
WORDS = ("red", "circle", "top", "left", "star", "blue", "square", "small", "in", "the", "picture", "find", "and")
LENGTH = 45
"""Number of words in a trace."""
PAGE, SECOND_VISIT = 3.0, 1.0
"""Targets in seconds: for a page while all cores embed, and for a page that has been opened before."""


def main() -> int:
    traces = int(sys.argv[1]) if len(sys.argv) > 1 else TRACES
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(str(Path(folder) / "embed.db"))
        os.environ[URL_VARIABLE] = store.url
        fill(store, traces)
        start = time.perf_counter()
        launch.embed(store, [run.id for run in list_runs(store)], EvaluationConfig().encoder)
        meanwhile, processor = [], {}
        while jobs := list_jobs(store, open_only=True):
            processor.update((job.uid, used) for job in jobs if (used := processor_seconds(job)))
            meanwhile.append(visit())
            time.sleep(2)
        total = time.perf_counter() - start
        afterwards, second = visit(), median(visit() for _ in range(3))
        jobs = list_jobs(store)
        embedded = embeddings.count_embeddings(store, embeddings.encoders(store)[0].id)
        store.close()
    print(f"{embedded:,} texts of {traces:,} traces in {total:.0f} s with the start of {len(jobs)} processes")
    print(f"{embedded / sum(processor.values()):.0f} texts a second of a processor, loading the encoder included")
    print(f"the page meanwhile: median {median(meanwhile):.2f} s, longest {max(meanwhile):.2f} s of {len(meanwhile)}")
    print(f"the page afterwards: {afterwards:.2f} s, the second visit {second:.2f} s")
    return int(any(job.state != "finished" for job in jobs) or median(meanwhile) > PAGE or second > SECOND_VISIT)


def visit() -> float:
    """Return the duration in seconds of the page with its map open."""
    app = AppTest.from_file(str(MAIN), default_timeout=300).run()
    app.query_params["view"] = "Map"
    start = time.perf_counter()
    app.switch_page("../pages/drift.py").run()
    assert not app.exception
    return time.perf_counter() - start


def processor_seconds(job: JobRow) -> float | None:
    """Return the processor seconds of a job's process so far; None if it has none yet."""
    try:
        times = psutil.Process(job.pid).cpu_times() if job.pid else None
    except psutil.NoSuchProcess:
        return None
    return times.user + times.system if times else None


def fill(store: Store, traces: int) -> None:
    """Create runs with distinct greedy answers in several validations."""
    dice = random.Random(0)
    fields = {"dataset": "d", "split": "val", "question": "?", "answer": 3}
    rows = [
        ExampleRow(**fields, key=str(i), reference=" ".join(dice.choices(WORDS, k=LENGTH))) for i in range(EXAMPLES)
    ]
    ids = add_examples(store, rows)
    for method in METHODS:
        run = create_run(
            store, name=method, method=method, style="cot", model="tiny", dataset="d", config={}, reward_weights={}
        )
        for step in range(traces // len(METHODS) // EXAMPLES):
            evaluation = begin_evaluation(
                store, run.id, benchmark="d", split="val", kind="val", step=step, conditions={}, encoder=None, total=1
            )
            record_predictions(store, evaluation, [answer(dice, id) for id in ids])
            finish_evaluation(store, evaluation, {})


def answer(dice: random.Random, example_id: int) -> PredictionRow:
    think = words(dice)
    text = f"<think>{think}</think><answer>3</answer>"
    return PredictionRow(example_id=example_id, text=text, think=(7, 7 + len(think)), wellformed=True, correct=True)


def words(dice: random.Random) -> str:
    return " ".join(dice.choices(WORDS, k=LENGTH))


if __name__ == "__main__":
    sys.exit(main())
