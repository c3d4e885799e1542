"""Rescore a past run under other weights or rules, step by step.

Only the recorded samples are rescored: under other rewards the policy would have developed differently. Recorded values
are used where they exist; missing ones are computed by the trainer's own rewards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from store.completions.summary import SAME, differ
from store.db.rows import StoredCompletion, StoredPrediction
from trainer.spec.config import RunConfig
from trainer.spec.rewards import RewardFunction, accuracy_reward, format_reward, keyword_reward, steps_reward

Floats = npt.NDArray[np.float64]
EPSILON = 1e-4
"""Added to the standard deviation before dividing, as the trainer does."""
COMPUTABLE: dict[str, RewardFunction] = {
    "format": format_reward,
    "accuracy": accuracy_reward,
    "steps": steps_reward,
    "keyword": keyword_reward,
}
MOST_CHANGES = 20


class Scheme(NamedTuple):
    """A reward scheme: weights by component, and two rules."""

    weights: Mapping[str, float]
    answer_needs_form: bool = False
    """A malformed completion gets no accuracy reward."""
    steps_need_answer: bool = False
    """A wrong answer gets no steps reward."""


class Change(NamedTuple):
    """A completion and its advantage under both schemes."""

    id: int
    step: int
    before: float
    after: float


class StepScores(NamedTuple):
    """One rescored step."""

    step: int
    completions: int
    groups: int
    live_before: int
    """Groups whose rewards differ."""
    live_after: int
    other_best: int
    """Groups whose best completions include none of the previous best."""
    turned: int
    """Completions whose advantage changed sign."""
    reward_before: float
    """Mean reward."""
    reward_after: float
    changes: tuple[Change, ...]
    """Completions with the largest change in advantage."""


def rescore(rows: Iterable[StoredCompletion], config: RunConfig, scheme: Scheme) -> Iterator[StepScores]:
    """Yield the rescored steps of a run; `rows` are its completions in order of steps."""
    for step, step_rows in groupby(rows, key=lambda row: row.step):
        yield _step(step, [row for row in step_rows if row.reward is not None], config, scheme)


def mean_total(rows: Sequence[StoredPrediction], config: RunConfig, scheme: Scheme) -> float | None:
    """Return the mean reward of predictions under the scheme.

    None if there are none, or if a rewarded component was not recorded and cannot be computed.
    """
    if not rows:
        return None
    rewarded = scheme._replace(weights={label: weight for label, weight in scheme.weights.items() if weight})
    values = components(rows, rewarded.weights, config)
    if any(np.isnan(each).all() for each in values.values()):
        return None
    return float(total(values, rewarded, np.array([row.wellformed for row in rows], dtype=bool)).mean())


def components(
    rows: Sequence[StoredCompletion] | Sequence[StoredPrediction], labels: Iterable[str], config: RunConfig
) -> dict[str, Floats]:
    """Return raw values by component, shape (rows,); NaN where a value is neither recorded nor computable."""
    values_by_label = {}
    for label in labels:
        values = [row.rewards.get(label) for row in rows]
        if label in COMPUTABLE and any(label not in row.rewards for row in rows):
            values = compute(label, [row.text for row in rows], [row.truth for row in rows], config)
        values_by_label[label] = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return values_by_label


def compute(label: str, texts: Sequence[str], truths: Sequence[int | None], config: RunConfig) -> list[float | None]:
    """Return the values of one of COMPUTABLE for texts."""
    return COMPUTABLE[label](texts, answer=truths, words=config.visual_words, style=config.style)


def total(values: Mapping[str, Floats], scheme: Scheme, wellformed: npt.NDArray[np.bool_]) -> Floats:
    """Return the weighted sum under the scheme, shape (rows,); a missing value counts as 0."""
    rewards = {label: np.nan_to_num(each) for label, each in values.items()}
    if scheme.steps_need_answer and "steps" in rewards and "accuracy" in rewards:
        rewards["steps"] = np.where(rewards["accuracy"] > 0, rewards["steps"], 0.0)
    if scheme.answer_needs_form and "accuracy" in rewards:
        rewards["accuracy"] = np.where(wellformed, rewards["accuracy"], 0.0)
    return sum((scheme.weights[label] * each for label, each in rewards.items()), np.zeros(len(wellformed)))


def advantages(rewards: Floats, groups: Sequence[npt.NDArray[np.int64]], scale: str) -> Floats:
    """Return GRPO's advantages: reward minus the group's mean, over the spread of the group or batch, or undivided."""
    result = np.zeros_like(rewards)
    for group in groups:
        group_rewards = rewards[group]
        result[group] = group_rewards - group_rewards.mean()
        if scale == "group":
            result[group] /= _spread(group_rewards) + EPSILON
    return result / (_spread(rewards) + EPSILON) if scale == "batch" else result


def _spread(values: Floats) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def _step(step: int, rows: Sequence[StoredCompletion], config: RunConfig, scheme: Scheme) -> StepScores:
    wellformed = np.array([row.wellformed for row in rows], dtype=bool)
    before = np.array([row.reward for row in rows], dtype=np.float64)
    after = total(components(rows, scheme.weights, config), scheme, wellformed)
    groups = _groups(rows)
    old, new = (advantages(each, groups, config.grpo.scale) for each in (before, after))
    size = np.abs(new - old)
    largest = [i for i in np.argsort(-size)[:MOST_CHANGES].tolist() if size[i] > SAME]
    return StepScores(
        step,
        completions=len(rows),
        groups=len(groups),
        live_before=sum(differ(before[group].tolist()) for group in groups),
        live_after=sum(differ(after[group].tolist()) for group in groups),
        other_best=sum(_has_other_best(before[group], after[group]) for group in groups),
        turned=int(np.count_nonzero((old > EPSILON) & (new < -EPSILON) | (old < -EPSILON) & (new > EPSILON))),
        reward_before=float(before.mean()) if len(rows) else 0.0,
        reward_after=float(after.mean()) if len(rows) else 0.0,
        changes=tuple(Change(rows[i].id, step, float(old[i]), float(new[i])) for i in largest),
    )


def _groups(rows: Sequence[StoredCompletion]) -> list[npt.NDArray[np.int64]]:
    """Return the indices of each group's completions; those without a group number are grouped by example."""
    indices: dict[tuple[int, int | None, int | None], list[int]] = {}
    for i, row in enumerate(rows):
        indices.setdefault((row.generation, row.group, row.example_id), []).append(i)
    return [np.array(each, dtype=np.int64) for each in indices.values()]


def _has_other_best(before: Floats, after: Floats) -> bool:
    was_best, is_best = before > before.max() - SAME, after > after.max() - SAME
    return not (was_best & is_best).any()
