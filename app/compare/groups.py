"""Groups of runs, their results on benchmarks, and contrasts between groups whose conditions agree.

Pure functions of rows and of scores.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from app.shared import status
from app.shared.conditions import differences
from app.shared.data_needs import is_script
from store.db.rows import CheckpointRow, EvaluationRow, RunDetail, Scores
from store.db.values import flat
from trainer.spec import statistics
from trainer.spec.similarity import CLOSE
from trainer.spec.statistics import Estimate

SEEDS_FOR_METHODS = 3
"""Minimum number of seeds per side for a comparison of methods instead of two checkpoints."""
METHODS = ("none", "sft", "grpo")
"""Methods in table order; other methods, of scripts, come last."""
GetScores = Callable[[int], Scores]


class Member(NamedTuple):
    """A run with its evaluations."""

    run: RunDetail
    evaluations: Sequence[EvaluationRow]
    checkpoints: Sequence[CheckpointRow]


@dataclass(frozen=True)
class Group:
    """Runs that differ only in seed and name, by seed; only the newest run per seed."""

    members: tuple[Member, ...]
    arm: str | None = None

    @property
    def first(self) -> RunDetail:
        return self.members[0].run

    @property
    def used(self) -> tuple[Member, ...]:
        """Return all seeds if there are enough to compare methods, else the first."""
        return self.members if len(self.members) >= SEEDS_FOR_METHODS else self.members[:1]

    @property
    def label(self) -> str:
        run = self.first
        if self.arm or is_script(run):
            return self.arm or run.name
        is_base = run.method == "none" and not (run.config.get("model") or {}).get("adapter")
        name = "zero-shot" if is_base else status.METHODS.get(run.method, run.method)
        return f"{name} {'direct' if run.style == 'direct' else 'CoT'}"


class Measured(NamedTuple):
    """A group's result on a benchmark: the mean share over the used seeds."""

    estimate: Estimate
    n: int
    seeds: int
    evaluations: tuple[EvaluationRow, ...]


class Contrast(NamedTuple):
    """`first` minus `second` on the examples that both answered; no value if they are not comparable (`reasons`)."""

    reasons: tuple[str, ...]
    n: int = 0
    seeds: int = 0
    """Seeds per side; 1 means that two checkpoints are compared."""
    accuracy: Estimate | None = None
    close: Estimate | None = None
    """Difference in the share of examples whose similarity is above CLOSE."""
    p: float | None = None
    """p-value of the accuracy: McNemar's exact test for two checkpoints; for methods, over seeds and images."""


def groups(members: Sequence[Member], arms: Mapping[int, str]) -> list[Group]:
    """Return runs grouped by configuration, ordered by method, style and rank; `arms` names an experiment's runs."""
    by_configuration: dict[str, dict[int | None, Member]] = {}
    for member in sorted(members, key=lambda each: each.run.id):
        by_configuration.setdefault(configuration(member.run), {})[member.run.seed] = member
    unnamed = [
        Group(tuple(by_seed[seed] for seed in sorted(by_seed, key=str))) for by_seed in by_configuration.values()
    ]
    labelled = [Group(group.members, arms.get(group.first.id)) for group in unnamed]
    return sorted(labelled, key=lambda g: (g.first.model, _place(g.first.method), g.label, g.first.lora_rank or 0))


def _place(method: str) -> int:
    return METHODS.index(method) if method in METHODS else len(METHODS)


def configuration(run: RunDetail) -> str:
    """Return a text that is equal for runs that differ only in seed and name; a script's settings may be incomplete."""
    return _without_seed(run.config) if run.config and not is_script(run) else run.uid


def is_test(evaluation: EvaluationRow) -> bool:
    """Return whether an evaluation counts as a test: a finished test, or any evaluation of a script."""
    is_measured = evaluation.kind == "test" or bool(evaluation.conditions.get("recorded"))
    return is_measured and evaluation.ended_at is not None


def count_configurations(configs: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of distinct configurations, ignoring seeds and names."""
    return len(set(map(_without_seed, configs)))


def _without_seed(config: Mapping[str, Any]) -> str:
    return json.dumps({**config, "name": "", "seed": 0}, sort_keys=True)


def latest_test(member: Member, benchmark: str) -> EvaluationRow | None:
    """Return the finished test of the checkpoint chosen by validation, else of the last one.

    Test results do not influence the choice.
    """
    tests = [each for each in member.evaluations if each.benchmark == benchmark and is_test(each)]
    best = next((row.step for row in member.checkpoints if row.kind == "best"), None)
    chosen = [each for each in tests if each.step == best] or tests
    return max(chosen, key=lambda each: (each.step, each.id), default=None)


def latest_sampled_test(member: Member, benchmark: str) -> EvaluationRow | None:
    """Return the latest finished test with samples, of the checkpoint that `latest_test` returns."""
    greedy_test = latest_test(member, benchmark)
    sampled_tests = [
        each
        for each in member.evaluations
        if (each.kind, each.benchmark) == ("test", benchmark) and each.ended_at is not None and "pass@1" in each.metrics
    ]
    return max(
        [e for e in sampled_tests if greedy_test and e.step == greedy_test.step], key=lambda e: e.id, default=None
    )


def benchmarks(members: Sequence[Member]) -> list[str]:
    """Return the tested benchmarks, the runs' own datasets first."""
    own_datasets = {member.run.dataset for member in members if member.run.method != "none"}
    names = {each.benchmark for member in members for each in member.evaluations if is_test(each)}
    return sorted(names, key=lambda name: (name not in own_datasets, name))


def measure_group(group: Group, benchmark: str, scores: GetScores, *, close: bool = False) -> Measured | None:
    """Return exact match or, with `close`, the share of similar traces; None unless every seed has it."""
    evaluations = [latest_test(member, benchmark) for member in group.used]
    present = tuple(each for each in evaluations if each is not None)
    if len(present) < len(evaluations):
        return None
    values, images = _matrix([[scores(each.id) for each in present]], close=close)
    if values is None:
        return None
    (matrix,), n = values, len(images)
    if len(present) == 1:
        low, high = statistics.wilson(int(matrix.sum()), n)
        return Measured(Estimate(float(matrix.mean()), low, high), n, 1, present)
    return Measured(statistics.mean(matrix, images), n, len(present), present)


def baselines(group: Group, benchmark: str, scores: GetScores) -> dict[str, Measured]:
    """Return the latest finished baseline of each kind for the group's first seed."""
    evaluations = {
        str(evaluation.conditions.get("baseline")): evaluation
        for evaluation in group.members[0].evaluations
        if evaluation.kind == "baseline" and evaluation.benchmark == benchmark and evaluation.ended_at is not None
    }
    measured_by_name = {}
    for name, evaluation in evaluations.items():
        correct = scores(evaluation.id).correct
        estimate = Estimate(float(correct.mean()), *statistics.wilson(int(correct.sum()), len(correct)))
        measured_by_name[name] = Measured(estimate, len(correct), 1, (evaluation,))
    return measured_by_name


def contrast(first: Group, second: Group, benchmark: str, scores: GetScores) -> Contrast:
    """Return `first` minus `second` if the conditions of all evaluations agree, except for the style."""
    enough = min(len(first.members), len(second.members)) >= SEEDS_FOR_METHODS
    sides = [group.members if enough else group.members[:1] for group in (first, second)]
    tests = [[latest_test(member, benchmark) for member in side] for side in sides]
    evaluations = [[each for each in side if each is not None] for side in tests]
    if any(len(tested_members) < len(side) for tested_members, side in zip(evaluations, sides, strict=True)):
        return Contrast(("not measured for both",))
    reference = evaluations[0][0]
    reasons = dict.fromkeys(
        reason for side in evaluations for each in side for reason in differences(reference.conditions, each.conditions)
    )
    loaded = [[scores(each.id) for each in side] for side in evaluations]
    values, images = _matrix(loaded, close=False)
    if values is None:
        reasons["no common examples"] = None
    if reasons or values is None:
        return Contrast(tuple(reasons))
    similar, similar_images = _matrix(loaded, close=True)
    has_one_encoder = len({each.encoder for side in evaluations for each in side}) == 1
    return Contrast(
        (),
        len(images),
        len(sides[0]) if enough else 1,
        statistics.difference(values[0], values[1], images),
        statistics.difference(similar[0], similar[1], similar_images)
        if similar is not None and has_one_encoder
        else None,
        _p_value(values[0], values[1], images),
    )


def _p_value(first: statistics.Scores, second: statistics.Scores, images: statistics.Images) -> float | None:
    if len(first) > 1:
        return statistics.difference_p(first, second, images)
    return statistics.mcnemar(int((first > second).sum()), int((first < second).sum()))


def _matrix(sides: Sequence[Sequence[Scores]], *, close: bool) -> tuple[list[statistics.Scores] | None, list[str]]:
    """Return each side's (seeds, items) on the examples that all share, and the items' images; None without any."""
    every = [scores for side in sides for scores in side]
    shared = every[0].example_id
    for scores in every:
        has_value = ~np.isnan(scores.similarity) if close else ~np.isnan(scores.correct)
        shared = np.intersect1d(shared, scores.example_id[has_value])
    if not len(shared):
        return None, []
    picked = [[_values_on(scores, shared, close) for scores in side] for side in sides]
    images = every[0].image[np.searchsorted(every[0].example_id, shared)]
    return [np.stack(side) for side in picked], images.tolist()


def _values_on(scores: Scores, shared: Any, close: bool) -> Any:
    rows = np.searchsorted(scores.example_id, shared)
    return (scores.similarity[rows] > CLOSE).astype(float) if close else scores.correct[rows]


def config_differences(runs: Sequence[RunDetail]) -> dict[str, list[Any]]:
    """Return the fields in which the runs differ, including names and seeds, with each run's value."""
    configs = [flat(run.config) for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    values_by_key = {key: [config.get(key) for config in configs] for key in keys}
    return {key: values for key, values in values_by_key.items() if len(set(map(str, values))) > 1}


def is_control(group: Group) -> bool:
    """Return whether a group is a control: it learns from another reward, or by rejection sampling."""
    run = group.first
    pays_for_nothing = run.method == "grpo" and bool(run.config) and not run.reward_weights.get("accuracy")
    return pays_for_nothing or run.config.get("imitate", "references") != "references"
