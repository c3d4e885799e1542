"""Read the git state of the trainer's source: the commit and later changes, with limits of size and time."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from threading import Timer

from store.db.engine import Store, StoreError
from store.surroundings.code import Source, add_code

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 200_000
"""Most bytes of a diff; longer ones are cut at a line end."""
MOST_NEW_BYTES = 20_000
"""Most bytes of a new Python file that is stored completely."""
SECONDS = 10.0
QUIET = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "--no-optional-locks")
PLAIN = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/")


def keep(store: Store, run_id: int) -> None:
    """Store the code with the run. Parts that cannot be read or written are left out, and training continues."""
    source = read_state(ROOT)
    if source is None:
        return
    try:
        add_code(store, run_id, source)
    except StoreError as error:
        logger.warning("The state of the code could not be stored: %s", error)


def read_state(root: Path) -> Source | None:
    """Return the state of the code in a folder; None if it is not a git checkout."""
    revision = _git(root, "rev-parse", "HEAD")
    if revision is None or not revision.strip():
        return None
    changed = _lines(_git(root, "diff", "HEAD", "--name-only", "--relative", "--no-renames", "-z", "--", "."))
    new = _lines(_git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", "."))
    difference = _git(root, "diff", "HEAD", *PLAIN, "--relative", "--", ".") or ""
    for path in new:
        if len(difference) > MOST_BYTES:
            break
        if path.endswith(".py") and _size(root / path) <= MOST_NEW_BYTES:
            difference += _git(root, "diff", *PLAIN, "--no-index", "--", "/dev/null", path, answers=(0, 1)) or ""
    shown = difference[:MOST_BYTES]
    is_cut = len(shown) < len(difference)
    return Source(revision.strip(), (*changed, *new), shown.rpartition("\n")[0] if is_cut else shown, is_cut)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _lines(text: str | None) -> list[str]:
    return [path for path in (text or "").split("\0") if path]


def _git(root: Path, *arguments: str, answers: Sequence[int] = (0,)) -> str | None:
    """Return git's output, cut shortly after MOST_BYTES; None if git is missing, fails or takes too long."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        process = subprocess.Popen(
            ["git", *QUIET, *arguments],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None
    timer = Timer(SECONDS, process.kill)
    timer.start()
    with process:
        assert process.stdout is not None
        output = process.stdout.read(2 * MOST_BYTES)
        is_whole = not process.stdout.read(1)
        if not is_whole:
            process.kill()
    timer.cancel()
    if is_whole and process.returncode not in answers:
        return None
    return output.decode("utf-8", "replace")
