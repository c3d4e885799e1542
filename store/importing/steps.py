"""Convert the steps of an imported run to rows, and extend a run that was imported before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import select

from store.completions import gold
from store.db.connection import Store, reading
from store.db.rows import CompletionRow, ExampleRow, PredictionRow
from store.db.schema import Completion, Evaluation, Metric, MetricName, Prediction
from store.db.values import clean, finite
from store.evaluations.records import record_evaluation
from store.examples import add_examples
from store.importing.found import FoundRun, LoggedCompletion
from store.steps import forget_steps, record_step
from store.trace import Form, parse

DATASET = "(imported)"
"""Dataset and question of imported examples; whether those of different steps have the same image is unknown."""
Texts = tuple[str, ...]
PromptKey = tuple[str, str]
"""A prompt with its gold answer."""


class StepContents(NamedTuple):
    """The data of a step, from the files or the database."""

    metrics: dict[str, float | None]
    completions: Texts = ()
    predictions: Texts = ()


def put_all(store: Store, run_id: int, uid: str, run: FoundRun, weights: dict[str, float]) -> None:
    """Store all steps of a new run."""
    for step, contents in _read_steps(run).items():
        _put(store, run_id, uid, run, step, contents, weights)


def extend(store: Store, run_id: int, uid: str, run: FoundRun, weights: dict[str, float]) -> int:
    """Update stored steps from the files; return how many changed.

    Data that the files no longer have is kept, unless it is from an earlier attempt.
    """
    stored, read = _stored(store, run_id), _read_steps(run)
    changed = 0
    for step in sorted(read.keys() | (run.gone & stored.keys())):
        old, new = stored.get(step, StepContents({})), read.get(step, StepContents({}))
        if step in run.gone:
            merged = new
        else:
            completions = new.completions or (() if new.predictions else old.completions)
            merged = StepContents(old.metrics | new.metrics, completions, new.predictions or old.predictions)
        if merged == old:
            continue
        changed += 1
        if (
            old.completions not in ((), merged.completions)
            or old.predictions not in ((), merged.predictions)
            or step in run.gone
        ):
            forget_steps(store, run_id, [step])
            old = StepContents({})
        fresh = StepContents(
            merged.metrics, () if old.completions else merged.completions, () if old.predictions else merged.predictions
        )
        _put(store, run_id, uid, run, step, fresh, weights)
    return changed


def agrees(store: Store, run_id: int, run: FoundRun) -> bool:
    """Return whether a run holds the same as the stored one at all steps that both have, and whether there are any."""
    stored, read = _stored(store, run_id), _read_steps(run)
    both = stored.keys() & read.keys()
    return bool(both) and all(_is_same(stored[step], read[step]) for step in both)


def _is_same(old: StepContents, new: StepContents) -> bool:
    texts = zip((old.completions, old.predictions), (new.completions, new.predictions), strict=True)
    shared = old.metrics.keys() & new.metrics.keys()
    return all(one == other or not one or not other for one, other in texts) and all(
        old.metrics[name] == new.metrics[name] for name in shared
    )


def form_of_texts(run: FoundRun) -> Form:
    """Return how completions are parsed: by their tags, or by the box that a prompt asks for."""
    completions = [each for part in (*run.completions.values(), *run.answers.values()) for each in part]
    if any("<think>" in each.text for each in completions):
        return "cot"
    if any("<answer>" in each.text for each in completions):
        return "direct"
    return "boxed" if any("boxed{" in each.prompt for each in completions) else "none"


def _read_steps(run: FoundRun) -> dict[int, StepContents]:
    steps = sorted(run.metrics.keys() | run.completions.keys() | run.answers.keys())
    return {
        step: StepContents(
            {clean(name): finite(value) for name, value in run.metrics.get(step, {}).items()},
            tuple(clean(each.text) for each in run.completions.get(step, [])),
            tuple(clean(each.text) for each in run.answers.get(step, [])),
        )
        for step in steps
    }


def _stored(store: Store, run_id: int) -> dict[int, StepContents]:
    metrics = (
        select(Metric.step, MetricName.name, Metric.value)
        .join(MetricName, MetricName.id == Metric.name_id)
        .where(Metric.run_id == run_id)
    )
    completions = select(Completion.step, Completion.text).where(Completion.run_id == run_id).order_by(Completion.id)
    answered = select(Evaluation.step, Prediction.text).join(Prediction, Prediction.evaluation_id == Evaluation.id)
    answered = answered.where(Evaluation.run_id == run_id).order_by(Prediction.id)
    contents_by_step: dict[int, StepContents] = {}
    with reading(store) as connection:
        for step, name, value in connection.execute(metrics):
            contents_by_step.setdefault(step, StepContents({})).metrics[name] = value
        for step, text in connection.execute(completions):
            contents = contents_by_step.get(step, StepContents({}))
            contents_by_step[step] = contents._replace(completions=(*contents.completions, text))
        for step, text in connection.execute(answered):
            contents = contents_by_step.get(step, StepContents({}))
            contents_by_step[step] = contents._replace(predictions=(*contents.predictions, text))
    return contents_by_step


def _put(
    store: Store, run_id: int, uid: str, run: FoundRun, step: int, contents: StepContents, weights: dict[str, float]
) -> None:
    """Store a step's data from the files; the texts are those missing in the database."""
    style = form_of_texts(run)
    if contents.metrics or contents.completions:
        completions = run.completions[step] if contents.completions else []
        ids = _examples(store, uid, step, completions)
        rows = [
            CompletionRow(
                **_trace(each, weights, style),
                generation=step,
                group=each.group,
                index=index,
                example_id=ids[each.prompt_key],
                advantage=each.advantage,
            )
            for each, index in _numbered(completions)
        ]
        record_step(store, run_id, step, contents.metrics, at=run.at.get(step), completions=rows)
    if contents.predictions:
        _put_answers(store, run_id, uid, step, run.answers[step], weights, style)


def _put_answers(
    store: Store,
    run_id: int,
    uid: str,
    step: int,
    completions: Sequence[LoggedCompletion],
    weights: dict[str, float],
    style: Form,
) -> None:
    """Store the completions of a step's evaluation as sampled predictions, because sample 0 means greedy."""
    ids = _examples(store, uid, step, completions, "eval-")
    placed: dict[PromptKey, int] = {}
    rows = []
    for completion in completions:
        sample = placed[completion.prompt_key] = placed.get(completion.prompt_key, 0) + 1
        rows.append(
            PredictionRow(**_trace(completion, weights, style), example_id=ids[completion.prompt_key], sample=sample)
        )
    conditions = {"imported": True, "style": style, "decoding": "sampled by the trainer"}
    record_evaluation(store, run_id, rows, benchmark=DATASET, split=uid, step=step, conditions=conditions)


def _examples(
    store: Store, uid: str, step: int, completions: Sequence[LoggedCompletion], prefix: str = ""
) -> dict[PromptKey, int]:
    """Return example ids for a step's prompts, each of which becomes an example."""
    by_key = {each.prompt_key: each for each in completions}
    examples = [
        ExampleRow(
            dataset=DATASET,
            split=uid,
            key=f"{prefix}{step}-{i}",
            question=each.prompt,
            answer=gold.count(each.gold),
            gold=each.gold,
        )
        for i, each in enumerate(by_key.values())
    ]
    return dict(zip(by_key, add_examples(store, examples), strict=True)) if examples else {}


def _numbered(completions: Sequence[LoggedCompletion]) -> list[tuple[LoggedCompletion, int]]:
    """Return each completion with its number in its group."""
    placed: dict[int | None, int] = {}
    numbered = []
    for completion in completions:
        index = placed[completion.group] = placed.get(completion.group, -1) + 1
        numbered.append((completion, index))
    return numbered


def _trace(completion: LoggedCompletion, weights: dict[str, float], style: Form) -> dict[str, Any]:
    """Return the fields shared by completions and predictions."""
    trace = parse(completion.text, style)
    truth = gold.count(completion.gold)
    return {
        "correct": None if truth is None or style == "none" else trace.answer == truth,
        "text": completion.text,
        "think": trace.think,
        "answer_span": trace.answer_span,
        "answer": trace.answer,
        "wellformed": trace.wellformed,
        "reasoning_steps": trace.counted_steps,
        "reward": _reward(completion, weights),
        "rewards": completion.rewards,
    }


def _reward(completion: LoggedCompletion, weights: dict[str, float]) -> float | None:
    """Return the logged reward, or else the weighted sum if the weights are known."""
    if completion.reward is not None or not weights:
        return completion.reward
    values = {name: completion.rewards.get(name) for name in weights}
    return sum(weights[name] * value for name, value in values.items() if value is not None)
