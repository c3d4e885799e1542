"""Images at a URL that fsspec knows, for example in a bucket of S3. Knows nothing of images, hashes or databases.

Keys come from where the protocol's driver looks for them: its environment variables and files, or fsspec's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from posixpath import basename, dirname
from typing import Any, NamedTuple
from uuid import uuid4

from store.db.connection import StoreError
from store.db.redaction import redacted

WHOLE = frozenset(("abfs", "az", "gcs", "gs", "memory", "s3", "s3a"))
"""Protocols whose objects appear when all of their bytes are there; files of others are moved to their name."""
_SECRET = re.compile(r"://.*:.*@|[?#]")


class Listed(NamedTuple):
    """A file that is there: its name below the URL or folder, its whole address, its size in bytes."""

    name: str
    address: str
    size: int


@dataclass(frozen=True)
class Bucket:
    """A URL and the folder of this machine that keeps copies of what lies there; they may be deleted at any time.

    Names are paths below the URL. What cannot be done raises StoreError.
    """

    url: str
    cache: Path

    def __str__(self) -> str:
        return redacted(self.url)

    def has(self, name: str) -> bool:
        """True if it is there now, whatever was listed before; False, too, where nobody answers."""
        system, path = self._find(name)
        with self._told():
            system.invalidate_cache()
            return bool(system.exists(path))

    def get(self, name: str) -> bytes:
        """The bytes of a file. Raises FileNotFoundError when there is none."""
        system, path = self._find(name)
        with self._told():
            return bytes(system.cat_file(path))

    def put(self, name: str, data: bytes) -> None:
        """Writes a file, in place of one that may be there; it is whole or absent."""
        system, path = self._find(name)
        try:
            with self._told():
                if self._protocol in WHOLE:
                    system.pipe_file(path, data)
                    return
                unfinished = f"{dirname(path)}/.{basename(path)}-{uuid4().hex}"
                system.makedirs(dirname(path), exist_ok=True)
                system.pipe_file(unfinished, data)
                system.mv(unfinished, path)
        except FileNotFoundError:
            raise StoreError(f"There is no {self.url}: create the bucket or folder, or correct VR1Z_MEDIA.") from None

    def listed(self) -> Iterator[Listed]:
        """All files that are there now, by name."""
        system, root = self._opened
        with self._told(), suppress(FileNotFoundError):
            system.invalidate_cache()
            system.ls(root)  # `find` takes a place that does not answer for an empty one
            for path, facts in sorted(system.find(root, detail=True).items()):
                name = path[len(root) :].lstrip("/")
                yield Listed(name, f"{self.url}/{name}", facts["size"] or 0)

    def changed(self, name: str) -> float | None:
        """When a file was written, in seconds since 1970; None where the protocol does not say."""
        system, path = self._find(name)
        with self._told(), suppress(FileNotFoundError, NotImplementedError):
            return float(system.modified(path).timestamp())
        return None

    def remove(self, names: Iterable[str]) -> None:
        """Removes those files that are there."""
        for name in names:
            system, path = self._find(name)
            with self._told(), suppress(FileNotFoundError):
                system.rm_file(path)

    @property
    def _protocol(self) -> str:
        return self.url.partition("://")[0]

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """The file system of the driver and the path that stands for the URL there."""
        from fsspec.core import url_to_fs  # here, since who keeps images in a folder should not wait for it

        with self._told():
            system, root = url_to_fs(self.url)
            return system, root

    def _find(self, name: str) -> tuple[Any, str]:
        system, root = self._opened
        return system, f"{root}/{name}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """A driver's error in words; that a file is not there is for the caller to judge."""
        try:
            yield
        except FileNotFoundError:
            raise
        except PermissionError:
            raise StoreError(f"{self.url} refuses this account: check the keys in its environment.") from None
        except Exception as error:
            # Every driver has exceptions of its own for what a network does.
            reason = redacted(str(error) or type(error).__name__).splitlines()[0]
            raise StoreError(
                f"{self.url} cannot be used ({reason}): see that it answers, or correct VR1Z_MEDIA."
            ) from None


def open_bucket(url: str, cache: Path) -> Bucket:
    """The bucket behind a URL, not yet asked. Raises StoreError unless a driver is installed and no secret is in it."""
    from fsspec.registry import get_filesystem_class

    protocol, _, place = url.partition("://")
    if _SECRET.search(url):
        raise StoreError(
            f"The {protocol}:// URL of the images holds a password or a query: take it out of VR1Z_MEDIA, "
            "and give keys to the driver by its environment variables."
        )
    if not place.strip("/"):
        raise StoreError(f"{url} names no bucket and no folder: write {protocol}://BUCKET/FOLDER.")
    try:
        get_filesystem_class(protocol)
    except ValueError:
        raise StoreError(
            f"{protocol}:// is no protocol for images: name a folder, or a URL such as s3://BUCKET/FOLDER."
        ) from None
    except ImportError as error:
        raise StoreError(f"There is no driver for {protocol}:// yet: {error} (with pip).") from None
    return Bucket(url.rstrip("/"), cache)
