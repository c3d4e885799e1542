"""Examples, their images, evaluations and predictions."""

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest

from store.db.engine import Store, StoreError
from store.evaluations.predictions import list_predictions
from store.evaluations.records import (
    begin_evaluation,
    finish_evaluation,
    list_evaluations,
    record_predictions,
)
from store.events import list_events
from store.examples import add_examples, get_examples
from store.media import files
from store.media.rows import get_media, media_path
from tests.store import make


def begin(store: Store, run_id: int, **fields: Any) -> int:
    given = {"benchmark": "shapes-simple", "split": "val", "kind": "val", "step": 10, "conditions": {"tokens": 112}}
    return begin_evaluation(store, run_id, **{**given, "encoder": None, "total": 2, **fields})


def test_an_example_is_stored_once(store: Store) -> None:
    rows = [make.example(key, images=(make.image("red"), make.image("blue"))) for key in "ab"]
    ids = add_examples(store, rows)
    again = add_examples(store, [make.example("c", images=()), *reversed(rows), rows[0]])
    assert again[1:] == [*reversed(ids), ids[0]]
    assert len(set(again)) == 3
    assert add_examples(store, []) == []
    found = get_examples(store, [*ids, 999])
    assert set(found) == set(ids)
    assert found[ids[0]].name == "shapes-simple/train/a"
    assert found[ids[0]].images == tuple(hashlib.sha256(data).hexdigest() for data in rows[0].images)
    assert len([path for path in store.media.rglob("*") if path.is_file()]) == 2


def test_a_known_example_stays_as_it_is(store: Store) -> None:
    (id,) = add_examples(store, [make.example(question="How many?", meta={"nan": math.nan})])
    add_examples(store, [make.example(question="Changed?", images=(make.image("blue"),))])
    found = get_examples(store, [id])[id]
    assert (found.question, found.meta, len(found.images)) == ("How many?", {"nan": None}, 1)


def test_more_examples_than_fit_one_query(store: Store) -> None:
    rows = [make.example(str(number), images=()) for number in range(1201)]
    ids = add_examples(store, rows)
    assert add_examples(store, rows) == ids
    assert len(get_examples(store, ids)) == len(set(ids)) == 1201


def test_an_evaluation_from_start_to_end(store: Store) -> None:
    run = make.run(store)
    ids = add_examples(store, [make.example(key) for key in "ab"])
    evaluation = begin(store, run.id)
    record_predictions(store, evaluation, [make.prediction(ids[0], similarity=0.5)])
    record_predictions(store, evaluation, [])
    assert [(row.done, row.total, row.ended_at) for row in list_evaluations(store, run.id)] == [(1, 2, None)]
    record_predictions(store, evaluation, [make.prediction(ids[1], similarity=math.nan)])
    finish_evaluation(store, evaluation, {"exact_match": 0.5, "n": 2, "odd": math.inf})
    (row,) = list_evaluations(store, run.id)
    assert (row.done, row.metrics) == (2, {"exact_match": 0.5, "n": 2, "odd": None})
    assert list_events(store, run.id)[-1].message == "val on shapes-simple: 50.0% right of 2."
    first, second = list_predictions(store, evaluation)
    assert (first.similarity, second.similarity) == (0.5, None)
    assert (first.example, first.truth, first.step, first.kind) == ("shapes-simple/train/a", 1, 10, "val")


def test_an_unfinished_evaluation_gives_way_to_the_same_one(store: Store) -> None:
    run = make.run(store)
    (id,) = add_examples(store, [make.example()])
    finished = begin(store, run.id)
    finish_evaluation(store, finished, {})
    broken = begin(store, run.id)
    record_predictions(store, broken, [make.prediction(id)])
    other = begin(store, run.id, conditions={"tokens": 64})
    new = begin(store, run.id)
    assert [row.id for row in list_evaluations(store, run.id)] == [finished, other, new]
    assert len({row.conditions_hash for row in list_evaluations(store, run.id)}) == 2


def test_a_probe_is_no_event(store: Store) -> None:
    run = make.run(store)
    finish_evaluation(store, begin(store, run.id, kind="probe"), {"exact_match": 1.0})
    assert list_events(store, run.id) == []


def test_an_example_is_answered_once_a_sample(store: Store) -> None:
    run = make.run(store)
    (id,) = add_examples(store, [make.example()])
    evaluation = begin(store, run.id)
    record_predictions(store, evaluation, [make.prediction(id, sample) for sample in range(3)])
    with pytest.raises(StoreError, match=r"(?i)unique"):
        record_predictions(store, evaluation, [make.prediction(id, 1)])
    assert list_evaluations(store, run.id)[0].done == 3


@pytest.mark.parametrize(("kind", "mime"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")])
def test_an_image_is_known_by_its_bytes(store: Store, kind: str, mime: str) -> None:
    data = make.image(kind=kind)
    add_examples(store, [make.example(images=(data,))])
    sha256 = hashlib.sha256(data).hexdigest()
    assert get_media(store, sha256) == (sha256, mime, 6, 4, len(data))
    assert media_path(store, sha256).read_bytes() == data
    assert media_path(store, sha256).is_relative_to(store.media)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 63 + "/", "a" * 64 + "\n"])
def test_only_a_hash_names_an_image(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="64 hexadecimal digits"):
        media_path(store, name)


def test_an_image_that_is_not_there(store: Store) -> None:
    with pytest.raises(StoreError, match="No image has this hash"):
        get_media(store, "a" * 64)


@pytest.mark.parametrize("data", [b"", b"<svg onload='alert(1)'/>", b"GIF89a", make.image()[:20]])
def test_what_is_no_image_is_refused_before_anything_is_stored(store: Store, data: bytes) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        add_examples(store, [make.example(images=(data,))])
    assert not store.media.exists()


def test_an_image_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(StoreError, match="No space left"):
        files.save(tmp_path, make.image())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
