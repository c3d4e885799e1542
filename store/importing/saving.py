"""Puts runs that a reader found into the database, each once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select

from store import write
from store.connection import Store, StoreError, reading
from store.importing import tensorboard, trackio, trl, wandb
from store.importing.found import LAST_STEP, FoundRun, Said, printable
from store.redaction import redacted_values
from store.rows import CompletionRow, ExampleRow
from store.schema import Run
from store.trace import Style, parse

READERS: dict[str, Callable[[str], list[FoundRun]]] = {
    "trl": trl.runs,
    "trackio": trackio.runs,
    "tensorboard": tensorboard.runs,
    "wandb": wandb.runs,
}
DATASET = "(imported)"
"""Of the questions, too: whether two of different steps are about one picture is not known."""
UNKNOWN = "unknown"
DEEPEST = 6
"""Of lists and objects in a config; hostile ones have no end."""
MODEL_KEYS = ("model_name_or_path", "_name_or_path", "model_id", "base_model_name_or_path")


class Imported(NamedTuple):
    name: str
    uid: str
    steps: int
    completions: int
    is_new: bool
    """False for a run that was here already, which stays as it is."""


def import_runs(store: Store, tool: str, path: str, name: str | None = None) -> list[Imported]:
    """Reads all runs of `path`, a word of READERS says how, and keeps those that are new.

    Raises StoreError when there is nothing to read, or a `name` is given for several runs.
    """
    found = READERS[tool](path)
    if name is not None and len(found) > 1:
        raise StoreError(f"{path} holds {len(found)} runs: leave the name out, and each keeps its own.")
    return [_import(store, tool, path, run, printable(name or run.name) or tool) for run in found]


def _import(store: Store, tool: str, path: str, run: FoundRun, name: str) -> Imported:
    uid = hashlib.sha256(f"{tool}\n{run.identity}".encode("utf-8", "replace")).hexdigest()[:10]
    steps = sorted(run.metrics.keys() | run.completions.keys())
    said = sum(map(len, run.completions.values()))
    with reading(store) as connection:
        known = connection.execute(select(Run.name).where(Run.uid == uid)).first()
    if known:
        return Imported(known.name, uid, len(steps), said, False)
    weights = run.weights()
    style = _style(run)
    made = write.create_run(
        store,
        uid=uid,
        name=name,
        method=run.method,
        style=style or UNKNOWN,
        model=printable(_first(run.config, MODEL_KEYS)),
        dataset=DATASET,
        config={
            "imported": {"from": tool, "path": path, "notes": run.notes},
            "recorded": redacted_values(_shallow(run.config)),
        },
        reward_weights=weights,
        seed=_whole(run.config.get("seed")),
        max_steps=_whole(run.config.get("max_steps")) or None,
    )
    try:
        for step in steps:
            rows = _completions(store, uid, step, run.completions.get(step, []), weights, style or "cot")
            at = run.at.get(step)
            write.record_step(store, made.id, step, run.metrics.get(step, {}), at=at, completions=rows)
        what = f"{len(steps)} steps, {said} completions"
        write.add_event(store, made.id, "imported", f"Imported from {tool}: {path} ({what}).")
    except BaseException:
        # Half a run would pass for a whole one at the next attempt.
        write.delete_run(store, made.id)
        raise
    return Imported(name, uid, len(steps), said, True)


def _completions(
    store: Store, uid: str, step: int, said: Sequence[Said], weights: dict[str, float], style: Style
) -> list[CompletionRow]:
    """The completions of a step; each of its prompts is an example of its own."""
    prompts = list(dict.fromkeys(each.prompt for each in said))
    examples = [
        ExampleRow(dataset=DATASET, split=uid, key=f"{step}-{i}", question=prompt, answer=None)
        for i, prompt in enumerate(prompts)
    ]
    ids = dict(zip(prompts, write.add_examples(store, examples), strict=True)) if examples else {}
    placed: dict[int | None, int] = {}
    rows = []
    for each in said:
        index = placed[each.group] = placed.get(each.group, -1) + 1
        rows.append(_completion(each, index, ids[each.prompt], weights, style, step))
    return rows


def _completion(
    said: Said, index: int, example_id: int, weights: dict[str, float], style: Style, step: int
) -> CompletionRow:
    trace = parse(said.text, style)
    paid = {name: said.rewards.get(name) for name in weights}
    reward = sum(weights[name] * value for name, value in paid.items() if value is not None) if weights else None
    return CompletionRow(
        text=said.text,
        think=trace.think,
        answer_span=trace.answer_span,
        answer=trace.answer,
        wellformed=trace.wellformed,
        steps=trace.counted_steps,
        reward=reward,
        rewards=said.rewards,
        generation=step,
        group=said.group,
        index=index,
        example_id=example_id,
        advantage=said.advantage,
    )


def _style(run: FoundRun) -> Style | None:
    """What the completions' tags show; None where there are none."""
    texts = [each.text for said in run.completions.values() for each in said]
    if any("<think>" in text for text in texts):
        return "cot"
    return "direct" if any("<answer>" in text for text in texts) else None


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
