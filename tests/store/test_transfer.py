"""A run goes into a file and into another database with all that is its own, and nothing that is not."""

from __future__ import annotations

import hashlib
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from store.care import transfer
from store.completions.rows import iter_completions
from store.db.connection import StoreError, reading
from store.db.engine import Store, open_store
from store.db.rows import RunRef
from store.db.schema import Base
from store.db.states import JobState
from store.evaluations.predictions import iter_predictions
from store.evaluations.records import begin_evaluation, finish_evaluation, record_predictions
from store.events import list_checkpoints, list_events, set_checkpoint
from store.examples import add_examples, get_examples
from store.experiments import add_to_experiment, create_experiment, list_experiments
from store.jobs import add_job, end_job
from store.media import files
from store.metrics import list_metric_names, read_series
from store.notes import get_remarks, tag_traces
from store.runs import add_tag, get_run, list_runs
from store.steps import record_step
from tests.store import make

SHARED = {"example", "example_image", "media", "metric_name"}
OF_THE_DATABASE = {
    "journal",
    "database",
    "dataset_index",
    "embedding",
    "encoder",
    "experiment",
    "image_hash",
    "saved_view",
    "worker",
}
"""Tables of no run; of a journal, since a script goes on delivering where it began."""


@pytest.fixture
def run(store: Store) -> RunRef:
    """A run with everything, in a database where ids are taken already."""
    make.steps(store, make.run(store, "before").id, 3, other=1.0)
    run = make.run(store, config={"hub_token": "hf_secret", "note": "x"}, output_dir="/away", grammar="boxed")
    add_tag(store, run.id, "mine")
    script = {"gold": [1, "one"], "prompt": [{"role": "user", "content": "?"}], "columns": {"level": 0.5}}
    ids = add_examples(store, [make.example("z"), make.example(**script)])
    job = make.running_job(store, run.id)
    rows = [make.completion(index, example_id=ids[1]) for index in range(3)]
    record_step(store, run.id, 1, {"reward": 0.25, "kl": None}, at=1.0, completions=rows)
    tag_traces(store, "completion", [row.id for row in iter_completions(store, run.id)][:1], "odd")
    conditions: dict[str, Any] = {"split": "val", "conditions": {}, "encoder": None, "total": 1}
    evaluation = begin_evaluation(store, run.id, benchmark="shapes-simple", kind="val", step=1, **conditions)
    record_predictions(store, evaluation, [make.prediction(ids[1])])
    finish_evaluation(store, evaluation, {"exact_match": 1.0, "n": 1})
    set_checkpoint(store, run.id, kind="last", step=1, path="/away/last")
    end_job(store, job, JobState.FINISHED)
    return run


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    store = open_store(str(tmp_path / "other" / "other.db"))
    for name in ("first", "second", "theirs"):
        make.steps(store, make.run(store, name).id, 2, kl=1.0)
    yield store
    store.close()


def exported(store: Store, run: RunRef, folder: Path) -> Path:
    transfer.export_runs(store, [run.id], folder / "run.zip")
    return folder / "run.zip"


def counts(store: Store) -> dict[str, int]:
    with reading(store) as connection:
        return {name: connection.scalar(text(f'SELECT count(*) FROM "{name}"')) or 0 for name in Base.metadata.tables}


def test_every_table_belongs_to_a_run_is_shared_or_is_left_out() -> None:
    own = {table.name for table in transfer.run_tables()}
    assert own | SHARED | OF_THE_DATABASE | transfer.LEFT_OUT == set(Base.metadata.tables)


def test_a_run_arrives_as_it_left(store: Store, run: RunRef, other: Store, tmp_path: Path) -> None:
    (arrived,) = transfer.import_runs(other, exported(store, run, tmp_path))
    assert arrived.uid == run.uid
    assert arrived.id != run.id
    before, after = get_run(store, run.id), get_run(other, arrived.id)
    assert (after.name, after.tags, after.step, after.grammar) == (before.name, ("mine",), 1, "boxed")
    assert after.job is not None and after.job.state == JobState.FINISHED
    left = [row for row in iter_completions(store, run.id)]
    came = [row for row in iter_completions(other, arrived.id)]
    assert [(row.text, row.reward, row.example, row.truth) for row in came] == [
        (row.text, row.reward, row.example, row.truth) for row in left
    ]
    assert list_metric_names(other, arrived.id) == ["kl", "reward"]
    assert read_series(other, arrived.id, ["reward"])["reward"].value.tolist() == [0.25]
    assert [(row.example, row.correct) for row in iter_predictions(other, arrived.id)] == [
        ("shapes-simple/train/a", True)
    ]
    assert get_remarks(other, "completion", [came[0].id])[came[0].id].tags == ("odd",)
    assert [event.kind for event in list_events(other, arrived.id)] == [
        event.kind for event in list_events(store, run.id)
    ]
    (example,) = get_examples(other, {1}).values()
    assert (example.gold, example.columns) == ([1, "one"], {"level": 0.5})
    assert example.prompt == [{"role": "user", "content": "?"}]
    assert files.path_of(other.media, example.images[0]).read_bytes() == make.image()
    assert [row.name for row in list_runs(other)] == ["theirs", "second", "first", "demo"]


def test_a_file_of_our_own_arrives_unchecked_as_it_does_checked(
    store: Store, run: RunRef, other: Store, tmp_path: Path
) -> None:
    file = exported(store, run, tmp_path)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    (checked,) = transfer.import_runs(other, file)
    second = open_store(str(tmp_path / "second" / "second.db"))
    (arrived,) = transfer.import_runs(second, file, sha256=sha256)
    assert get_run(second, arrived.id).uid == get_run(other, checked.id).uid == run.uid
    assert [row.text for row in iter_completions(second, arrived.id)] == [
        row.text for row in iter_completions(other, checked.id)
    ]
    (example,) = [row for row in get_examples(second, {1, 2}).values() if row.key == "a"]
    assert files.path_of(second.media, example.images[0]).read_bytes() == make.image()
    second.close()


def test_a_file_that_is_not_the_one_of_ours_is_refused(store: Store, run: RunRef, other: Store, tmp_path: Path) -> None:
    file = exported(store, run, tmp_path)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(StoreError, match="not the file that came with the project"):
        transfer.import_runs(other, file, sha256=sha256)
    assert len(list_runs(other)) == 3


def test_runs_meet_again_in_their_experiment(store: Store, run: RunRef, other: Store, tmp_path: Path) -> None:
    second = make.run(store, "beside it")
    made = create_experiment(store, name="two arms", matrix={"arms": ["a", "b"]})
    create_experiment(store, name="of others", matrix={})
    for each, arm in ((run, "a"), (second, "b")):
        add_to_experiment(store, made.id, each.id, arm)
    (arrived,) = transfer.import_runs(other, exported(store, run, tmp_path))
    (alone,) = list_experiments(other)
    assert (alone.uid, alone.name, alone.matrix, alone.arms) == (
        made.uid,
        "two arms",
        {"arms": ["a", "b"]},
        {arrived.id: "a"},
    )
    transfer.export_runs(store, [second.id], tmp_path / "second.zip")
    (beside,) = transfer.import_runs(other, tmp_path / "second.zip")
    (both,) = list_experiments(other)
    assert both.arms == {arrived.id: "a", beside.id: "b"}


def test_what_stays_behind_is_not_named(store: Store, run: RunRef, other: Store, tmp_path: Path) -> None:
    file = exported(store, run, tmp_path)
    arrived = get_run(other, transfer.import_runs(other, file)[0].id)
    assert (arrived.output_dir, arrived.parent_id) == (None, None)
    assert arrived.job is not None and arrived.job.log_path is None
    assert list_checkpoints(other, arrived.id) == []
    assert arrived.config == {"hub_token": "[redacted]", "note": "x"}
    assert b"hf_secret" not in zipfile.ZipFile(file).read("vision-r1-zero.db")


def test_a_run_that_is_there_comes_again_only_under_another_uid(store: Store, run: RunRef, tmp_path: Path) -> None:
    file = exported(store, run, tmp_path)
    before = counts(store)
    with pytest.raises(StoreError, match="already exists"):
        transfer.import_runs(store, file)
    assert counts(store) == before
    (again,) = transfer.import_runs(store, file, anew=True)
    assert again.uid != run.uid
    assert counts(store)["example"] == before["example"]
    assert counts(store)["completion"] == 2 * before["completion"]


def test_a_run_at_work_is_not_exported(store: Store, run: RunRef, tmp_path: Path) -> None:
    add_job(store, run.id, "evaluate", {})
    with pytest.raises(StoreError, match="has a job that has not ended"):
        exported(store, run, tmp_path)
    assert not list(tmp_path.glob("*.zip*"))


def test_an_example_of_the_same_name_must_be_the_same(store: Store, run: RunRef, other: Store, tmp_path: Path) -> None:
    add_examples(other, [make.example(answer=5)])
    with pytest.raises(StoreError, match="has different content"):
        transfer.import_runs(other, exported(store, run, tmp_path))
    assert "demo" not in [row.name for row in list_runs(other)]


def test_a_file_is_not_overwritten(store: Store, run: RunRef, tmp_path: Path) -> None:
    exported(store, run, tmp_path)
    with pytest.raises(StoreError, match="already"):
        exported(store, run, tmp_path)


def change(file: Path, sql: str) -> None:
    """Executes SQL in the database of an exported file."""
    folder = file.parent / "opened"
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    with sqlite3.connect(folder / "vision-r1-zero.db") as database:
        database.execute(sql)
    database.close()
    with zipfile.ZipFile(file, "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("UPDATE alembic_version SET version_num = '0999'", "newer version"),
        ("UPDATE job SET state = 'queued', ended_at = NULL", "has a job that has not ended"),
        ("DELETE FROM run", "without its run"),
        ("DROP TABLE alembic_version", "contains no run"),
    ],
)
def test_a_file_of_a_newer_version_or_with_a_job_to_start_is_refused(
    store: Store, run: RunRef, other: Store, tmp_path: Path, sql: str, words: str
) -> None:
    file = exported(store, run, tmp_path)
    change(file, sql)
    before = counts(other)
    with pytest.raises(StoreError, match=words):
        transfer.import_runs(other, file)
    assert counts(other) == before


def test_members_that_lead_out_are_left_in_the_file(store: Store, run: RunRef, other: Store, tmp_path: Path) -> None:
    file = exported(store, run, tmp_path)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("../evil", "x")
        archive.writestr(f"vision-r1-zero-media/../../{'a' * 64}", "x")
    transfer.import_runs(other, file)
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all" * 10])
def test_a_file_that_is_no_run(other: Store, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.zip").write_bytes(content)
    with pytest.raises(StoreError, match="cannot be read"):
        transfer.import_runs(other, tmp_path / "run.zip")


def test_the_runs_of_an_experiment_go_into_one_file_and_come_once(
    store: Store, run: RunRef, other: Store, tmp_path: Path
) -> None:
    second, experiment = make.run(store, "second run"), create_experiment(store, name="both", matrix={"arms": ["a"]})
    for member in (run, second):
        add_to_experiment(store, experiment.id, member.id, "a")
    transfer.export_runs(store, [run.id], tmp_path / "one.zip")
    transfer.export_runs(store, [run.id, second.id], tmp_path / "both.zip", completions=False)

    (first,) = transfer.import_runs(other, tmp_path / "one.zip")
    (new,) = transfer.import_runs(other, tmp_path / "both.zip")
    assert get_run(other, new.id).name == "second run"
    assert [set(row.arms) for row in list_experiments(other)] == [{first.id, new.id}]
    with pytest.raises(StoreError, match="already exists"):
        transfer.import_runs(other, tmp_path / "both.zip")


def test_a_run_can_leave_its_completions_behind(store: Store, run: RunRef, other: Store, tmp_path: Path) -> None:
    transfer.export_runs(store, [run.id], tmp_path / "run.zip", completions=False)
    (arrived,) = transfer.import_runs(other, tmp_path / "run.zip")
    assert not list(iter_completions(other, arrived.id))
    assert list_metric_names(other, arrived.id) == ["kl", "reward"]
    assert [row.correct for row in iter_predictions(other, arrived.id)] == [True]
