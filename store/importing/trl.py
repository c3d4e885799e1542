"""Import the `output_dir` of a TRL trainer: `trainer_state.json` and the parquet files of `log_completions`.

A folder may have several attempts. Data of an earlier attempt that the last one did not overwrite is left out.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from store.db.connection import StoreError
from store.importing.files import fingerprint, places, read_each, read_json
from store.importing.found import Found, FoundRun, as_number, list_names, pluralize
from store.importing.trl_tables import add_completions, number_groups

STATE, ADAPTER, TABLES = "trainer_state.json", "adapter_config.json", "completions"
CHECKPOINT = f"checkpoint-*/{STATE}"
CARD = "README.md"
METHODS = frozenset(
    ("grpo", "rloo", "sft", "dpo", "kto", "orpo", "cpo", "bco", "xpo", "ppo", "gkd", "online_dpo", "nash_md")
)
"""Tags in TRL's model cards that name a method."""
_LONGEST_CARD = 10_000
UNTIL = 60.0
"""Seconds by which a file of an earlier attempt must be older, because copying files takes a while."""


class State(NamedTuple):
    """A `trainer_state.json`. Later ones of the same attempt repeat the history of earlier ones."""

    path: Path
    written_at: float
    step: float
    history: list[dict[str, Any]]
    content: dict[str, Any]


def runs(path: str) -> Found:
    """Return the run of an output folder, or of every output folder below `path`."""
    root = Path(path).expanduser().absolute()
    if not root.exists():
        raise StoreError(f"{path} does not exist. Name an existing folder.")
    root = root.parent if root.is_file() or root.name == TABLES else root
    found_runs: list[FoundRun] = []
    unread: list[str] = []
    for folder in _folders(root):
        run = _run(folder, root, unread)
        if run is not None:
            found_runs.append(run)
    return Found(found_runs, unread)


def _folders(root: Path) -> list[Path]:
    """Return `root` if it is an output folder, or else the output folders below it, without nested ones."""
    if _is_output(root):
        return [root]
    parents = {path.parent for path in root.rglob(STATE)} | {path.parent.parent for path in root.glob("**/*.parquet")}
    outputs = sorted(folder for each in parents for folder in (each, each.parent) if _is_output(folder))
    return [folder for folder in dict.fromkeys(outputs) if not any(each in folder.parents for each in outputs)]


def _is_output(folder: Path) -> bool:
    return (folder / STATE).is_file() or any(folder.glob(CHECKPOINT)) or any(folder.glob(f"{TABLES}/*.parquet"))


def _run(folder: Path, root: Path, unread: list[str]) -> FoundRun | None:
    """Return the run of a folder, or None, with reasons in `unread`, if nothing in it can be read."""
    states, problems = read_each(sorted(_files(folder)), _state)
    tables = sorted((folder / TABLES).glob("*.parquet"))
    last = _last(states)
    history = last.history if last else []
    identity = fingerprint(tables[0]) if tables else f"{folder.name}\n{json.dumps(history[:1], sort_keys=True)}"
    # `checkpoint-100` alone is not a useful name.
    names = places(folder, folder.parent.parent if folder.match("checkpoint-*") else root)
    run = FoundRun(identity, names[0], names[1:], config=_config(folder, last.content if last else {}))
    run.folder, run.named_method = folder, _method(folder)
    for entry in history:
        run.add(_whole_step(entry.get("step")), {name: value for name, value in entry.items() if name != "step"})
    tables_of_last = _of_last_attempt(run, tables, states, last)
    _, damaged = read_each(tables_of_last, lambda table: add_completions(run, table))
    problems += damaged
    if last is None and not (run.completions or run.answers):
        unread += problems
        return None
    run.notes += problems
    number_groups(run)
    return run


def _files(folder: Path) -> set[Path]:
    return {path for path in (folder / STATE, *folder.glob(CHECKPOINT)) if path.is_file()}


def _state(path: Path) -> State:
    content = read_json(path)
    history = content.get("log_history")
    entries = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    return State(path, path.stat().st_mtime, as_number(content.get("global_step")) or 0.0, entries, content)


def _last(states: list[State]) -> State | None:
    """Return the state with the complete history of the last attempt."""
    if not states:
        return None
    newest = max(states, key=lambda state: state.written_at)
    # Copied files may have the same age; then the longest history is the best guess.
    recent = [state for state in states if state.written_at > newest.written_at - UNTIL]
    same = [state for state in states if newest.history and _common(newest, state) == len(newest.history)]
    return max([*recent, *same], key=lambda state: (state.step, len(state.history)))


def _common(one: State, other: State) -> int:
    """Return the length of the common beginning of two histories."""
    pairs = zip(one.history, other.history, strict=False)
    return next(
        (i for i, (a, b) in enumerate(pairs) if not _is_equal_json(a, b)), min(len(one.history), len(other.history))
    )


def _is_equal_json(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return json.dumps(one, sort_keys=True, default=str) == json.dumps(other, sort_keys=True, default=str)


def _of_last_attempt(run: FoundRun, tables: list[Path], states: list[State], last: State | None) -> list[Path]:
    """Return the tables of the last attempt, and add notes on those of earlier ones."""
    if last is None:
        return tables
    earlier = [state for state in states if _common(state, last) < min(len(state.history), len(last.history))]
    for state in earlier:
        run.gone |= {int(_whole_step(entry.get("step")) or 0) for entry in state.history[_common(state, last) :]}
        run.notes.append(
            f"{state.path.parent.name}/{STATE} is left out: it is from an earlier attempt (up "
            f"to step {state.step:,.0f})."
        )
    old = [table for table in tables if _is_older(table, earlier, last)]
    if old:
        names = list_names([table.name for table in old])
        run.notes.append(f"Left out: {pluralize(len(old), 'table')} of completions of an earlier attempt ({names}).")
    return [table for table in tables if table not in old]


def _is_older(table: Path, earlier: list[State], last: State) -> bool:
    """Return whether a table is from an earlier attempt, at a step that the last one skipped or repeated."""
    digits = "".join(each for each in table.stem if each.isdigit())
    step, written_at = int(digits or 0), table.stat().st_mtime
    if step > last.step and written_at < last.written_at - UNTIL:
        return True
    for state in earlier:
        shared = state.history[: _common(state, last)]
        branched = max((_whole_step(entry.get("step")) or 0 for entry in shared), default=0)
        if step > branched and written_at <= state.written_at < last.written_at - UNTIL:
            return True
    return False


def _whole_step(step: object) -> int | float | None:
    """Return the step of a log entry, which older versions and other writers store as text."""
    if isinstance(step, str):
        return as_number(step.strip())
    return step if isinstance(step, int | float) else None


def _method(folder: Path) -> str | None:
    """Return the method among the tags of TRL's model card, which include `trl`."""
    for card in (folder / CARD, *sorted(folder.glob(f"checkpoint-*/{CARD}"))):
        if not card.is_file():
            continue
        with card.open(encoding="utf-8", errors="replace") as file:
            _, mark, rest = file.read(_LONGEST_CARD).partition("---")
        tags = re.findall(r"^\s*- ([\w-]+)\s*$", rest.partition("\n---")[0], re.MULTILINE) if mark else []
        if "trl" in tags:
            return next((tag.replace("-", "_") for tag in tags if tag.replace("-", "_") in METHODS), None)
    return None


def _config(folder: Path, state: dict[str, Any]) -> dict[str, Any]:
    adapters = [path for path in (folder / ADAPTER, *folder.glob(f"checkpoint-*/{ADAPTER}")) if path.is_file()]
    read, _ = read_each(adapters, read_json)
    model = next((each["base_model_name_or_path"] for each in read if each.get("base_model_name_or_path")), None)
    settings = {"max_steps": state.get("max_steps"), "model_id": model}
    return {name: value for name, value in settings.items() if value is not None}
