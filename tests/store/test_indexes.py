"""Indexed datasets: their rows, their examples page by page, and the hashes of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from sqlalchemy import insert

from store.datasets import (
    ExampleFilter,
    add_image_hashes,
    advance_index,
    ask_index,
    begin_index,
    count_examples,
    drop_index,
    fail_index,
    finish_index,
    list_examples,
    list_indexes,
    list_pictures,
    list_splits,
    list_verdicts,
    read_histogram,
)
from store.db import upgrade
from store.db.connection import sqlite_engine
from store.db.engine import Store, StoreError, open_store
from store.db.rows import ImageHashRow
from store.db.schema import Example
from store.evaluations.predictions import list_predictions_of_example
from store.evaluations.records import begin_evaluation, finish_evaluation, record_predictions
from store.examples import add_examples, get_examples
from store.runs import list_runs
from tests.store import make

SIZES = {"width": {"min": 6, "median": 6, "max": 6}, "height": {"min": 4, "median": 4, "max": 4}}


def begin(store: Store, **fields: Any) -> int:
    given = {"name": "folder", "path": "/data/a", "split": "train", "limit": 100, "host": "here", "boot_id": "boot"}
    return begin_index(store, **{**given, "pid": 7, "pid_started": 1.0, **fields})


def finish(store: Store, index_id: int, **fields: Any) -> None:
    given = {"dataset": "folder:a@1", "revision": None, "rows": 5, "usable": 3, "images": 2, "complete": True}
    finish_index(store, index_id, **{**given, "skipped": {"question is blank": 2}, "sizes": SIZES, **fields})


def test_an_index_from_asking_to_its_end(store: Store) -> None:
    asked = ask_index(store, name="folder", path="/data/a", split="train", limit=100)
    assert [(row.state, row.pid, row.skipped) for row in list_indexes(store)] == [("starting", None, {})]
    with pytest.raises(StoreError, match="already being indexed"):
        ask_index(store, name="folder", path="/data/a", split="train", limit=100)
    assert begin(store) == asked
    advance_index(store, asked, 2)
    (row,) = list_indexes(store)
    assert (row.state, row.pid, row.done, row.dataset) == ("running", 7, 2, None)
    with pytest.raises(StoreError, match="already being indexed"):
        begin(store)
    finish(store, asked)
    (row,) = list_indexes(store)
    assert (row.state, row.dataset, row.rows, row.usable, row.images, row.complete) == (
        *("finished", "folder:a@1"),
        *(5, 3, 2, True),
    )
    assert (row.skipped, row.sizes) == ({"question is blank": 2}, SIZES)


def test_figures_stay_until_the_next_indexing_has_ended(store: Store) -> None:
    index_id = begin(store)
    finish(store, index_id)
    assert begin(store, limit=7) == index_id
    fail_index(store, index_id, "The disk is full\ud800.")
    (row,) = list_indexes(store)
    assert (row.state, row.error, row.limit, row.usable) == ("failed", "The disk is full\ufffd.", 7, 3)
    assert row.indexed_at is not None
    begin(store)
    assert list_indexes(store)[0].error is None


def test_the_same_dataset_from_another_folder_replaces_the_older_index(store: Store) -> None:
    old, other, new = begin(store), begin(store, split="val"), begin(store, path="/data/b")
    for index_id in (old, other, new):
        finish(store, index_id)
    assert {row.id for row in list_indexes(store)} == {other, new}


def test_an_index_is_dropped_but_not_at_work(store: Store) -> None:
    index_id = begin(store)
    drop_index(store, index_id)
    assert len(list_indexes(store)) == 1
    fail_index(store, index_id, "It failed.")
    drop_index(store, index_id)
    assert list_indexes(store) == []


@pytest.fixture
def filled(store: Store) -> Store:
    rows = [
        make.example(f"k{i:03}", answer=i % 5, difficulty=("simple", None)[i % 2], question=f"How many of {i}?")
        for i in range(60)
    ]
    other = make.example("z", split="test", question="100% of _ them?", reference="Two.", answer=None, images=())
    add_examples(store, [*rows, other])
    return store


def test_examples_come_page_by_page(filled: Store) -> None:
    pages = [list_examples(filled, "shapes-simple", "train", limit=25, offset=start) for start in (0, 25, 50, 75)]
    assert [len(page) for page in pages] == [25, 25, 10, 0]
    assert [example.key for page in pages for example in page] == [f"k{i:03}" for i in range(60)]
    assert pages[0][0].images
    assert count_examples(filled, "shapes-simple", "train") == 60
    assert [tuple(row) for row in list_splits(filled)] == [("shapes-simple", "test", 1), ("shapes-simple", "train", 60)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (ExampleFilter(answer=3), 12),
        (ExampleFilter(answer=0, difficulty="simple"), 6),
        (ExampleFilter(difficulty="complex"), 0),
        (ExampleFilter(referenced=True), 0),
        (ExampleFilter(referenced=False), 60),
        (ExampleFilter(contains="HOW MANY OF 1"), 11),
        (ExampleFilter(contains="K01"), 10),
        (ExampleFilter(contains="%"), 0),
        (ExampleFilter(contains="' OR 1=1 --\0"), 0),
    ],
)
def test_filters_leave_what_they_say(filled: Store, wanted: ExampleFilter, found: int) -> None:
    assert count_examples(filled, "shapes-simple", "train", wanted) == found
    assert len(list_examples(filled, "shapes-simple", "train", wanted, limit=100)) == found


def test_search_takes_signs_as_they_stand(filled: Store) -> None:
    wanted = ExampleFilter(contains="100% of _", referenced=True)
    assert [row.key for row in list_examples(filled, "shapes-simple", "test", wanted, limit=9)] == ["z"]


def test_a_histogram_counts_every_example_once(filled: Store) -> None:
    bars = read_histogram(filled, "shapes-simple")
    assert sum(bar.examples for bar in bars) == 61
    assert ("train", "simple", 0, 6) in [tuple(bar) for bar in bars]
    assert ("test", None, None, 1) in [tuple(bar) for bar in bars]
    assert read_histogram(filled, "nothing") == []


def test_hashes_of_a_split_keep_all_64_bits_and_what_was_known(store: Store) -> None:
    red, blue = make.image("red"), make.image("blue")
    ids = add_examples(
        store, [make.example("a", images=(red, blue)), make.example("b", images=(red,)), make.example("c", images=())]
    )
    shas = get_examples(store, ids)[ids[0]].images
    add_image_hashes(store, [])
    add_image_hashes(store, [ImageHashRow(shas[0], 2**64 - 1, None), ImageHashRow(shas[1], 0, "coco:9")])
    add_image_hashes(store, [ImageHashRow(shas[0], 5, "vg:1"), ImageHashRow(shas[1], 5, "vg:2")])
    found = list_pictures(store, "shapes-simple", "train")
    seen = set(zip(found.example_id.tolist(), found.phash.tolist(), found.origin.tolist(), strict=True))
    assert seen == {(ids[0], 2**64 - 1, "vg:1"), (ids[1], 2**64 - 1, "vg:1"), (ids[0], 0, "coco:9")}
    assert found.phash.dtype == np.uint64
    assert len(list_pictures(store, "shapes-simple", "test").phash) == 0


def test_verdicts_are_greedy_answers_of_finished_tests(store: Store) -> None:
    run = make.run(store, "first")
    ids = add_examples(store, [make.example(key, split="test") for key in "ab"])
    elsewhere = add_examples(store, [make.example("a", dataset="other", split="test")])

    def evaluate(kind: str, ends: bool = True) -> int:
        conditions = {"kind": kind, "ends": ends}
        told = {"benchmark": "shapes-simple", "split": "test", "kind": kind, "step": 10, "conditions": conditions}
        evaluation = begin_evaluation(store, run.id, **told, encoder=None, total=3)
        rows = [make.prediction(ids[0]), make.prediction(ids[1], correct=None), make.prediction(ids[1], 1)]
        record_predictions(store, evaluation, [*rows, make.prediction(elsewhere[0])])
        if ends:
            finish_evaluation(store, evaluation, {"n": 3})
        return evaluation

    evaluate("val")
    evaluate("test", ends=False)
    evaluation = evaluate("test")
    (found,) = list_verdicts(store, "shapes-simple", "test")
    assert (found.evaluation_id, found.run_name, found.run_uid, found.step) == (evaluation, "first", run.uid, 10)
    assert (found.example_id.tolist(), found.correct.tolist()) == (ids, [True, False])


def test_every_prediction_of_an_example_is_found_with_its_run(store: Store) -> None:
    ids = add_examples(store, [make.example(key) for key in "ab"])
    for name in ("first", "second"):
        run = make.run(store, name)
        told = {"benchmark": "shapes-simple", "split": "train", "kind": "val", "step": 1, "conditions": {}}
        evaluation = begin_evaluation(store, run.id, **told, encoder=None, total=4)
        record_predictions(store, evaluation, [make.prediction(ids[0]), make.prediction(ids[1], text="other")])
    found = list_predictions_of_example(store, ids[0])
    assert [run_id for run_id, _ in found] == [run.id for run in reversed(list_runs(store))]
    assert {row.example_id for _, row in found} == {ids[0]}
    assert list_predictions_of_example(store, ids[0], limit=1, offset=1) == found[1:]


def test_a_database_from_before_datasets_were_indexed_keeps_its_examples(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    engine = sqlite_engine(path)
    with engine.begin() as connection:
        command.upgrade(upgrade.alembic_config(connection), "0001")
        values = {
            "id": 4,
            "dataset": "d",
            "split": "train",
            "key": "k",
            "question": "How many?",
            "answer": 2,
            "meta": {},
        }
        connection.execute(insert(Example).values(**values))
    engine.dispose()
    store = open_store(str(path))
    (example,) = list_examples(store, "d", "train", limit=9)
    index_id = begin(store)
    finish(store, index_id)
    store.close()
    assert (example.id, example.question, example.answer) == (4, "How many?", 2)
