"""Choose the default runs, checkpoints and questions for a side-by-side comparison. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.drift.sides import METHOD_ORDER, Side
from store.db.rows import CheckpointRow, EvaluationRow, RunRow

KINDS = ("test", "val", "probe")
"""Kinds of evaluations to take a checkpoint's answers from, best first."""
MOST_SIDES = 4
Questions = tuple[str, str]
"""Benchmark and split."""


def usable_evaluations(evaluations: Sequence[EvaluationRow]) -> list[EvaluationRow]:
    """Return the finished evaluations of unmodified checkpoints."""
    return [each for each in evaluations if each.kind in KINDS and each.ended_at is not None]


def questions(evaluation: EvaluationRow) -> Questions:
    return evaluation.benchmark, evaluation.split


def pair(runs: Sequence[RunRow], first: RunRow | None) -> list[RunRow]:
    """Return a run (if None, the newest GRPO run, else the newest run) and the newest one to compare it with.

    The latter uses another method with the same model and dataset: SFT or GRPO rather than an untrained base, with the
    same rank if possible. Without one, only the run is returned. `runs` are newest first, and all have evaluations.
    """
    if not runs:
        return []
    one = first or next((run for run in runs if run.method == "grpo"), runs[0])
    others = [run for run in runs if run.method != one.method and (run.model, run.dataset) == (one.model, one.dataset)]
    others.sort(key=lambda run: (run.method == "none", run.lora_rank != one.lora_rank))
    return in_order([one, *others[:1]])


def in_order(runs: Sequence[RunRow]) -> list[RunRow]:
    return sorted(runs, key=lambda run: METHOD_ORDER.index(run.method) if run.method in METHOD_ORDER else 9)


def sides(
    runs: Sequence[RunRow],
    evaluations: Mapping[int, Sequence[EvaluationRow]],
    checkpoints: Mapping[int, Sequence[CheckpointRow]],
    required: Questions | None = None,
) -> list[Side]:
    """Return the best evaluation of each run, all on the same questions (`required`, or the best available).

    Tests are preferred to validations and these to probes, and the runs' own dataset comes first. Runs are dropped from
    the end until the others share questions; a single run is compared with its own first checkpoint.
    """
    usable_by_run = {run.id: usable_evaluations(evaluations[run.id]) for run in runs}
    for count in range(len(runs), 0, -1):
        members = runs[:count]
        shared = set.intersection(*({questions(each) for each in usable_by_run[run.id]} for run in members))
        offered = (
            [required]
            if required in shared
            else []
            if required
            else sorted(shared, key=lambda q: _rank(q, members, usable_by_run))
        )
        for candidate in offered:
            on_candidate = {
                run.id: [each for each in usable_by_run[run.id] if questions(each) == candidate] for run in members
            }
            if count > 1:
                return [Side(run, final_evaluation(on_candidate[run.id], checkpoints[run.id])) for run in members]
            ends = [min(on_candidate[runs[0].id], key=_place), max(on_candidate[runs[0].id], key=_place)]
            if ends[0].step < ends[1].step:
                return [Side(runs[0], each) for each in ends]
    return []


def final_evaluation(evaluations: Sequence[EvaluationRow], checkpoints: Sequence[CheckpointRow]) -> EvaluationRow:
    """Return the best kind of evaluation at the step chosen by validation, else at the last step."""
    best = next((row.step for row in checkpoints if row.kind == "best"), None)
    kind = min((each.kind for each in evaluations), key=KINDS.index)
    return max(
        (each for each in evaluations if each.kind == kind), key=lambda each: (each.step == best, each.step, each.id)
    )


def _place(evaluation: EvaluationRow) -> tuple[int, int, int]:
    return evaluation.step, -KINDS.index(evaluation.kind), evaluation.id


def _rank(
    topic: Questions, runs: Sequence[RunRow], evaluations: Mapping[int, Sequence[EvaluationRow]]
) -> tuple[int, bool, Questions]:
    """Return a sort key: the worst kind of evaluation on these questions, then whose dataset they come from."""
    kinds = [min(KINDS.index(each.kind) for each in evaluations[run.id] if questions(each) == topic) for run in runs]
    return max(kinds), topic[0] not in {run.dataset for run in runs}, topic
