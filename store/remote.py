"""Images on a place that several machines share, named by a URL of fsspec: `s3://bucket/images`, `sftp://host/images`.

The folder of images is then a cache of it: what is stored goes to both, what is missing is fetched by its hash. Which
keys open the place, fsspec's drivers know from their own configuration and environment; they are never in the URL.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import fsspec

from store.connection import StoreError


def check(url: str) -> str:
    """The URL itself. Raises StoreError when it cannot be used, or holds a name or a password."""
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise StoreError("VR1Z_MEDIA must hold no name or password: give them to the driver, by its environment.")
    _open(url)
    return url


def put(url: str, sha256: str, data: bytes) -> None:
    """Stores an image unless it is there whole. Raises StoreError."""
    system, root = _open(url)
    try:
        with suppress(FileNotFoundError):
            if system.info(_place(root, sha256))["size"] == len(data):
                return
        system.makedirs(f"{root}/{sha256[:2]}", exist_ok=True)
        system.pipe_file(_place(root, sha256), data)
    except Exception as error:
        raise _unreachable(url, error) from None


def get(url: str, sha256: str) -> bytes | None:
    """The bytes of an image, None where there is none. Raises StoreError."""
    system, root = _open(url)
    try:
        return bytes(system.cat_file(_place(root, sha256)))
    except FileNotFoundError:
        return None
    except Exception as error:
        raise _unreachable(url, error) from None


def remove(url: str, sha256: str) -> None:
    """Removes an image if it is there. Raises StoreError."""
    system, root = _open(url)
    try:
        system.rm_file(_place(root, sha256))
    except FileNotFoundError:
        return
    except Exception as error:
        raise _unreachable(url, error) from None


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL, which fsspec remembers, and the path there."""
    try:
        system, root = fsspec.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise StoreError(f"VR1Z_MEDIA: {url} cannot be opened: {_first_line(error)}.") from None
    except Exception as error:
        raise _unreachable(url, error) from None
    return system, str(root).rstrip("/")


def _place(root: str, sha256: str) -> str:
    return f"{root}/{sha256[:2]}/{sha256}"


def _unreachable(url: str, error: Exception) -> StoreError:
    # Each driver has exceptions of its own.
    return StoreError(f"The images at {url} cannot be reached ({_first_line(error)}): check the place and its keys.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
