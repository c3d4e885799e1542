"""Save the runs that a reader found: new runs completely, and only new data of known runs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select

from store.db.connection import Store, StoreError, reading
from store.db.redaction import redacted_values
from store.db.schema import Run
from store.events import add_event
from store.importing import known, lines, tensorboard, trackio, trl, verl, wandb
from store.importing.found import LAST_STEP, Found, FoundRun, pluralize
from store.importing.names import printable, shorten
from store.importing.steps import DATASET, extend, form_of_texts, put_all
from store.runs import create_run, delete_run, describe_run, get_run
from store.trace import GRAMMAR


class Reader(NamedTuple):
    runs: Callable[[str], Found]
    nothing: str
    """End of the sentence about a path with no runs."""


READERS = {
    "trl": Reader(
        trl.runs,
        "has neither trainer_state.json nor completions/*.parquet. Name the output_dir of a trainer, or a parent "
        "folder of several; for another log with steps, use `import lines`.",
    ),
    "trackio": Reader(trackio.runs, "has no Trackio project. Name Trackio's folder or a project's .db file."),
    "tensorboard": Reader(
        tensorboard.runs, "has no TensorBoard scalars. Name a folder with *tfevents* files that have some."
    ),
    "verl": Reader(
        verl.runs,
        "has no verl dumps. Name its trainer.rollout_data_dir, or the parent folder of that and the validation dumps; "
        "for a console log, use `import lines`.",
    ),
    "lines": Reader(
        lines.runs,
        "has no log with steps. Name a .csv, .tsv, .jsonl, .txt or .log file whose lines hold a step and its metrics.",
    ),
    "wandb": Reader(wandb.runs, "has no W&B run. Name a folder with a run-*.wandb file."),
}
UNKNOWN = "unknown"
DEEPEST = 6
"""Deepest nesting in a configuration, as hostile ones may be endless."""
MODEL_KEYS = ("model_name_or_path", "_name_or_path", "model_id", "base_model_name_or_path")


class Imported(NamedTuple):
    name: str
    uid: str
    steps: int
    completions: int
    is_new: bool
    """Whether the run is new, rather than already imported."""
    changed: int = 0
    """Number of steps that were added, replaced or removed."""
    notes: tuple[str, ...] = ()
    """What was left out, and what users of the run should know."""


class Report(NamedTuple):
    runs: list[Imported]
    unread: list[str]
    """A sentence for each file that could not be read."""


Followed = dict[tuple[str, ...], tuple[str, int]]
"""Identity and first step of followed runs, by name."""


def import_runs(
    store: Store, tool: str, path: str, name: str | None = None, followed: Followed | None = None
) -> Report:
    """Import all runs at `path` with the reader for `tool`: add new runs, and update known ones.

    Runs in `followed` keep their identity when their first files are removed. Raises StoreError if nothing can be read,
    or if `name` is given for several runs.
    """
    read = READERS[tool].runs(path)
    if not read.runs and read.unread:
        raise StoreError(" ".join([f"No file in {path} can be read.", *read.unread]))
    if not read.runs:
        raise StoreError(f"{path} {READERS[tool].nothing}")
    if name is not None and len(read.runs) > 1:
        raise StoreError(f"{path} has {len(read.runs)} runs. Leave out the name, so that each keeps its own.")
    for run in read.runs:
        run.settle()
        if followed is not None:
            _keep_identity(run, followed)
    known.recognise(store, tool, path, read.runs, [uid_of(tool, run) for run in read.runs])
    names = [name] if name is not None else _names(store, tool, read.runs)
    imported = [
        _import(store, tool, path, run, run_name, read.unread) for run, run_name in zip(read.runs, names, strict=True)
    ]
    return Report(imported, read.unread)


def _keep_identity(run: FoundRun, followed: Followed) -> None:
    """Give a run that now lacks its first steps the identity that it had with them; a restarted run has them again."""
    first = min([*run.metrics, *run.completions, *run.answers], default=0)
    place = (run.name, *run.longer_names)
    identity, before = followed.get(place, (run.identity, first))
    if first > before:
        run.identity = identity
    else:
        followed[place] = (run.identity, first)


def uid_of(tool: str, run: FoundRun) -> str:
    return run.uid or hashlib.sha256(f"{tool}\n{run.identity}".encode("utf-8", "replace")).hexdigest()[:10]


def _names(store: Store, tool: str, runs: Sequence[FoundRun]) -> list[str]:
    """Return a unique name for each run: its own, or the first longer one that is free."""
    with reading(store) as connection:
        stored_names = {row.uid: row.name for row in connection.execute(select(Run.uid, Run.name))}
    uids = [uid_of(tool, run) for run in runs]
    uses = Counter(name for uid, name in stored_names.items() if uid not in uids)
    choices = [[_shown(each, tool) for each in (run.name, *run.longer_names)] for run in runs]
    for choice in choices:
        uses.update(set(choice))
    names = []
    for uid, choice in zip(uids, choices, strict=True):
        free = next((name for name in choice if uses[name] == 1), None)
        names.append(free or _shown(f"{choice[0]} ({uid})", tool))
    return names


def _shown(name: str, tool: str) -> str:
    return shorten(printable(name)) or tool


def _import(store: Store, tool: str, path: str, run: FoundRun, name: str, unread: Sequence[str]) -> Imported:
    uid = uid_of(tool, run)
    steps = run.metrics.keys() | run.completions.keys() | run.answers.keys()
    completion_count = sum(map(len, run.completions.values()))
    if not steps:
        run.notes.append("Its files hold neither figures nor completions yet.")
    with reading(store) as connection:
        existing = connection.execute(select(Run.id, Run.name).where(Run.uid == uid)).first()
    display_name = existing.name if existing else _shown(name, tool)
    if display_name != printable(name) and not existing:
        run.notes.append(f"The name was shortened from {printable(name)!r}.")
    run_id, changed = (
        (existing.id, _extend(store, tool, path, run, existing.id))
        if existing
        else _create(store, tool, path, run, display_name)
    )
    if changed:
        contents = f"{pluralize(len(steps), 'step')}, {pluralize(completion_count, 'completion')}"
        report = [f"Imported from {tool}: {path} ({contents}).", *run.notes, *unread]
        add_event(store, run_id, "imported", "\n".join(report))
    return Imported(display_name, uid, len(steps), completion_count, existing is None, changed, tuple(run.notes))


def _create(store: Store, tool: str, path: str, run: FoundRun, name: str) -> tuple[int, int]:
    """Create a run; return its id and number of steps."""
    columns = _columns(tool, path, run)
    made = create_run(store, uid=uid_of(tool, run), name=name, dataset=DATASET, **columns)
    try:
        put_all(store, made.id, made.uid, run, columns["reward_weights"])
    except BaseException:
        # An incomplete run would count as a complete one at the next attempt.
        delete_run(store, made.id)
        raise
    return made.id, max(1, len(run.metrics))


def _extend(store: Store, tool: str, path: str, run: FoundRun, run_id: int) -> int:
    """Update a known run from its files; return how many steps changed."""
    stored, columns = get_run(store, run_id), _columns(tool, path, run)
    weights = columns["reward_weights"] or stored.reward_weights
    changed = extend(store, run_id, stored.uid, run, weights)
    recorded = (stored.config.get("recorded") or {}) | columns["config"]["recorded"]
    config = columns["config"] | {"recorded": recorded}
    updated = {"config": config, "reward_weights": weights, "method": run.method}
    if changed or config["imported"]["notes"] != (stored.config.get("imported") or {}).get("notes"):
        describe_run(store, run_id, **updated, max_steps=columns["max_steps"] or stored.max_steps)
    return changed


def _columns(tool: str, path: str, run: FoundRun) -> dict[str, Any]:
    """Return a run's columns except its name."""
    form = form_of_texts(run)
    return {
        "method": run.method,
        "style": form if form in GRAMMAR else UNKNOWN,
        "grammar": "ours" if form in GRAMMAR else form,
        "model": printable(_first(run.config, MODEL_KEYS)),
        "config": {
            "imported": {"from": tool, "path": path, "place": known.place_of(path, run), "notes": run.notes},
            "recorded": redacted_values(_shallow(run.config)),
        },
        "reward_weights": run.weights(),
        "seed": _whole(run.config.get("seed")),
        "max_steps": _whole(run.config.get("max_steps")) or None,
    }


def _shallow(value: Any, depth: int = 0) -> Any:
    if not isinstance(value, dict | list):
        return value
    if depth > DEEPEST:
        return "…"
    if isinstance(value, list):
        return [_shallow(each, depth + 1) for each in value]
    return {name: _shallow(each, depth + 1) for name, each in value.items()}


def _first(config: dict[str, Any], keys: Sequence[str]) -> str:
    return next((config[key] for key in keys if isinstance(config.get(key), str) and config[key]), UNKNOWN)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LAST_STEP else None
