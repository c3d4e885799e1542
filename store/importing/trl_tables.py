"""Import TRL's `log_completions` tables: the last generation of each logging step, without images or groups."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from store.db.connection import StoreError
from store.importing.found import NO_STEP, FoundRun, LoggedCompletion, as_number, as_step, list_names, pluralize

OWN_COLUMNS = ("step", "prompt", "completion", "advantage", "reward")
GOLD = ("answer", "answers", "solution", "gold", "gold_answer", "ground_truth", "target", "label")
"""Columns that may have the gold answer, likeliest first; reward functions log it with their rewards."""
DEEPEST = 4
"""Deepest nesting of messages."""
BALANCED = 1e-3
"""Rounding error per completion up to which a group's advantages sum to zero."""
EQUAL = 1e-6
NO_REWARD = "Left out of the tables of completions because they are not columns of rewards"
BY_PROMPT = (
    "Groups are inferred from equal prompts whose advantages add up to zero. TRL stores no images, so two examples "
    "with the same question would look like one."
)


def add_completions(run: FoundRun, path: Path) -> None:
    """Add the completions in a table. Raises StoreError if it is unreadable or belongs to another run."""
    if path.stat().st_size == 0:
        raise StoreError(f"{path} is empty. Its writer has not written anything yet, or died.")
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise StoreError(f"{path} is not a valid parquet file ({_first_line(error)}).") from None
    if missing := {"prompt", "completion"} - set(table.column_names):
        raise StoreError(f"{path} has no column {min(missing)!r}, so it is not a table of TRL's log_completions.")
    components, others = _components(run, table)
    gold = next((name for name in GOLD if name in others), None)
    run.left_out[NO_REWARD].update(name for name in others if name != gold)
    rows: dict[int, list[LoggedCompletion]] = {}
    for batch in table.to_batches():
        for row in batch.to_pylist():
            step = _step(row.get("step"), path)
            if step is None:
                run.left_out[NO_STEP]["completions"] += 1
            else:
                rows.setdefault(step, []).append(_completion(row, components)._replace(gold=_plain(row.get(gold))))
    for step, completions in rows.items():
        place = run.answers if _is_of_evaluation(run, step, completions) else run.completions
        place.setdefault(step, []).extend(completions)


def _components(run: FoundRun, table: pyarrow.Table) -> tuple[list[str], list[str]]:
    """Return the columns of reward functions and the other columns."""
    reward_names = set()
    for name in (name for row in run.metrics.values() for name in row):
        if (match := re.fullmatch(r"(?:eval_)?rewards/(.+?)(?:/mean|/std)?", name)) is not None:
            reward_names.add(match[1])
    numbers = [f.name for f in table.schema if _is_numeric(f.type) and f.name not in OWN_COLUMNS]
    # Without metrics, rewards cannot be distinguished from other numbers that a reward function logged.
    components = [name for name in numbers if not reward_names or name in reward_names]
    return components, [name for name in table.column_names if name not in (*OWN_COLUMNS, *components)]


def _completion(row: dict[str, Any], components: list[str]) -> LoggedCompletion:
    rewards = {name: _finite(row[name]) for name in components}
    advantage, reward = _finite(row.get("advantage")), _finite(row.get("reward"))
    return LoggedCompletion(_text(row["prompt"]), _text(row["completion"]), rewards, advantage, reward=reward)


def _step(value: object, path: Path) -> int | None:
    """Return the step in a row (text in older versions), or else that in the file's name."""
    text = re.sub(r"\D", "", path.stem) if value is None else value
    return as_step(int(text) if isinstance(text, str) and text.isascii() and text.isdigit() else text)


def _is_of_evaluation(run: FoundRun, step: int, completions: list[LoggedCompletion]) -> bool:
    """Return whether a step's table is from an evaluation, which overwrites the table from training.

    If both were logged, it counts as training's only if its mean matches training's and not the evaluation's.
    """
    logged = run.metrics.get(step, {})
    if not any(name.startswith("eval_") for name in logged):
        return False
    rewards = {name: [each.rewards[name] for each in completions] for name in completions[0].rewards}
    means = {name: _mean(values) for name, values in rewards.items()}
    of_training = [(means[name], value) for name in means if (value := _logged(logged, f"rewards/{name}")) is not None]
    of_evaluation = [
        (means[name], value) for name in means if (value := _logged(logged, f"eval_rewards/{name}")) is not None
    ]
    return not (_agree(of_training) and not _agree(of_evaluation))


def _logged(row: dict[str, float | None], name: str) -> float | None:
    value = row.get(f"{name}/mean")
    return row.get(name) if value is None else value


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _agree(pairs: list[tuple[float | None, float]]) -> bool:
    return bool(pairs) and all(one is not None and abs(one - other) < EQUAL for one, other in pairs)


def number_groups(run: FoundRun) -> None:
    """Number the groups that can be inferred, and note how many completions have none or are from evaluations."""
    if run.answers:
        n = sum(map(len, run.answers.values()))
        steps = list_names([str(step) for step in sorted(run.answers)])
        run.notes.append(
            f"At step {steps}, TRL kept the completions of the evaluation instead of those of training: "
            f"{pluralize(n, 'completion')}, shown under Predictions and not counted as training."
        )
    if not run.completions:
        return
    size = math.gcd(
        *(
            n
            for completions in run.completions.values()
            for n in Counter(completion.prompt_key for completion in completions).values()
        )
    )
    ungrouped = 0
    for step, completions in run.completions.items():
        together: dict[tuple[str, str], list[LoggedCompletion]] = {}
        for completion in completions:
            together.setdefault(completion.prompt_key, []).append(completion)
        groups = [key for key, members in together.items() if _is_group(members, size)]
        run.completions[step] = [
            completion._replace(group=groups.index(completion.prompt_key))
            if completion.prompt_key in groups
            else completion
            for completion in completions
        ]
        ungrouped += sum(completion.group is None for completion in run.completions[step])
    run.notes.append(BY_PROMPT)
    if ungrouped:
        total = sum(map(len, run.completions.values()))
        run.notes.append(f"The group of {ungrouped} of {total} completions is unknown; they are marked.")


def _is_numeric(kind: pyarrow.DataType) -> bool:
    return bool(pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind) or pyarrow.types.is_null(kind))


def _is_group(members: list[LoggedCompletion], size: int) -> bool:
    """Return whether completions of one prompt can form one group of `size`; more are several groups, unordered."""
    advantages = [each.advantage for each in members]
    present = [value for value in advantages if value is not None]
    return size > 1 and len(members) == size == len(present) and abs(sum(present)) < BALANCED * size


def _text(value: object, depth: int = 0) -> str:
    """Return a text, or the texts of messages and their parts, one per line."""
    if isinstance(value, str):
        return value
    if depth > DEEPEST or value is None:
        return ""
    if isinstance(value, dict):
        return _text(value.get("content") or value.get("text"), depth + 1)
    return "\n".join(filter(None, (_text(each, depth + 1) for each in value))) if isinstance(value, list) else ""


def _plain(value: Any) -> Any:
    """Parse a cell as JSON, or return its text."""
    return value if value is None or isinstance(value, (str, int, float, list, dict)) else str(value)


def _finite(value: object) -> float | None:
    number = as_number(value)
    return None if number is None or math.isnan(number) else number


def _first_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error))[:200]
