"""The folders that a page may name. Whoever starts the server decides; the command line is not restricted."""

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
    """Return the folders whose files a page may name: VR1Z_ROOTS, else home, the current and the database's."""
    named = [Path(name).expanduser() for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    if not named:
        database = sqlite_path(make_url(database_url()))
        named = [Path.home(), Path.cwd(), *([database.parent] if database else [])]
    return tuple(path.resolve() for path in named)


def check(field: str, text: str) -> str:
    """Return the absolute path that a page named. Raises ConfigError if it lies outside, links resolved."""
    try:
        path = Path(text.strip()).expanduser().absolute()
        inside = any(path.resolve().is_relative_to(root) for root in roots())
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{field}: {text[:200]!r} is no path ({error}). Correct it.") from None
    if not inside:
        folders = ", ".join(map(str, roots()))
        raise ConfigError(
            f"{field}: {shortened(path)} lies outside of {folders}. Move it there, or start the server with "
            f"{VARIABLE} set to its folder."
        )
    return str(path)


def shortened(path: Path) -> str:
    return str(path) if len(str(path)) <= LONGEST else f"{str(path)[:LONGEST]}…"


def outside(config: RunConfig) -> list[str]:
    """Return a sentence for each path of a configuration that a page may not name."""
    found = []
    for field, text in _named(config):
        try:
            check(field, text)
        except ConfigError as error:
            found.append(str(error))
    return found


def _named(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Yield fields that hold a path; a model's id may also name one of the hub, an adapter a run.

    An instruction, a name and the address of a server are no paths, whatever they look like; code has its own rule.
    """
    for field, text in (("data.path", config.data.path), ("data.traces", config.data.traces)):
        if text:
            yield field, text
    either = {"model.id": config.model.id, "model.adapter": config.model.adapter}
    for field, name in (either | {"evaluation.encoder": config.evaluation.encoder}).items():
        if name and is_path(name):
            yield field, name


def is_path(name: str) -> bool:
    """Return whether a name, possibly one of the hub or of a run, is a path to its loader."""
    try:
        return name.strip().startswith(("/", "~", ".", "\\")) or ".." in name or Path(name).exists()
    except (OSError, ValueError):
        return True  # no name on the hub is so long or so odd: report what is wrong with it as a path
