"""Store files at a URL that fsspec supports, for example in an S3 bucket.

Credentials come from where the protocol's driver looks for them: environment variables, its files, or fsspec's.
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
"""Protocols whose objects appear only once complete; on others, files are written under another name and moved."""
_SECRET = re.compile(r"://.*:.*@|[?#]")


class Listed(NamedTuple):
    """A stored file: its name below the URL or folder, its full address, its size in bytes."""

    name: str
    address: str
    size: int


@dataclass(frozen=True)
class Bucket:
    """A URL, and the local folder that caches what lies there; cached files can be deleted at any time.

    Names are paths below the URL. Failures raise StoreError.
    """

    url: str
    cache: Path

    def __str__(self) -> str:
        return redacted(self.url)

    def has(self, name: str) -> bool:
        """Return whether the file exists now, bypassing any cached listing; False, too, if nobody answers."""
        system, path = self._find(name)
        with self._told():
            system.invalidate_cache()
            return bool(system.exists(path))

    def get(self, name: str) -> bytes:
        """Return the bytes of a file. Raises FileNotFoundError if it does not exist."""
        system, path = self._find(name)
        with self._told():
            return bytes(system.cat_file(path))

    def put(self, name: str, data: bytes) -> None:
        """Write a file, replacing an existing one; readers see all of it or nothing."""
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
        """Yield all files that exist now, by name."""
        system, root = self._opened
        with self._told(), suppress(FileNotFoundError):
            system.invalidate_cache()
            system.ls(root)  # `find` takes an unreachable place for an empty one
            for path, facts in sorted(system.find(root, detail=True).items()):
                name = path[len(root) :].lstrip("/")
                yield Listed(name, f"{self.url}/{name}", facts["size"] or 0)

    def changed(self, name: str) -> float | None:
        """Return when a file was written, in seconds since 1970, or None if the protocol does not say."""
        system, path = self._find(name)
        with self._told(), suppress(FileNotFoundError, NotImplementedError):
            return float(system.modified(path).timestamp())
        return None

    def remove(self, names: Iterable[str]) -> None:
        """Remove those of the files that exist."""
        for name in names:
            system, path = self._find(name)
            with self._told(), suppress(FileNotFoundError):
                system.rm_file(path)

    @property
    def _protocol(self) -> str:
        return self.url.partition("://")[0]

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """Return the driver's file system, and the path that stands for the URL in it."""
        from fsspec.core import url_to_fs  # imported here, since images in a folder should not wait for it

        with self._told():
            system, root = url_to_fs(self.url)
            return system, root

    def _find(self, name: str) -> tuple[Any, str]:
        system, root = self._opened
        return system, f"{root}/{name}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn a driver's errors into StoreErrors, except a missing file, which the caller judges."""
        try:
            yield
        except FileNotFoundError:
            raise
        except PermissionError:
            raise StoreError(f"{self.url} refuses this account: check the keys in its environment.") from None
        except Exception as error:
            # Each driver has its own exceptions for network failures.
            reason = redacted(str(error) or type(error).__name__).splitlines()[0]
            raise StoreError(
                f"{self.url} cannot be used ({reason}): see that it answers, or correct VR1Z_MEDIA."
            ) from None


def open_bucket(url: str, cache: Path) -> Bucket:
    """Return a URL's bucket, not contacted yet. Raises StoreError for a missing driver or a secret in the URL."""
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


Place = Path | Bucket
"""Where images lie: a folder, or a URL."""
