"""Open the database: find it, and check that its location is suitable.

The default is an SQLite file. For several machines, use PostgreSQL with an SQLAlchemy URL.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from store.db import private, upgrade
from store.db.bucket import Place, open_bucket
from store.db.connection import (
    Store,
    StoreError,
    opened_file,
    reading,
    server_engine,
    sqlite_engine,
    sqlite_path,
    writing,
)

__all__ = [
    "DEFAULT_URL",
    "MEDIA_VARIABLE",
    "URL_VARIABLE",
    "Store",
    "StoreError",
    "database_url",
    "media_place",
    "open_store",
    "reading",
    "sqlite_path",
    "writing",
]

DEFAULT_URL = "sqlite:///data/vision-r1-zero.db"
URL_VARIABLE = "VR1Z_DATABASE_URL"
MEDIA_VARIABLE = "VR1Z_MEDIA"
MEDIA_FOLDER, CACHE_FOLDER = "-media", "-media-cache"
"""Suffix of the images' folder next to a database."""
# fmt: off
NETWORK_FILE_SYSTEMS = frozenset((
    "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs", "fuse.rclone",
    "fuse.s3fs", "fuse.sshfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs",
))
# fmt: on


def database_url(option: str | None = None) -> str:
    """Return `option`, or else the environment variable VR1Z_DATABASE_URL, or else the default.

    A path is accepted, too. Paths become absolute, so that a process in another folder finds the same file.
    """
    text = option or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    if "://" not in text:
        return _absolute(text)
    try:
        url = make_url(text)
    except ArgumentError:
        raise StoreError(f"{text!r} is not a database URL. Write a path or sqlite:///PATH.") from None
    return _absolute(url.database) if sqlite_path(url) and url.database else text


def _absolute(path: str) -> str:
    url = URL.create("sqlite", database=str(Path(path).expanduser().absolute()))
    return url.render_as_string(hide_password=False)


def open_store(
    url: str | None = None, *, readonly: bool = False, must_exist: bool = False, busy_seconds: float | None = None
) -> Store:
    """Open a database, which is first upgraded unless `readonly`, and created unless it `must_exist`.

    Raises StoreError when it cannot be used. A read-only store can never change a row. `busy_seconds` is how long a
    write waits for another program's write to an SQLite file; the default is 30.
    """
    address = database_url(url)
    parsed = make_url(address)
    path = sqlite_path(parsed)
    media = media_place(path)
    if path is not None:
        _check_place(path, must_exist=readonly or must_exist)
    if path is not None and not readonly:
        private.make_file(path)
        private.close_to_others(_ours(path))
    try:
        if path:
            engine = sqlite_engine(path, readonly=readonly, busy_seconds=busy_seconds)
        else:
            engine = server_engine(parsed, readonly=readonly)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise StoreError(
            f"No driver for {parsed.drivername} is installed ({error}): run `pip install -r requirements-cluster.txt`."
        ) from None
    store = Store(address, engine, media)
    try:
        if readonly:
            upgrade.check(store)
        else:
            upgrade.prepare(store, path)
    except BaseException:
        store.close()
        raise
    return replace(store, file=opened_file(path) if path else None)


def _ours(path: Path) -> Iterator[Path]:
    """Yield the files next to a database that belong to it, and the folder if it is the default one."""
    yield from (Path(f"{path}{end}") for end in ("", "-wal", "-shm", "-journal", ".lock"))
    yield from path.parent.glob(f"{glob.escape(path.stem)}-schema-*")
    yield from (path.with_name(f"{path.stem}{end}") for end in (MEDIA_FOLDER, CACHE_FOLDER))
    yield from (path.parent / name for name in ("queue.log", "index.log", "ray.log"))
    yield from path.parent.glob(f"runs/{'[0-9a-f]' * 10}")
    if path == Path(DEFAULT_URL.removeprefix("sqlite:///")).absolute():
        yield path.parent


def _check_place(path: Path, *, must_exist: bool) -> None:
    if must_exist and not path.is_file():
        raise StoreError(f"The database {path} does not exist. Launch a run first, or name another file with --db.")
    try:
        private.make_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"Cannot create the folder {path.parent} ({error.strerror}). Choose another with --db."
        ) from None
    mounts = Path("/proc/self/mountinfo")
    kind = network_file_system(path.resolve().parent, mounts.read_text(errors="replace")) if mounts.exists() else None
    if kind:
        raise StoreError(
            f"{path.parent} is on a network file system ({kind}), where SQLite can lose data. "
            "Choose a local disk with --db, or use PostgreSQL."
        )


def network_file_system(folder: Path, mountinfo: str) -> str | None:
    """Return the type of the network file system of `folder`, or None, from Linux's table of mounts."""
    file_system, depth = "", -1
    for line in mountinfo.splitlines():
        mount, _, rest = line.partition(" - ")
        point = Path(mount.split(" ")[4].replace("\\040", " "))
        if folder.is_relative_to(point) and len(point.parts) >= depth:
            file_system, depth = rest.split(" ")[0], len(point.parts)
    return file_system if file_system in NETWORK_FILE_SYSTEMS else None


def media_place(path: Path | None, chosen: str | None = None) -> Place:
    """Return the location of a database's images: `chosen`, or else VR1Z_MEDIA, or else next to the SQLite file.

    Raises StoreError for a URL that cannot be used.
    """
    chosen = chosen or os.environ.get(MEDIA_VARIABLE)
    database = path or Path("data/vision-r1-zero.db").absolute()
    if chosen and "://" in chosen:
        return open_bucket(chosen, database.with_name(f"{database.stem}{CACHE_FOLDER}"))
    return Path(chosen).expanduser().absolute() if chosen else database.with_name(f"{database.stem}{MEDIA_FOLDER}")
