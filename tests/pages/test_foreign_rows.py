"""Files of runs that somebody changed, and rows that cannot be: refused in a sentence, or shown on every page."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from streamlit.runtime.scriptrunner import ScriptRunner
from streamlit.testing.v1 import AppTest

from app import invalid_rows
from app.shared import data
from store.__main__ import main
from store.care import transfer
from store.db.connection import StoreError
from store.db.engine import Store, open_store
from store.db.schema import Base
from store.runs import list_runs
from tests import foreign

Open = Callable[..., AppTest]
PAGES = ("runs", "launch", "find", "compare", "drift", "datasets", "system")
OF_A_RUN = ("run", "traces", "emergence", "rewards", "find")
MUTATIONS = 300


def counts(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as database:
        return {name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in Base.metadata.tables}


@pytest.fixture
def file(tmp_path: Path) -> foreign.RunFile:
    with closing(open_store(str(tmp_path / "theirs" / "runs.db"))) as store:
        run = foreign.run_with_everything(store)
        transfer.export_runs(store, [run.id], tmp_path / "run.zip")
    return foreign.RunFile(tmp_path / "run.zip", tmp_path)


def test_300_changed_files_are_refused_in_a_sentence_or_shown_on_every_page(
    empty_store: Store, file: foreign.RunFile, open_page: Open
) -> None:
    path = Path(str(empty_store.engine.url.database))
    taken = refused = 0
    for table, column, value in foreign.mutations(1, MUTATIONS):
        changed = file.with_damage(table, column, value)
        if changed is None:
            continue
        before = counts(path)
        try:
            transfer.import_runs(empty_store, changed, anew=True)
            taken += 1
        except StoreError as error:
            refused += 1
            assert str(error).strip() and "\n" not in str(error) and "Traceback" not in str(error)
            for name in ("example", "example_image", "media", "metric_name"):
                before.pop(name)  # shared ones may have come before the refusal
            assert {name: counts(path)[name] for name in before} == before, (table, column, value)
    assert refused > taken > 20
    runs = list_runs(empty_store)
    assert len(runs) == taken and not [run.broken for run in runs if run.broken]
    for page in PAGES:
        assert not open_page(page).exception
    for run in runs[:: max(1, taken // 6)]:
        for page in OF_A_RUN:
            assert not open_page(page, run=run.uid).exception, run


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `app.server.build` sees to: an error in a part of a page is explained there."""
    handler = property(lambda runner: invalid_rows.explain, lambda runner, value: None)
    monkeypatch.setattr(ScriptRunner, "_on_script_error", handler, raising=False)


@pytest.mark.usefixtures("explained")
def test_pages_survive_rows_that_are_in_the_database_anyway(empty_store: Store, open_page: Open) -> None:
    for number in range(4):
        foreign.run_with_everything(empty_store, f"run {number}")
    path = Path(str(empty_store.engine.url.database))
    for table, column, value in foreign.mutations(2, MUTATIONS):
        with suppress(sqlite3.Error):
            foreign.damage(path, table, column, value)
    for page in (*PAGES, *OF_A_RUN):
        assert not open_page(page).exception, page


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("run", "created_at", "yesterday"),
        ("run", "created_at", 1e308),
        ("run", "step", 10**16),
        ("run", "name", b"\x00"),
        ("run", "max_steps", "many"),
        ("run", "uid", "../../evil"),
        ("job", "state", "zombie"),
        ("job", "started_at", float("inf")),
        ("evaluation", "metrics", '{"exact_match": "good"}'),
    ],
)
def test_a_broken_run_is_one_broken_row_and_can_be_deleted(
    empty_store: Store, open_page: Open, table: str, column: str, value: object
) -> None:
    foreign.run_with_everything(empty_store, "broken one")
    foreign.run_with_everything(empty_store, "sound one")
    path = Path(str(empty_store.engine.url.database))
    where = {"run": "id = 1", "evaluation": "run_id = 1 AND kind = 'test'"}.get(table, "run_id = 1")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value,))
    app = open_page("runs")
    (warning,) = app.warning
    assert f"{column}" in warning.value.replace("\\", "") and "is broken" in warning.value
    sound = next(run for run in list_runs(empty_store) if run.broken is None)
    broken = next(run for run in list_runs(empty_store) if run.broken is not None)
    assert sound.name == "sound one" and broken.status == "broken"
    assert not open_page("run", run=broken.uid).exception
    assert main(["delete", broken.uid, "--db", str(path)]) == 0
    assert [run.name for run in list_runs(empty_store)] == ["sound one"]
    data.forget()  # a page may show what another process deleted for a second more
    assert not open_page("runs").warning


def test_the_page_deletes_a_broken_run(empty_store: Store, open_page: Open) -> None:
    run = foreign.run_with_everything(empty_store, "broken one")
    with closing(sqlite3.connect(str(empty_store.engine.url.database))) as database, database:
        database.execute("UPDATE run SET created_at = 'never'")
    app = open_page("runs")
    app.session_state["runs_table selected"] = [run.uid]
    app.run()
    app.button(key="delete").click().run()
    app.button(key="deletion_yes").click().run()
    assert not app.exception and list_runs(empty_store) == []
