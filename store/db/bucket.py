"""Store files at a URL that fsspec supports, for example in an S3 bucket.

Credentials come from where the protocol's driver looks for them: environment variables, its own files, or fsspec's.
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
from store.db.redaction import redact

WHOLE = frozenset(("abfs", "az", "gcs", "gs", "memory", "s3", "s3a"))
"""Protocols whose objects appear only when complete; with others, files are written under another name and moved."""
_SECRET = re.compile(r"://.*:.*@|[?#]")


class Listed(NamedTuple):
    """A stored file: its name relative to the URL or folder, its full address, and its size in bytes."""

    name: str
    address: str
    size: int


@dataclass(frozen=True)
class Bucket:
    """A URL and the local folder that caches its files; cached files can be deleted at any time.

    Names are paths relative to the URL. Failures raise StoreError.
    """

    url: str
    cache: Path

    def __str__(self) -> str:
        return redact(self.url)

    def has(self, name: str) -> bool:
        """Return whether the file exists now, bypassing any cached listing; False if the server does not answer."""
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
        """Write a file, replacing an existing one; readers see the whole file or none."""
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
            raise StoreError(
                f"{self.url} does not exist. Create the bucket or folder, or correct VR1Z_MEDIA."
            ) from None

    def listed(self) -> Iterator[Listed]:
        """Yield all files that exist now, by name."""
        system, root = self._opened
        with self._told(), suppress(FileNotFoundError):
            system.invalidate_cache()
            system.ls(root)  # `find` treats an unreachable place as empty
            for path, facts in sorted(system.find(root, detail=True).items()):
                name = path[len(root) :].lstrip("/")
                yield Listed(name, f"{self.url}/{name}", facts["size"] or 0)

    def changed(self, name: str) -> float | None:
        """Return when a file was written, in seconds since 1970, or None if the protocol does not report it."""
        system, path = self._find(name)
        with self._told(), suppress(FileNotFoundError, NotImplementedError):
            return float(system.modified(path).timestamp())
        return None

    def remove(self, names: Iterable[str]) -> None:
        """Remove the files that exist."""
        for name in names:
            system, path = self._find(name)
            with self._told(), suppress(FileNotFoundError):
                system.rm_file(path)

    @property
    def _protocol(self) -> str:
        return self.url.partition("://")[0]

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        """Return the driver's file system and the URL's path in it."""
        from fsspec.core import url_to_fs  # imported here, because images in a folder do not need it

        with self._told():
            system, root = url_to_fs(self.url)
            return system, root

    def _find(self, name: str) -> tuple[Any, str]:
        system, root = self._opened
        return system, f"{root}/{name}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn a driver's errors into StoreErrors, except for a missing file, which the caller handles."""
        try:
            yield
        except FileNotFoundError:
            raise
        except PermissionError:
            raise StoreError(f"Access to {self.url} was denied. Check the keys in the environment.") from None
        except Exception as error:
            # Each driver has its own exceptions for network errors.
            reason = redact(str(error) or type(error).__name__).splitlines()[0]
            raise StoreError(
                f"{self.url} cannot be used ({reason}). Check that it can be reached, or correct VR1Z_MEDIA."
            ) from None


def open_bucket(url: str, cache: Path) -> Bucket:
    """Return the bucket for a URL without connecting. Raises StoreError for a missing driver or a secret in the URL."""
    from fsspec.registry import get_filesystem_class

    protocol, _, place = url.partition("://")
    if _SECRET.search(url):
        raise StoreError(
            f"The {protocol}:// URL of the images contains a password or a query. Remove it from VR1Z_MEDIA, "
            "and pass keys in the driver's environment variables."
        )
    if not place.strip("/"):
        raise StoreError(f"{url} names no bucket or folder. Write {protocol}://BUCKET/FOLDER.")
    try:
        get_filesystem_class(protocol)
    except ValueError:
        raise StoreError(
            f"{protocol}:// is not supported for images. Use a folder, or a URL such as s3://BUCKET/FOLDER."
        ) from None
    except ImportError as error:
        raise StoreError(f"No driver for {protocol}:// is installed: {error} (with pip).") from None
    return Bucket(url.rstrip("/"), cache)


Place = Path | Bucket
"""Where images are stored: a folder or a URL."""
