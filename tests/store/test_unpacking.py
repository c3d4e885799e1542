"""The file of a run from somebody who means no good: nothing in it runs, fills memory or disk, or takes for ever."""

from __future__ import annotations

import hashlib
import io
import sqlite3
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from store.care import transfer
from store.care.backup import IMAGES, NAME
from store.db import upgrade
from store.db.connection import StoreError, sqlite_engine
from store.db.engine import Store, open_store
from store.metrics import read_clock
from store.runs import list_runs
from tests import foreign

SECONDS = 20.0
"""In which each file is refused, on a busy machine."""
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS id FROM n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> foreign.RunFile:
    folder = tmp_path_factory.mktemp("theirs")
    with closing(open_store(str(folder / "runs.db"))) as store:
        run = foreign.run_with_everything(store)
        transfer.export_runs(store, [run.id], folder / "run.zip")
    return foreign.RunFile(folder / "run.zip", folder)


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(str(tmp_path / "mine" / "runs.db"))) as store:
        yield store


def changed(whole: foreign.RunFile, *statements: str) -> Path:
    database = whole.folder / "changed.db"
    database.write_bytes((whole.folder / "whole" / NAME).read_bytes())
    with closing(sqlite3.connect(database)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return whole.packed(database)


def refused(store: Store, file: Path) -> str:
    """What is said of a file that is refused, in time and with nothing stored."""
    begun = time.monotonic()
    with pytest.raises(StoreError) as caught:
        transfer.import_runs(store, file)
    assert time.monotonic() - begun < SECONDS
    assert list_runs(store) == [] and not list(store.folder.glob("runs/*"))
    return str(caught.value)


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        ((f"CREATE VIEW evil AS {ENDLESS}",), "contains a view named 'evil'"),
        (("ALTER TABLE run RENAME TO other", f"CREATE VIEW run AS {ENDLESS}"), "contains a view named 'run'"),
        (
            (f"CREATE TRIGGER evil AFTER INSERT ON run BEGIN INSERT INTO tag {ENDLESS.replace('id', 'a, 1')}; END",),
            "contains a trigger named 'evil'",
        ),
        (("CREATE VIRTUAL TABLE evil USING fts5(text)",), "contains a virtual table named 'evil'"),
        (
            ("ALTER TABLE run ADD COLUMN evil TEXT AS (hex(zeroblob(100000000)))",),
            "contains a table with computed columns",
        ),
        (("CREATE INDEX evil ON run (hex(zeroblob(1000000)))",), "contains an index on an expression named 'evil'"),
        (("CREATE INDEX evil ON run (name) WHERE length(name) > 1",), "contains a partial index named 'evil'"),
        (("CREATE TABLE evil (a)",), "contains a table named 'evil'"),
        (("ALTER TABLE run DROP COLUMN note",), "has no column run.note"),
        (("UPDATE alembic_version SET version_num = '0000'",), "has an unknown version"),
        (("UPDATE alembic_version SET version_num = '../x'",), "has an unknown version"),
        (("UPDATE run SET uid = '../../evil'",), "uid of run 1 does not consist of letters and digits"),
        (("UPDATE step SET step = 'abc' WHERE step = 2",), "step of step is not a whole number: 'abc'"),
        (("UPDATE run SET created_at = 1e308",), "created_at of run 1 is not between 0 and"),
        (("UPDATE run SET config = '[1]'",), "config of run 1 is not an object: list"),
        (("UPDATE completion SET reward = 9e999",), "reward of completion 1 is not between"),
        (('UPDATE evaluation SET metrics = \'{"exact_match": "x"}\'',), "contains a value that is not a number"),
        (
            ("UPDATE completion SET step = 10000000000000000",),
            "step of completion 1 is not between 0 and",
        ),
        (("UPDATE job SET state = 'zombie'",), "state of job 1 is not one of queued, starting"),
        (("UPDATE run SET step = 9223372036854775807",), "step of run 1 is not between"),
        (("UPDATE completion SET example_id = 77",), "without its example"),
        (("UPDATE prediction SET evaluation_id = 77 WHERE id = 1",), "without its evaluation"),
        (("UPDATE run SET config = '" + "[" * 100_000 + "'",), "config of run 1 is not an object"),
        (("UPDATE run SET config = '" + '{"a":' * 900 + "1" + "}" * 900 + "'",), "more than 40 levels deep"),
        (("UPDATE run SET note = zeroblob(20000000)",), "cannot be read (string or blob too big)"),
        (("UPDATE run SET note = CAST(x'ff' AS TEXT)",), "cannot be read"),
    ],
)
def test_what_no_run_holds_is_refused_by_name(
    whole: foreign.RunFile, mine: Store, statements: tuple[str, ...], words: str
) -> None:
    assert words in refused(mine, changed(whole, *statements))


def test_pages_of_a_database_that_point_at_each_other_do_not_take_for_ever(whole: foreign.RunFile, mine: Store) -> None:
    """Each page of a tree names one page many times: as rows, more than could ever be read."""
    database = whole.folder / "tree.db"
    database.write_bytes((whole.folder / "whole" / NAME).read_bytes())
    with closing(sqlite3.connect(database)) as connection:
        run = connection.execute("SELECT id FROM run").fetchone()[0]
        rows = [(run, step, 1.0) for step in range(100, 40_000)]
        connection.executemany('INSERT INTO step (run_id, step, "at") VALUES (?, ?, ?)', rows)
        connection.commit()
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'step'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    data = bytearray(database.read_bytes())
    start = (root - 1) * size
    cells = int.from_bytes(data[start + 3 : start + 5], "big")
    first = int.from_bytes(data[start + 12 : start + 14], "big")
    assert data[start] == 2 and cells > 3, "an interior page of an index"
    for cell in range(cells):
        place = int.from_bytes(data[start + 12 + 2 * cell : start + 14 + 2 * cell], "big")
        data[start + place : start + place + 4] = data[start + first : start + first + 4]
    database.write_bytes(data)
    assert "is damaged" in refused(mine, whole.packed(database))


def zipped(whole: foreign.RunFile, members: dict[str, bytes]) -> Path:
    file = whole.folder / "zipped.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.write(whole.folder / "whole" / NAME, NAME)
        for name, data in members.items():
            archive.writestr(name, data)
    return file


def image_name(data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    return f"{IMAGES}/{sha256[:2]}/{sha256}"


def test_an_image_that_unpacks_to_more_than_the_memory_is_refused_by_name(whole: foreign.RunFile, mine: Store) -> None:
    file, name = whole.folder / "bomb.zip", f"{IMAGES}/aa/{'a' * 64}"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(whole.folder / "whole" / NAME, NAME)
        with archive.open(name, "w", force_zip64=True) as member:
            for _ in range(256):
                member.write(bytes(2**20))
    assert file.stat().st_size < 2**20
    tracemalloc.start()
    said = refused(mine, file)
    assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    tracemalloc.stop()
    assert f"{name} in {file} has 256 MiB" in said


def test_a_database_that_unpacks_to_more_than_the_disk_is_refused_by_name(whole: foreign.RunFile, mine: Store) -> None:
    file = whole.folder / "bomb.zip"
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(NAME, "w", force_zip64=True) as member,
    ):
        for _ in range(128):
            member.write(bytes(2**20))
    assert f"mostly {NAME}" in refused(mine, file)


def test_many_small_images_are_as_large_as_they_are_together(whole: foreign.RunFile, mine: Store) -> None:
    members = {f"{IMAGES}/aa/{number:064x}": bytes(2**20) for number in range(100)}
    assert "would unpack to" in refused(mine, zipped(whole, members))


def test_an_image_must_be_what_its_name_says(whole: foreign.RunFile, mine: Store) -> None:
    assert "does not match its name" in refused(mine, zipped(whole, {f"{IMAGES}/aa/{'a' * 64}": b"x"}))


def test_what_is_no_picture_or_too_large_a_one_is_refused(whole: foreign.RunFile, mine: Store) -> None:
    script = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    assert "is refused" in refused(mine, zipped(whole, {image_name(script): script}))
    buffer = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(buffer, "PNG")
    large = buffer.getvalue()
    assert "12000 x 12000 pixels" in refused(mine, zipped(whole, {image_name(large): large}))


def test_a_list_of_members_that_would_fill_the_memory_is_not_read(whole: foreign.RunFile, mine: Store) -> None:
    file = whole.folder / "many.zip"
    end = b"PK\5\6" + bytes(8) + (40 * 2**20).to_bytes(4, "little") + bytes(6)
    file.write_bytes(bytes(100) + end)
    assert "lists more files than a run has" in refused(mine, file)


def test_a_file_of_an_older_version_comes_in(whole: foreign.RunFile, mine: Store, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    engine = sqlite_engine(path, foreign_keys=False)
    with engine.begin() as connection:
        upgrade.create(connection, "0007")
        connection.exec_driver_sql(
            "INSERT INTO run (id, uid, name, method, style, model, dataset, config, reward_weights, environment, "
            "sources, step, created_at) "
            "VALUES (3, 'abc', 'old', 'grpo', 'cot', 'tiny', 'd', '{}', '{}', '{}', '{}', 2, 1.0)"
        )
        connection.exec_driver_sql('INSERT INTO step (run_id, step, "at") VALUES (3, 1, 5.0)')
    engine.dispose()
    (arrived,) = transfer.import_runs(mine, whole.packed(path))
    assert [run.name for run in list_runs(mine)] == ["old"]
    assert read_clock(mine, arrived.id).at.tolist() == [5.0]


def test_columns_are_checked_by_the_name_they_have_today(whole: foreign.RunFile, mine: Store) -> None:
    older = (
        "UPDATE alembic_version SET version_num = '0012'",
        *(f"DROP TABLE {table}" for table in ("metric_rollup", "rolled_up", "code", "machine_sample", "saved_view")),
        *(f"ALTER TABLE {table} RENAME COLUMN reasoning_steps TO steps" for table in ("completion", "prediction")),
    )
    words = refused(mine, changed(whole, *older, "UPDATE completion SET steps = 'many'"))
    assert "reasoning_steps of completion 1 is not a whole number: 'many'" in words
