"""Style over training, the map and the button that embeds, on runs whose texts have vectors of their words."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.drift import vectors
from store import embeddings
from store.db.engine import Store
from store.db.rows import PredictionRow, RunRow
from store.db.states import JobState
from store.embeddings import add_embeddings, use_encoder
from store.evaluations.predictions import iter_predictions
from store.evaluations.records import begin_evaluation, record_predictions
from store.evaluations.texts import KINDS
from store.examples import get_examples
from store.jobs import add_job, end_job, get_job, list_jobs
from store.runs import describe_run
from tests import seeded
from trainer.evaluate.embedding_job import texts_of
from trainer.launch import local
from trainer.spec import wording
from trainer.spec.config import EvaluationConfig

ENCODER = EvaluationConfig().encoder
OpenPage = Callable[..., AppTest]


def vector(text: str) -> np.ndarray:
    """The sum of a random vector for each word."""
    words = [np.random.default_rng(zlib.crc32(word.encode())).normal(size=16) for word in text.split() or [""]]
    return np.sum(words, axis=0) / np.linalg.norm(np.sum(words, axis=0))


def embed(store: Store, *names: str, version: str = "1", spared: frozenset[str] = frozenset()) -> None:
    encoder = use_encoder(store, ENCODER, version, 16)
    for name in names:
        texts = set(texts_of(store, seeded.find(store, name).id)) - spared
        add_embeddings(store, encoder, {text: vector(text) for text in texts})


def chosen(store: Store) -> list[RunRow]:
    return [seeded.find(store, name) for name in ("shapes-sft", "shapes-grpo")]


@pytest.fixture
def open_drift(seeded_store: Store, open_page: OpenPage) -> OpenPage:
    """A view of the page on the two runs."""
    uids = ",".join(run.uid for run in chosen(seeded_store))
    return lambda view: open_page("drift", view=view, runs=uids)


def texts(app: AppTest) -> str:
    return "\n".join(str(each.value) for each in (*app.markdown, *app.caption, *app.info))


def test_a_page_without_vectors_offers_them(seeded_store: Store, open_drift: OpenPage) -> None:
    app = open_drift("Over training")
    said = sum(row.kind in KINDS for run in chosen(seeded_store) for row in iter_predictions(seeded_store, run.id))
    assert f"{said:,} traces are not embedded with all\\-MiniLM\\-L6\\-v2 yet" in texts(app)
    assert "embed them to see how their style changes" in texts(app)
    app.segmented_control(key="view").set_value("Map").run()
    assert "embed them to see the map" in texts(app)


def test_the_button_queues_one_job_a_run(
    seeded_store: Store, open_drift: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "start_worker", lambda store: None)  # nothing shall train here
    app = open_drift("Map")
    app.button(key="embed").click().run()
    assert not app.exception
    jobs = [job for job in list_jobs(seeded_store, open_only=True) if job.kind == "embed"]
    assert [job.run_name for job in jobs] == ["shapes-sft", "shapes-grpo"]
    assert all(job.arguments == {"encoder": ENCODER} for job in jobs)
    assert not [button for button in app.button if button.key == "embed"]
    app.button(key=f"embed-stop-{jobs[0].uid}").click().run()
    assert get_job(seeded_store, jobs[0].uid).state == "stopped"


def test_a_failed_job_says_why(seeded_store: Store, open_drift: OpenPage) -> None:
    job = add_job(seeded_store, seeded.find(seeded_store, "shapes-sft").id, "embed", {"encoder": ENCODER})
    end_job(seeded_store, job.id, JobState.FAILED, error="The disk is full. Free some space.")
    app = open_drift("Map")
    assert any("The disk is full" in each.value for each in app.error)


def test_over_training_says_what_was_measured(seeded_store: Store, open_drift: OpenPage) -> None:
    embed(seeded_store, "shapes-sft", "shapes-grpo")
    app = open_drift("Over training")
    shown = texts(app)
    assert not [button for button in app.button if button.key == "embed"]
    assert "SFT imitates the references, so it is close to them by construction" in shown
    assert "version 1" in shown and "middle 80 %" in shown
    assert "Base: the model before training; floor: references of other examples" in shown
    app.toggle(key="drift.strict").set_value(True).run()
    assert not app.exception
    app.segmented_control(key="drift.kind").set_value("val").run()
    assert not app.exception


def test_an_encoder_that_changed_starts_anew(seeded_store: Store, open_drift: OpenPage) -> None:
    """What the old version embedded counts as not embedded, and never stands beside the new one's."""
    embed(seeded_store, "shapes-sft", "shapes-grpo")
    embed(seeded_store, "shapes-grpo", version="2")
    runs = chosen(seeded_store)
    used = vectors.encoder(seeded_store, runs)
    assert used is not None and used.version == "2"
    found = vectors.drift(seeded_store, runs, used)
    new = set(embeddings.vectors(seeded_store, used.id, found.texts))
    for row, is_embedded in enumerate(found.embedded.tolist()):
        assert is_embedded == (found.texts[found.text_index[row]] in new)
    assert 0 < vectors.count_missing(seeded_store, runs, used) < len(found.text_index)
    app = open_drift("Over training")
    assert "are left out because they are not embedded yet" in texts(app) and "version 2" in texts(app)
    assert app.button(key="embed")


def test_vectors_are_those_of_what_each_answer_said(seeded_store: Store) -> None:
    embed(seeded_store, "shapes-sft", "shapes-grpo", spared=frozenset([wording.NULL]))
    runs = chosen(seeded_store)
    used = vectors.encoder(seeded_store, runs)
    assert used is not None
    found = vectors.drift(seeded_store, runs, used)
    answers = {row.id: row for run in runs for row in iter_predictions(seeded_store, run.id)}
    examples = get_examples(seeded_store, found.example_ids.tolist())
    for place in range(0, len(found.text_index), 97):
        row = answers[int(found.answers.prediction_id[place])]
        body = wording.style_text(row.text, row.think)
        assert found.vectors[found.text_index[place]] == pytest.approx(vector(body), abs=1e-3)
        reference = examples[row.example_id].reference
        assert reference and found.references[found.example[place]] == pytest.approx(vector(reference), abs=1e-3)
    assert np.isnan(found.null).all()


def test_the_map_states_its_axes(seeded_store: Store, open_drift: OpenPage) -> None:
    embed(seeded_store, "shapes-sft", "shapes-grpo")
    app = open_drift("Map")
    assert "first two principal components" in texts(app)
    assert "Drag a box or a lasso" in texts(app)
    for shade in ("Step", "Correctness", "Length"):
        app.segmented_control(key="drift.map.shade").set_value(shade).run()
        assert not app.exception
    words = app.text_input(key="drift.map.words")
    assert "No text on the map" in texts(words.set_value("no such words").run())
    assert "answers selected" in texts(words.set_value("1.").run()), "whoever cannot drag finds texts by their words"


def test_hostile_texts_and_names_have_a_map(seeded_store: Store, open_drift: OpenPage) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    describe_run(seeded_store, run.id, name="<img src=x onerror=alert(1)> **b**")
    [example, *_] = get_examples(seeded_store, range(200)).values()
    evaluation = begin_evaluation(
        seeded_store, run.id, benchmark="d", split="val", kind="val", step=7, conditions={}, encoder=None, total=1
    )
    text = "<script>alert(1)</script>\u202e\ud800 $x$"
    record_predictions(seeded_store, evaluation, [PredictionRow(example_id=example.id, text=text, wellformed=False)])
    encoder = use_encoder(seeded_store, ENCODER, "1", 16)
    found = [*texts_of(seeded_store, run.id), *texts_of(seeded_store, seeded.find(seeded_store, "shapes-sft").id)]
    add_embeddings(seeded_store, encoder, {each: vector(each) for each in found})
    for view in ("Map", "Over training"):
        assert not open_drift(view).exception
