"""Which folders a page may name. Whoever starts the server decides; the command line is not confined."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import make_url

from store.engine import database_url, sqlite_path
from trainer.config import ConfigError, RunConfig

VARIABLE = "VR1Z_ROOTS"


def roots() -> tuple[Path, ...]:
    """The folders below which a page may name files: those of VR1Z_ROOTS, else home, the present and the database's."""
    named = [Path(name).expanduser() for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    if not named:
        database = sqlite_path(make_url(database_url()))
        named = [Path.home(), Path.cwd(), *([database.parent] if database else [])]
    return tuple(path.resolve() for path in named)


def check(field: str, text: str) -> str:
    """The absolute path that a page named. Raises ConfigError when it lies outside, whatever links lead there."""
    try:
        path = Path(text.strip()).expanduser().absolute()
        inside = any(path.resolve().is_relative_to(root) for root in roots())
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{field}: {text[:200]!r} is no path ({error}). Correct it.") from None
    if not inside:
        folders = ", ".join(map(str, roots()))
        raise ConfigError(
            f"{field}: {path} lies outside of {folders}. Move it there, or start the server with {VARIABLE} set to "
            "its folder."
        )
    return str(path)


def outside(config: RunConfig) -> list[str]:
    """A sentence for each path of a configuration that a page may not name."""
    found = []
    for field, text in _named(config):
        try:
            check(field, text)
        except ConfigError as error:
            found.append(str(error))
    return found


def _named(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Fields that hold a path; the id of a model may also be one of the hub, an adapter that of a run."""
    for field, text in (("data.path", config.data.path), ("data.traces", config.data.traces)):
        if text:
            yield field, text
    for field, name in (("model.id", config.model.id), ("model.adapter", config.model.adapter)):
        if name and (name.startswith(("/", "~", ".")) or ".." in name or Path(name).exists()):
            yield field, name
