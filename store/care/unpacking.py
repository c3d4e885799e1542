"""Convert an exported run of unknown origin to a database of ours, without trusting or executing anything in it.

The database in the file is not used directly. Its rows are read from plain columns of plain tables, under limits; each
row is checked and stored in a new database, whose tables and indexes are all created here.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
import struct
import tempfile
import time
import zipfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import JSON, MetaData, Table
from sqlalchemy.exc import SQLAlchemyError

from store.care.backup import IMAGES, NAME
from store.db import checking, upgrade
from store.db.bucket import Bucket
from store.db.connection import StoreError, sqlite_engine
from store.db.domains import JsonObject
from store.db.engine import open_store
from store.db.schema import Base
from store.media import files

IMAGE = re.compile(rf"{IMAGES}/[0-9a-f]{{2}}/([0-9a-f]{{64}})")
MOST_UNPACKED = 200
"""Highest accepted compression ratio of all members together; ordinary runs reach about ten."""
FREE_BYTES = 64 * 2**20
"""Members up to this many bytes may have any compression ratio."""
DIRECTORY_BYTES = 32 * 2**20
"""Most bytes of the zip's directory, which is read at once; enough for a hundred thousand images."""
VALUE_BYTES = 16 * 2**20
SECONDS, SECONDS_A_MIB = 30.0, 1.0
"""Time limit for reading, in seconds."""
INSTRUCTIONS = 50_000
"""SQLite instructions between checks of the time limit."""
ROWS_AT_ONCE = 500
RENAMED = {("completion", "steps"): "reasoning_steps", ("prediction", "steps"): "reasoning_steps"}
"""Present names of older versions' columns, so that their values are checked."""
HOLDS_NO_RUN = "{file} contains no run. Name a file that `python -m store export-run` wrote."


def unpack(file: Path, folder: Path) -> None:
    """Create a database with its images, `NAME` and `IMAGES` in the folder, from the file of a run.

    Raises StoreError, OSError, or an exception of `zipfile` if it is not such a file.
    """
    raw = folder / "as-it-came"
    with zipfile.ZipFile(_with_short_directory(file)) as archive:
        members = _members(archive, file, folder)
        for member in members:
            if member.filename == NAME:
                with archive.open(member) as source, raw.open("xb") as target:
                    shutil.copyfileobj(source, target, 2**20)
            else:
                _unpack_image(archive, member, folder)
    try:
        _rebuild(raw, folder / NAME, file)
    except (sqlite3.Error, SQLAlchemyError, UnicodeError, ValueError) as error:
        text = str(getattr(error, "orig", error)).strip().splitlines()[0]
        raise StoreError(f"The database in {file} cannot be read ({text}). Export the run again.") from None
    finally:
        raw.unlink()


def unpack_known(file: Path, folder: Path, sha256: str) -> None:
    """Create the database `NAME` in the folder from a file of our own, unchecked; its images stay in the file.

    Raises StoreError for a file with another hash, OSError, or an exception of `zipfile`.
    """
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != sha256:
        raise StoreError(f"{file} is not the file that came with the project. Check out the project again.")
    with zipfile.ZipFile(file) as archive:
        archive.extract(NAME, folder)


def packed_images(file: Path, folder: Path) -> Bucket:
    """Return the images in a file as a storage location; images needed as local files are kept in the folder."""
    return Bucket(f"zip://{IMAGES}::{file.absolute().as_uri()}", folder / IMAGES)


def _with_short_directory(file: Path) -> Path:
    """Return the file. Raises StoreError if just reading the list of its members would exhaust memory."""
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - 2**16 - 22))
        tail = stream.read()
    end = tail[tail.rfind(b"PK\5\6") :][:22]
    if len(end) == 22 and struct.unpack("<L", end[12:16])[0] > DIRECTORY_BYTES:
        raise StoreError(f"{file} lists more files than a run has. Export the run again.")
    return file


def _members(archive: zipfile.ZipFile, file: Path, folder: Path) -> list[zipfile.ZipInfo]:
    """Return the members that an export writes; others are ignored."""
    members = {member.filename: member for member in archive.infolist() if member.filename == NAME or _image_of(member)}
    if NAME not in members:
        raise StoreError(HOLDS_NO_RUN.format(file=file))
    for member in members.values():
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise StoreError(f"{member.filename} in {file} has an unsupported compression. Export the run again.")
        if _image_of(member) and member.file_size > files.MOST_BYTES:
            raise StoreError(
                f"The image {member.filename} in {file} has {member.file_size >> 20:,} MiB, which "
                "is too large for an export."
            )
    size = sum(member.file_size for member in members.values())
    if size > max(FREE_BYTES, MOST_UNPACKED * file.stat().st_size):
        largest = max(members.values(), key=lambda each: each.file_size)
        raise StoreError(f"{file} is refused: it would unpack to {size / 2**20:,.0f} MiB, mostly {largest.filename}.")
    if size > shutil.disk_usage(folder).free:
        raise StoreError(
            f"There is not enough space in {folder} to unpack {file}. Set TMPDIR to a folder on a larger disk."
        )
    return list(members.values())


def _image_of(member: zipfile.ZipInfo) -> str | None:
    """Return the hash in an image's name, or None for any other member."""
    match = IMAGE.fullmatch(member.filename)
    return match.group(1) if match else None


def _unpack_image(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    data = archive.read(member)
    sha256 = str(_image_of(member))
    if hashlib.sha256(data).hexdigest() != sha256:
        raise StoreError(f"The content of image {sha256} does not match its name. Export the run again.")
    try:
        files.save(folder / IMAGES, data)
    except StoreError as error:
        raise StoreError(f"The image {sha256} is refused. {error}") from None


def _rebuild(raw: Path, target: Path, file: Path) -> None:
    with closing(_open_original(raw)) as source:
        revision = _revision(source, file)
        tables = Base.metadata if revision == upgrade.HEAD else _older(target, revision)
        if revision == upgrade.HEAD:
            target.write_bytes(_empty_database())
        _check_schema(source, tables, file)
        with closing(sqlite3.connect(target)) as made, made:
            for table in tables.sorted_tables:
                if table.name not in ("alembic_version", "database"):
                    _take_rows(source, made, table, file)
    if revision != upgrade.HEAD:
        engine = sqlite_engine(target, foreign_keys=False)
        with engine.begin() as connection:
            upgrade.advance(connection)
        engine.dispose()
    with closing(sqlite3.connect(target)) as made:
        _check_links(made, file)


@cache
def _empty_database() -> bytes:
    """Return an empty database file of this version's schema."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(str(Path(folder, NAME)))
        store.close()
        with closing(sqlite3.connect(Path(folder, NAME))) as made:
            made.execute("DELETE FROM database")
            made.commit()
            made.execute("PRAGMA journal_mode = DELETE")
        return Path(folder, NAME).read_bytes()


def _older(target: Path, revision: str) -> MetaData:
    """Create and return the tables of an older version."""
    engine, tables = sqlite_engine(target, foreign_keys=False), MetaData()
    with engine.begin() as connection:
        upgrade.create(connection, revision)
    tables.reflect(engine)
    engine.dispose()
    return tables


def _open_original(raw: Path) -> sqlite3.Connection:
    """Open the original database read-only, with limits of time and size, and unable to run code in it."""
    source = sqlite3.connect(f"file:{quote(str(raw))}?mode=ro&immutable=1", uri=True, isolation_level=None)
    source.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, VALUE_BYTES)
    source.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    deadline = time.monotonic() + SECONDS + SECONDS_A_MIB * raw.stat().st_size / 2**20
    source.set_progress_handler(lambda: time.monotonic() > deadline, INSTRUCTIONS)
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "ignore_check_constraints = ON", "query_only = ON"):
        source.execute(f"PRAGMA {pragma}")
    return source


def _authorize(action: int, first: str | None, second: str | None, place: str | None, view: str | None) -> int:
    is_plain = action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ) and view is None
    return sqlite3.SQLITE_OK if is_plain else sqlite3.SQLITE_DENY


def _revision(source: sqlite3.Connection, file: Path) -> str:
    is_there = source.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'alembic_version'")
    if is_there.fetchone() is None:
        raise StoreError(HOLDS_NO_RUN.format(file=file))
    _refuse_code(source, file)
    row = source.execute("SELECT version_num FROM alembic_version").fetchone()
    revision = str(row[0]) if row else ""
    if not re.fullmatch("[0-9]{4}", revision) or revision == "0000":
        raise StoreError(f"The database in {file} has an unknown version. Export the run again.")
    if revision > upgrade.HEAD:
        raise StoreError(f"{file} was written by a newer version (schema {revision}). Update this program.")
    return revision


def _refuse_code(source: sqlite3.Connection, file: Path) -> None:
    """Refuse everything that could run code: views, triggers, virtual tables, computed columns, expression indexes."""
    entries = source.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
    for kind, name, sql in entries:
        feature = None if kind in ("table", "index") else f"a {kind}"
        if kind == "table" and str(sql).upper().split()[1:2] == ["VIRTUAL"]:
            feature = "a virtual table"
        if feature is None and kind == "table" and any(row[6] for row in _pragma(source, "table_xinfo", name)):
            feature = "a table with computed columns"
        if feature is None and kind == "index" and any(row[1] == -2 for row in _pragma(source, "index_xinfo", name)):
            feature = "an index on an expression"
        if feature is None and kind == "index" and " WHERE " in " ".join(str(sql).upper().split()):
            feature = "a partial index"
        if feature is not None:
            raise StoreError(f"{file} contains {feature} named {name!r}, which no export has. Export the run again.")


def _pragma(source: sqlite3.Connection, name: str, about: str) -> list[Any]:
    quoted = about.replace('"', '""')
    return source.execute(f'PRAGMA {name}("{quoted}")').fetchall()


def _check_schema(source: sqlite3.Connection, expected: MetaData, file: Path) -> None:
    """Refuse a file that is damaged or does not have exactly the tables and columns of its version."""
    names = [name for (name,) in source.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    for name in names:
        if name not in expected.tables and name != "alembic_version" and not name.startswith("sqlite_"):
            raise StoreError(f"{file} contains a table named {name!r}, which no export has. Export the run again.")
    for table in expected.tables.values():
        columns = {row[1] for row in _pragma(source, "table_xinfo", table.name)}
        if missing := sorted(set(table.columns.keys()) - columns):
            raise StoreError(f"{file} has no column {table.name}.{missing[0]}. Export the run again.")
    (verdict,) = source.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise StoreError(f"The database in {file} is damaged ({verdict}). Export the run again.")
    source.set_authorizer(_authorize)


def _take_rows(source: sqlite3.Connection, target: sqlite3.Connection, table: Table, file: Path) -> None:
    """Copy a table's rows, checking every column."""
    current_table = Base.metadata.tables.get(table.name)
    is_json = {column.name for column in table.columns if isinstance(column.type, JSON | JsonObject)}
    keys = table.columns.keys()
    current_names = [RENAMED.get((table.name, key), key) for key in keys]
    names = ", ".join(f'"{name}"' for name in keys)
    add = f'INSERT INTO "{table.name}" ({names}) VALUES ({", ".join("?" * len(keys))})'
    rows = source.execute(f'SELECT {names} FROM "{table.name}"')
    while part := rows.fetchmany(ROWS_AT_ONCE):
        if current_table is not None:
            for row in part:
                refuse_faults(current_table, _decode(dict(zip(current_names, row, strict=True)), is_json), file)
        try:
            target.executemany(add, part)
        except sqlite3.IntegrityError as error:
            raise StoreError(f"{file} has invalid rows in {table.name} ({error}). Export the run again.") from None


def _decode(row: dict[str, Any], is_json: set[str]) -> dict[str, Any]:
    for name in is_json:
        if row[name] is not None:
            row[name] = _NO_JSON if not isinstance(row[name], str) else _json(row[name])
    return row


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NO_JSON


_NO_JSON = float("nan")
"""Replaces text that is not JSON; no column accepts this value."""


def refuse_faults(table: Table, row: dict[str, Any], file: Path) -> None:
    """Raise StoreError for the first column with an invalid value."""
    for name, fault in checking.faults(table, row):
        label = f"{table.name} {row['id']}" if isinstance(row.get("id"), int) else table.name
        raise StoreError(f"{file} is refused: {name} of {label} {fault}. Export the run again.")


def _check_links(made: sqlite3.Connection, file: Path) -> None:
    dangling = made.execute("PRAGMA foreign_key_check").fetchone()
    if dangling is not None:
        raise StoreError(f"{file} has a row of {dangling[0]} without its {dangling[2]}. Export the run again.")
