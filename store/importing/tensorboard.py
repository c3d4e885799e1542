"""Import TensorBoard event files. A folder is a run, and each file in it an attempt or a parallel writer.

Scalars, hyperparameters and the configuration that transformers writes as text are read; everything else is counted.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from store.db.connection import StoreError
from store.importing.event_values import MESSAGES, hyperparameters, kind_of, scalar, text
from store.importing.files import as_json, below, places, read_each
from store.importing.found import BOOKKEEPING, NO_NUMBER, Found, FoundRun

PATTERN = "*tfevents*"
CONFIGS = ("args/text_summary", "model_config/text_summary")
"""Tags under which transformers logs its arguments and the model's configuration as JSON."""
BEGINNING = 2
"""Number of first scalars by which a file is recognised after it has grown."""
START = 1
"""Status of a starting session, which repeats everything from its step on."""
_HEADER, _FOOTER = struct.Struct("<QI"), 4
"""Length and its checksum; the data's checksum follows the data."""
_BEGUN = re.compile(r"tfevents\.(\d{9,11})\.")


def runs(path: str) -> Found:
    """Return a run for each folder at or below `path` whose event files have scalars."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for file in below(path, PATTERN):
        folders[file.parent].append(file)
    root = Path(path).expanduser().absolute()
    runs_by_folder: dict[Path, FoundRun] = {}
    unread: list[str] = []
    for folder, files in folders.items():
        run = _run(folder, files, unread)
        if run is not None:
            runs_by_folder[folder] = run
    above = root.parent if root in runs_by_folder else root
    for folder, run in runs_by_folder.items():
        names = places(folder, above)
        run.name, run.longer_names, run.folder = names[0], names[1:], folder
    for folder, run in runs_by_folder.items():
        owner = next((parent for parent in folder.parents if parent in runs_by_folder), None)
        if owner and (how := _written_by(folder.relative_to(owner), run)):
            run.notes.insert(0, f"Written by {how} for the run {runs_by_folder[owner].name}.")
    _distinguish(runs_by_folder, root)
    return Found(list(runs_by_folder.values()), unread)


def _run(folder: Path, files: list[Path], unread: list[str]) -> FoundRun | None:
    """Return the run of a folder, or None, with a reason in `unread`, if its files have no scalars."""
    parts, problems = read_each(sorted(files, key=_begun_and_name), _file)
    whole: FoundRun | None = None
    for part, restart in parts:
        if whole is None:
            whole = part
        else:
            whole.identity = whole.identity if whole.metrics else part.identity
            whole.continue_with(part, restart)
    if whole is None or not whole.metrics:
        unread += problems
        if whole is not None:
            whole.settle()
            unread.append(" ".join([f"{folder} has no scalars that can be imported.", *whole.notes]))
        return None
    whole.notes += problems
    return whole


def _begun_and_name(path: Path) -> tuple[int, str]:
    match = _BEGUN.search(path.name)
    return int(match[1]) if match else 0, path.name


def _file(path: Path) -> tuple[FoundRun, int | None]:
    """Return a file's run, and the step from which it claims to repeat. Raises StoreError for a file without events."""
    run = FoundRun(identity=path.name, name="", own_steps=False)
    restart = None
    for event in _events(path, run.notes):
        if run.started_at is None:
            run.started_at = float(_begun_and_name(path)[0]) or event.wall_time
        if event.session_log.status == START:
            restart = event.step if restart is None else min(restart, event.step)
            run.go_back(event.step - 1)
        for value in event.summary.value:
            _add(run, event, value)
    return run, restart


def _add(run: FoundRun, event: Any, value: Any) -> None:
    tag = value.tag.decode("utf-8", "replace")
    number = scalar(value)
    if number is not None:
        if run.identity.count("\n") < BEGINNING:
            # Several files that are written in the same second may have the same name.
            run.identity += f"\n{hashlib.sha256(event.SerializeToString()).hexdigest()}"
        run.add(event.step, {tag: number}, event.wall_time)
    elif (settings := hyperparameters(value)) is not None or (
        tag in CONFIGS and isinstance(settings := as_json(text(value)), dict)
    ):
        run.config |= settings
    else:
        kind = kind_of(value)
        reason = BOOKKEEPING if kind == "hparams" else NO_NUMBER
        run.left_out[reason][f"{tag} ({kind})"] += 1


def _written_by(place: Path, run: FoundRun) -> str | None:
    """Return the writer (PyTorch's, tensorboardX's) that creates subfolders for a run, if it made this one."""
    tags = {name for row in run.metrics.values() for name in row}
    for tag in tags if len(tags) == 1 else ():
        if str(place).startswith(f"{tag.replace('/', '_')}_") or Path(tag) in place.parents:
            return f"add_scalars({tag!r})"
    return "add_hparams" if "hparams" in run.config else None


def _distinguish(runs_by_folder: dict[Path, FoundRun], root: Path) -> None:
    """Distinguish runs with the same beginning by their paths."""
    times = Counter(run.identity for run in runs_by_folder.values())
    for folder, run in runs_by_folder.items():
        if times[run.identity] > 1:
            run.identity += f"\n{folder.relative_to(root)}"


def _events(path: Path, notes: list[str]) -> Iterator[Any]:
    """Yield events up to the end, or up to where the file is cut off or damaged, and add a note of that."""
    size = path.stat().st_size
    if size == 0:
        raise StoreError(f"{path} is empty. Its writer has not written anything yet, or died.")
    read = 0
    with path.open("rb") as file:
        while header := file.read(_HEADER.size):
            length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else size
            data = file.read(length) if file.tell() + length + _FOOTER <= size else None
            try:
                event = None if data is None else MESSAGES["Event"].FromString(data)
            except DecodeError:
                event = None
            if event is None:
                if read:
                    notes.append(f"{path.name} is cut off or damaged after {read:,} events; later events are lost.")
                break
            yield event
            read += 1
            file.read(_FOOTER)
    if not read:
        raise StoreError(f"{path} is not a TensorBoard event file.")
