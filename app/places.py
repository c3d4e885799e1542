"""The folders that paths entered in the browser may lie in, set by whoever starts the server.

The command line is not restricted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import make_url

from store.db.engine import database_url, sqlite_path
from trainer.spec.config import ConfigError, RunConfig

VARIABLE = "VR1Z_ROOTS"
LONGEST = 200
"""Characters of a path shown in a sentence."""


def roots() -> tuple[Path, ...]:
    """Return the allowed folders: VR1Z_ROOTS, else the home, current and database folders."""
    folders = [Path(name).expanduser() for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    if not folders:
        database = sqlite_path(make_url(database_url()))
        folders = [Path.home(), Path.cwd(), *([database.parent] if database else [])]
    return tuple(path.resolve() for path in folders)


def check(field: str, text: str) -> str:
    """Return the absolute path entered in the browser. Raises ConfigError if it lies outside, with links resolved."""
    try:
        path = Path(text.strip()).expanduser().absolute()
        inside = any(path.resolve().is_relative_to(root) for root in roots())
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{field}: {text[:200]!r} is not a valid path ({error}). Correct it.") from None
    if not inside:
        folders = ", ".join(map(str, roots()))
        raise ConfigError(
            f"{field}: {shorten_path(path)} is outside of {folders}. Move it there, or start the server with "
            f"{VARIABLE} set to its folder."
        )
    return str(path)


def shorten_path(path: Path) -> str:
    return str(path) if len(str(path)) <= LONGEST else f"{str(path)[:LONGEST]}…"


def outside_roots(config: RunConfig) -> list[str]:
    """Return a sentence for each path of a configuration that lies outside the allowed folders."""
    sentences = []
    for field, text in _path_fields(config):
        try:
            check(field, text)
        except ConfigError as error:
            sentences.append(str(error))
    return sentences


def _path_fields(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Yield the fields that hold a path; a model's id may also be a hub id, and an adapter a run's uid.

    Instructions, names and server addresses are never paths, whatever they look like; code has its own rule.
    """
    for field, text in (("data.path", config.data.path), ("data.traces", config.data.traces)):
        if text:
            yield field, text
    path_or_id = {"model.id": config.model.id, "model.adapter": config.model.adapter}
    for field, name in (path_or_id | {"evaluation.encoder": config.evaluation.encoder}).items():
        if name and is_path(name):
            yield field, name


def is_path(name: str) -> bool:
    """Return whether the loader would treat a name as a path, not as a hub id or a run."""
    try:
        return name.strip().startswith(("/", "~", ".", "\\")) or ".." in name or Path(name).exists()
    except (OSError, ValueError):
        return True  # too long or malformed for a hub id: report what is wrong with it as a path
