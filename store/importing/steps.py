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
Asked = tuple[str, str]
"""A prompt with its gold answer."""


class StepContents(NamedTuple):
    """The data of a step, from the files or the database."""

    metrics: dict[str, float | None]
    said: Texts = ()
    answered: Texts = ()


def put_all(store: Store, run_id: int, uid: str, run: FoundRun, weights: dict[str, float]) -> None:
    """Store all steps of a new run."""
    for step, told in _told(run).items():
        _put(store, run_id, uid, run, step, told, weights)


def extend(store: Store, run_id: int, uid: str, run: FoundRun, weights: dict[str, float]) -> int:
    """Update stored steps from the files; return how many changed.

    Data that the files no longer have is kept, unless it is from an earlier attempt.
    """
    here, told = _stored(store, run_id), _told(run)
    changed = 0
    for step in sorted(told.keys() | (run.gone & here.keys())):
        old, new = here.get(step, StepContents({})), told.get(step, StepContents({}))
        if step in run.gone:
            wanted = new
        else:
            said = new.said or (() if new.answered else old.said)
            wanted = StepContents(old.metrics | new.metrics, said, new.answered or old.answered)
        if wanted == old:
            continue
        changed += 1
        if old.said not in ((), wanted.said) or old.answered not in ((), wanted.answered) or step in run.gone:
            forget_steps(store, run_id, [step])
            old = StepContents({})
        fresh = StepContents(wanted.metrics, () if old.said else wanted.said, () if old.answered else wanted.answered)
        _put(store, run_id, uid, run, step, fresh, weights)
    return changed


def agrees(store: Store, run_id: int, run: FoundRun) -> bool:
    """Return whether a run holds the same as the stored one at all steps that both have, and whether there are any."""
    here, told = _stored(store, run_id), _told(run)
    both = here.keys() & told.keys()
    return bool(both) and all(_is_alike(here[step], told[step]) for step in both)


def _is_alike(old: StepContents, new: StepContents) -> bool:
    texts = zip((old.said, old.answered), (new.said, new.answered), strict=True)
    shared = old.metrics.keys() & new.metrics.keys()
    return all(one == other or not one or not other for one, other in texts) and all(
        old.metrics[name] == new.metrics[name] for name in shared
    )


def form_of_texts(run: FoundRun) -> Form:
    """Return how completions are parsed: by their tags, or by the box that a prompt asks for."""
    said = [each for part in (*run.completions.values(), *run.answers.values()) for each in part]
    if any("<think>" in each.text for each in said):
        return "cot"
    if any("<answer>" in each.text for each in said):
        return "direct"
    return "boxed" if any("boxed{" in each.prompt for each in said) else "none"


def _told(run: FoundRun) -> dict[int, StepContents]:
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
    said = select(Completion.step, Completion.text).where(Completion.run_id == run_id).order_by(Completion.id)
    answered = select(Evaluation.step, Prediction.text).join(Prediction, Prediction.evaluation_id == Evaluation.id)
    answered = answered.where(Evaluation.run_id == run_id).order_by(Prediction.id)
    found: dict[int, StepContents] = {}
    with reading(store) as connection:
        for step, name, value in connection.execute(metrics):
            found.setdefault(step, StepContents({})).metrics[name] = value
        for step, text in connection.execute(said):
            known = found.get(step, StepContents({}))
            found[step] = known._replace(said=(*known.said, text))
        for step, text in connection.execute(answered):
            known = found.get(step, StepContents({}))
            found[step] = known._replace(answered=(*known.answered, text))
    return found


def _put(
    store: Store, run_id: int, uid: str, run: FoundRun, step: int, told: StepContents, weights: dict[str, float]
) -> None:
    """Store a step's data from the files; the texts are those missing in the database."""
    style = form_of_texts(run)
    if told.metrics or told.said:
        said = run.completions[step] if told.said else []
        ids = _examples(store, uid, step, said)
        rows = [
            CompletionRow(
                **_trace(each, weights, style),
                generation=step,
                group=each.group,
                index=index,
                example_id=ids[each.asked],
                advantage=each.advantage,
            )
            for each, index in _numbered(said)
        ]
        record_step(store, run_id, step, told.metrics, at=run.at.get(step), completions=rows)
    if told.answered:
        _put_answers(store, run_id, uid, step, run.answers[step], weights, style)


def _put_answers(
    store: Store,
    run_id: int,
    uid: str,
    step: int,
    said: Sequence[LoggedCompletion],
    weights: dict[str, float],
    style: Form,
) -> None:
    """Store the completions of a step's evaluation as sampled predictions, because sample 0 means greedy."""
    ids = _examples(store, uid, step, said, "eval-")
    placed: dict[Asked, int] = {}
    rows = []
    for each in said:
        sample = placed[each.asked] = placed.get(each.asked, 0) + 1
        rows.append(PredictionRow(**_trace(each, weights, style), example_id=ids[each.asked], sample=sample))
    conditions = {"imported": True, "style": style, "decoding": "sampled by the trainer"}
    record_evaluation(store, run_id, rows, benchmark=DATASET, split=uid, step=step, conditions=conditions)


def _examples(
    store: Store, uid: str, step: int, said: Sequence[LoggedCompletion], prefix: str = ""
) -> dict[Asked, int]:
    """Return example ids for a step's prompts, each of which becomes an example."""
    asked = {each.asked: each for each in said}
    examples = [
        ExampleRow(
            dataset=DATASET,
            split=uid,
            key=f"{prefix}{step}-{i}",
            question=each.prompt,
            answer=gold.count(each.gold),
            gold=each.gold,
        )
        for i, each in enumerate(asked.values())
    ]
    return dict(zip(asked, add_examples(store, examples), strict=True)) if examples else {}


def _numbered(said: Sequence[LoggedCompletion]) -> list[tuple[LoggedCompletion, int]]:
    """Return each completion with its number in its group."""
    placed: dict[int | None, int] = {}
    found = []
    for each in said:
        index = placed[each.group] = placed.get(each.group, -1) + 1
        found.append((each, index))
    return found


def _trace(said: LoggedCompletion, weights: dict[str, float], style: Form) -> dict[str, Any]:
    """Return the fields shared by completions and predictions."""
    trace = parse(said.text, style)
    truth = gold.count(said.gold)
    return {
        "correct": None if truth is None or style == "none" else trace.answer == truth,
        "text": said.text,
        "think": trace.think,
        "answer_span": trace.answer_span,
        "answer": trace.answer,
        "wellformed": trace.wellformed,
        "reasoning_steps": trace.counted_steps,
        "reward": _reward(said, weights),
        "rewards": said.rewards,
    }


def _reward(said: LoggedCompletion, weights: dict[str, float]) -> float | None:
    """Return the logged reward, or else the weighted sum if the weights are known."""
    if said.reward is not None or not weights:
        return said.reward
    paid = {name: said.rewards.get(name) for name in weights}
    return sum(weights[name] * value for name, value in paid.items() if value is not None)
