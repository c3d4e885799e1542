"""Small real things for the store's tests: runs, completions, examples, images."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from PIL import Image

from store.db.engine import Store
from store.db.rows import CompletionRow, ExampleRow, PredictionRow, RunRef
from store.jobs import add_job, claim_job, start_job
from store.runs import create_run
from store.steps import record_step

sqlite_only = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
"""For a test of what only an SQLite file has; the others run on PostgreSQL too."""


def run(store: Store, name: str = "demo", **fields: Any) -> RunRef:
    words: dict[str, Any] = {"method": "grpo", "style": "cot", "model": "tiny", "dataset": "shapes-simple"}
    return create_run(store, name=name, **{"config": {}, "reward_weights": {"format": 1.0}, **words, **fields})


def running_job(
    store: Store, run_id: int, host: str = "here", kind: str = "train", arguments: dict[str, Any] | None = None
) -> int:
    job = add_job(store, run_id, kind, arguments or {})
    claimed = claim_job(store, host)
    assert claimed == job
    start_job(store, job.id, host=host, boot_id="boot", pid=7, pid_started=1.0, log_path="log.txt")
    return job.id


def completion(index: int = 0, **fields: Any) -> CompletionRow:
    text = fields.pop("text", "<think>1. red</think><answer>1</answer>")
    spans = {
        "think": (7, 13),
        "answer_span": (29, 30),
        "answer": 1,
        "wellformed": True,
        "correct": True,
        "reasoning_steps": 1,
    }
    sums = {"tokens": 9, "reward": 2.1, "rewards": {"format": 1.0}, "generation": 0, "group": 0, "advantage": 0.5}
    return CompletionRow(text=text, index=index, **{**spans, **sums, **fields})


def prediction(example_id: int, sample: int = 0, **fields: Any) -> PredictionRow:
    row: dict[str, Any] = {"text": "<answer>1</answer>", "wellformed": False, "correct": True, "answer": 1}
    return PredictionRow(example_id=example_id, sample=sample, **{**row, **fields})


def image(colour: str = "red", kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(buffer, kind)
    return buffer.getvalue()


def example(key: str = "a", **fields: Any) -> ExampleRow:
    words: dict[str, Any] = {"dataset": "shapes-simple", "split": "train", "question": "How many?", "answer": 1}
    return ExampleRow(key=key, **{**words, "images": (image(),), **fields})


def steps(store: Store, run_id: int, count: int, **metrics: float) -> None:
    start = time.time()
    for step in range(1, count + 1):
        row = {"reward": step / count, **metrics}
        record_step(store, run_id, step, row, at=start + 2 * step, tokens=100.0 * step)
