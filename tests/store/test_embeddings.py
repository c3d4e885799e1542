"""Vectors of texts: exact enough, one a text and encoder, never of another encoder's, whoever writes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from store import embeddings
from store.db.engine import Store
from store.db.states import JobState
from store.embeddings import add_embeddings, use_encoder
from store.evaluations.predictions import iter_predictions
from store.evaluations.records import begin_evaluation, record_predictions
from store.evaluations.texts import count_prediction_texts, read_prediction_texts
from store.examples import add_examples
from store.jobs import advance_job, ask_stop, end_job, list_jobs
from store.runs import get_run, list_runs
from tests.store import make

WRITER = """
import sys
import numpy as np
from store import embeddings
from store.db.engine import open_store
store = open_store(sys.argv[1])
encoder = embeddings.use_encoder(store, "e", "1", 8)
sys.stdin.readline()
for start in range(0, 400, 10):
    texts = [f"text {number}" for number in range(start, start + 10)]
    vectors = {text: np.eye(8)[len(text) % 8] for text in embeddings.missing(store, encoder, texts)}
    embeddings.add_embeddings(store, encoder, vectors)
store.close()
"""


def unit(seed: int, dimension: int = 384) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=dimension)
    return vector / np.linalg.norm(vector)


def test_stored_vectors_keep_cosines(store: Store) -> None:
    known = {f"text {seed}": unit(seed) for seed in range(20)}
    encoder = use_encoder(store, "e", "1", 384)
    add_embeddings(store, encoder, known)
    [row] = embeddings.encoders(store)
    found = embeddings.matrix(store, row, list(known))
    exact = np.stack(list(known.values()))
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert np.abs(found @ found.T - exact @ exact.T).max() < 1e-3
    assert list(embeddings.vectors(store, encoder, ["text 3", "never", "text 3"])) == ["text 3"]
    assert np.isnan(embeddings.matrix(store, row, ["never"])).all()
    assert embeddings.matrix(store, row, []).shape == (0, 384)


def test_a_changed_encoder_never_mixes_with_an_old_one(store: Store) -> None:
    old = use_encoder(store, "e", "before", 4)
    add_embeddings(store, old, {"said": np.eye(4)[0], "only before": np.eye(4)[1]})
    new = use_encoder(store, "e", "after", 4)
    assert new != old
    assert [row.version for row in embeddings.encoders(store)] == ["after", "before"]
    assert embeddings.missing(store, new, ["said", "only before"]) == ["said", "only before"]
    add_embeddings(store, new, {"said": np.eye(4)[2]})
    assert embeddings.vectors(store, new, ["said", "only before"]).keys() == {"said"}
    assert embeddings.vectors(store, new, ["said"])["said"].tolist() == [0, 0, 1, 0]
    assert embeddings.vectors(store, old, ["said"])["said"].tolist() == [1, 0, 0, 0]
    assert (embeddings.count_embeddings(store, old), embeddings.count_embeddings(store, new)) == (2, 1)
    assert use_encoder(store, "e", "before", 4) == old
    assert [row.version for row in embeddings.encoders(store)] == ["before", "after"]


def test_a_text_keeps_its_first_vector(store: Store) -> None:
    encoder = use_encoder(store, "e", "1", 2)
    add_embeddings(store, encoder, {"a": np.eye(2)[0]})
    add_embeddings(store, encoder, {"a": np.eye(2)[1], "b": np.eye(2)[1]})
    add_embeddings(store, encoder, {})
    assert {k: v.tolist() for k, v in embeddings.vectors(store, encoder, "ab").items()} == {"a": [1, 0], "b": [0, 1]}


@pytest.mark.parametrize("text", ["", "<script>", "\ud800 half a pair", "nul \0", "é" * 10_000])
def test_any_text_has_a_hash(text: str) -> None:
    assert len(embeddings.text_hash(text)) == embeddings.HASH_BYTES


def test_more_texts_than_a_query_can_name(store: Store) -> None:
    texts = [f"text {number}" for number in range(2 * embeddings.PAGE + 1)]
    encoder = use_encoder(store, "e", "1", 2)
    add_embeddings(store, encoder, {text: np.eye(2)[0] for text in texts[1:]})
    assert embeddings.missing(store, encoder, texts) == [texts[0]]
    assert len(embeddings.vectors(store, encoder, texts)) == len(texts) - 1


def test_two_processes_embed_the_same_texts(store: Store) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, store.url], stdin=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0]
    [row] = embeddings.encoders(store)
    assert embeddings.count_embeddings(store, row.id) == 400


def test_what_was_said_as_columns(store: Store) -> None:
    runs = [make.run(store, name) for name in ("a", "b")]
    ids = add_examples(store, [make.example(key) for key in "xy"])
    for run in runs:
        for kind in ("val", "thinking"):
            evaluation = begin_evaluation(
                store, run.id, benchmark="d", split="val", kind=kind, step=5, conditions={}, encoder=None, total=2
            )
            rows = [make.prediction(id, tokens=3 if id == ids[0] else None) for id in reversed(ids)]
            rows.append(make.prediction(ids[0], 1, text="<think>a</think>", think=(7, 8), correct=False))
            record_predictions(store, evaluation, rows)
    found = read_prediction_texts(store, [run.id for run in runs])
    stored = {row.id: row for run in runs for row in iter_predictions(store, run.id) if row.kind == "val"}
    assert found.prediction_id.tolist() == list(stored)
    for place, row in enumerate(stored.values()):
        assert (found.text[place], found.think[place]) == (row.text, row.think)
        assert (found.example_id[place], found.sample[place], found.step[place]) == (row.example_id, row.sample, 5)
        assert found.correct[place] == row.correct
        assert np.array_equal(found.tokens[place], np.float64(row.tokens or np.nan), equal_nan=True)
    assert found.run_id.tolist() == [run.id for run in runs for _ in range(3)]
    assert count_prediction_texts(store, [run.id for run in runs]) == (6, max(stored))
    assert count_prediction_texts(store, []) == (0, 0) and len(read_prediction_texts(store, []).text) == 0


def test_a_job_says_how_far_it_is_and_hears_a_stop(store: Store) -> None:
    run = make.run(store)
    job_id = make.running_job(store, run.id, kind="embed")
    assert advance_job(store, job_id, 3, 10) == 0
    [job] = list_jobs(store)
    assert (job.done, job.total) == (3, 10)
    ask_stop(store, job_id)
    assert advance_job(store, job_id, 4, 10) == 1


def test_embedding_does_not_change_what_a_run_is(store: Store) -> None:
    run = make.run(store, method="none")
    evaluated = make.running_job(store, run.id, kind="evaluate")
    end_job(store, evaluated, JobState.FINISHED)
    end_job(store, make.running_job(store, run.id, kind="embed"), JobState.FAILED, error="No disk.")
    assert get_run(store, run.id).status == "finished"
    assert [row.status for row in list_runs(store)] == ["finished"]
