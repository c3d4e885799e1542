"""A database that moves: every row, every image, and everything goes on."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from store.__main__ import main
from store.care import copying
from store.completions.rows import list_groups
from store.db.engine import Store, StoreError, open_store
from store.evaluations.records import begin_evaluation, record_predictions
from store.examples import add_examples
from store.jobs import get_worker, upsert_worker
from store.media import files
from store.media.rows import media_path
from store.runs import add_tag, list_runs
from store.steps import record_step
from tests import postgres
from tests.store import make


@pytest.fixture
def filled(store: Store) -> Store:
    (example,) = add_examples(store, [make.example()])
    run = make.run(store, "first", config={"nested": {"ä": [1.5, None, True]}})
    child = make.run(store, "child", parent_id=run.id)
    make.running_job(store, child.id)
    for step in (1, 2, 3):
        rows = [make.completion(i, example_id=example, text=f"{i} é 🟥 {step}") for i in range(4)]
        record_step(store, run.id, step, {"reward": 0.1 + 0.2, "odd": None}, at=1e9 + step, completions=rows)
    words = {"benchmark": "b", "split": "test", "kind": "test", "step": 3, "conditions": {}, "encoder": None}
    evaluation = begin_evaluation(store, run.id, **words, total=1)
    record_predictions(store, evaluation, [make.prediction(example)])
    add_tag(store, run.id, "kept")
    return store


@pytest.fixture(params=["sqlite", "postgresql"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty database of either kind, its images in a folder of their own."""
    url = str(tmp_path / "target.db")
    with ExitStack() as stack:
        if request.param == "postgresql":
            url = stack.enter_context(postgres.database(request.getfixturevalue("postgres_server")))
        opened = stack.enter_context(closing(open_store(url)))
        yield replace(opened, media=tmp_path / "elsewhere")


def test_everything_arrives(filled: Store, there: Store) -> None:
    counts = dict(copying.copy(filled, there))
    assert (counts["run"], counts["completion"], counts["metric"], counts["prediction"]) == (2, 12, 6, 1)
    assert counts["media"] == counts["image files"] == 1
    assert list_runs(there) == list_runs(filled)
    assert list_groups(there, 1, 2) == list_groups(filled, 1, 2)
    (image,) = list_groups(there, 1, 2)[0].example.images  # type: ignore[union-attr]
    assert files.inspect(media_path(there, image).read_bytes()).sha256 == image


def test_the_worker_of_the_original_is_not_that_of_the_copy(filled: Store, there: Store) -> None:
    upsert_worker(filled, host="here", boot_id=None, pid=7, pid_started=None)
    copying.copy(filled, there)
    assert get_worker(there, "here") is None and get_worker(filled, "here") is not None


def test_the_copy_goes_on_counting(filled: Store, there: Store) -> None:
    copying.copy(filled, there)
    assert make.run(there, "next").id == 3
    record_step(there, 1, 4, {"new": 1.0}, at=2e9, completions=[make.completion()])
    assert len(list_groups(there, 1, 4)) == 1


def test_a_database_with_runs_is_left_alone(filled: Store, there: Store) -> None:
    make.run(there, "mine")
    with pytest.raises(StoreError, match="already has runs"):
        copying.copy(filled, there)
    assert [run.name for run in list_runs(there)] == ["mine"]


def test_a_missing_image_stops_the_copy(filled: Store, there: Store) -> None:
    (image,) = list_groups(filled, 1, 1)[0].example.images  # type: ignore[union-attr]
    media_path(filled, image).unlink()
    with pytest.raises(StoreError, match="missing or damaged"):
        copying.copy(filled, there)
    assert list_runs(there) == []


def test_the_command(filled: Store, there: Store, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["copy", filled.url, there.url, "--media", str(there.media)]
    assert main(command) == 0
    assert "completion: 12" in capsys.readouterr().err
    assert main(command) == 2
    assert "already has runs" in capsys.readouterr().err
