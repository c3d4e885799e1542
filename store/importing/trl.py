"""What a TRL trainer leaves in its `output_dir`: `trainer_state.json`, and the parquet files of `log_completions`.

The parquet files hold the last generation of each logging step, without pictures, counts or groups.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from store.connection import StoreError
from store.importing.files import fingerprint, read_json
from store.importing.found import FoundRun, Said, as_number, as_step

STATE, ADAPTER = "trainer_state.json", "adapter_config.json"
OWN_COLUMNS = ("step", "prompt", "completion", "advantage")
DEEPEST = 4
"""Of messages in messages."""
BALANCED = 1e-3
"""Advantages of a group add up to zero; rounding leaves less than this of a completion's."""
BY_PROMPT = (
    "Groups are told by equal prompts whose advantages add up to zero. TRL keeps no pictures: two examples with one "
    "question would look like one."
)


def runs(path: str) -> list[FoundRun]:
    """The one run of an output folder. Raises StoreError when it holds neither kind of file."""
    folder = Path(path).expanduser().absolute()
    if folder.name == "completions":
        folder = folder.parent
    state, tables = _state(folder), sorted((folder / "completions").glob("*.parquet"))
    if state is None and not tables:
        raise StoreError(f"{path} holds neither {STATE} nor completions/*.parquet: name the output_dir of a trainer.")
    state = state or {}
    history = state.get("log_history")
    history = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    identity = fingerprint(tables[0]) if tables else f"{folder.name}\n{json.dumps(history[:1], sort_keys=True)}"
    run = FoundRun(identity=identity, name=folder.name, config=_config(folder, state))
    for entry in history:
        run.add(entry.get("step"), {name: value for name, value in entry.items() if name != "step"})
    for table in tables:
        _add_completions(run, table)
    if run.completions:
        _tell_groups(run)
    return [run]


def _state(folder: Path) -> dict[str, Any] | None:
    """The newest state, which has all of the history."""
    states = [folder / STATE, *folder.glob(f"checkpoint-*/{STATE}")]
    read = [read_json(path) for path in states if path.is_file()]
    return max(read, key=lambda state: as_number(state.get("global_step")) or 0.0, default=None)


def _config(folder: Path, state: dict[str, Any]) -> dict[str, Any]:
    adapters = [path for path in (folder / ADAPTER, *folder.glob(f"checkpoint-*/{ADAPTER}")) if path.is_file()]
    adapter = read_json(adapters[0]) if adapters else {}
    told = {"max_steps": state.get("max_steps"), "model_id": adapter.get("base_model_name_or_path")}
    return {name: value for name, value in told.items() if value is not None}


def _add_completions(run: FoundRun, path: Path) -> None:
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise StoreError(f"{path} cannot be read as parquet ({_first_line(error)}): remove it and try again.") from None
    if missing := {"step", "prompt", "completion"} - set(table.column_names):
        raise StoreError(f"{path} has no column {min(missing)!r}: it is not a table of TRL's log_completions.")
    known = {name.removeprefix("reward/") for row in run.metrics.values() for name in row if name.startswith("reward/")}
    numbers = [f.name for f in table.schema if _is_numeric(f.type) and f.name not in OWN_COLUMNS]
    # Without metrics nothing tells a reward from a number that a reward function logged beside it.
    components = [name for name in numbers if not known or name in known]
    for batch in table.to_batches():
        for row in batch.to_pylist():
            step = as_step(row["step"])
            if step is not None:
                rewards = {name: _finite(row[name]) for name in components}
                said = Said(_text(row["prompt"]), _text(row["completion"]), rewards, _finite(row.get("advantage")))
                run.completions.setdefault(step, []).append(said)


def _is_numeric(kind: pyarrow.DataType) -> bool:
    return bool(pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind) or pyarrow.types.is_null(kind))


def _tell_groups(run: FoundRun) -> None:
    """Numbers the groups that can be told, and notes how many completions are in none."""
    size = math.gcd(*(n for said in run.completions.values() for n in Counter(each.prompt for each in said).values()))
    lost = 0
    for step, said in run.completions.items():
        together: dict[str, list[Said]] = {}
        for each in said:
            together.setdefault(each.prompt, []).append(each)
        groups = [prompt for prompt, members in together.items() if _is_group(members, size)]
        run.completions[step] = [
            each._replace(group=groups.index(each.prompt)) if each.prompt in groups else each for each in said
        ]
        lost += sum(each.group is None for each in run.completions[step])
    run.notes.append(BY_PROMPT)
    if lost:
        total = sum(map(len, run.completions.values()))
        run.notes.append(f"The group of {lost} of {total} completions cannot be told; they are marked.")


def _is_group(members: list[Said], size: int) -> bool:
    """Whether completions of one prompt can be one group of `size`; more than that are several, in unknown order."""
    advantages = [each.advantage for each in members]
    known = [value for value in advantages if value is not None]
    return size > 1 and len(members) == size == len(known) and abs(sum(known)) < BALANCED * size


def _text(value: object, depth: int = 0) -> str:
    """A text, or the texts of messages and their parts, a line each."""
    if isinstance(value, str):
        return value
    if depth > DEEPEST or value is None:
        return ""
    if isinstance(value, dict):
        return _text(value.get("content") or value.get("text"), depth + 1)
    return "\n".join(filter(None, (_text(each, depth + 1) for each in value))) if isinstance(value, list) else ""


def _finite(value: object) -> float | None:
    number = as_number(value)
    return None if number is None or math.isnan(number) else number


def _first_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error))[:200]
