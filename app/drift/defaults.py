"""Which runs and checkpoints stand side by side, and on which questions, where nobody has said so. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.drift.sides import METHOD_ORDER, Side
from store.db.rows import CheckpointRow, EvaluationRow, RunRow

KINDS = ("test", "val", "probe")
"""Evaluations that say what a checkpoint answers; the best choice first."""
MOST_SIDES = 4
Questions = tuple[str, str]
"""Benchmark and split."""


def usable(found: Sequence[EvaluationRow]) -> list[EvaluationRow]:
    """Finished evaluations of checkpoints as they are."""
    return [each for each in found if each.kind in KINDS and each.ended_at is not None]


def questions(evaluation: EvaluationRow) -> Questions:
    return evaluation.benchmark, evaluation.split


def pair(runs: Sequence[RunRow], first: RunRow | None) -> list[RunRow]:
    """A run (where None, the newest of GRPO, else of all) and the newest one that it can be held against.

    That is a run of another method with the same model and dataset, imitation or GRPO before none, of its rank if it
    can be; without any, the run stays alone. `runs` come newest first, and all have something to show.
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
    wanted: Questions | None = None,
) -> list[Side]:
    """The evaluation of each run that says most, all on the same questions (`wanted`, or the best that there are).

    Tests before validations before probes, the runs' own dataset first. The last runs are left out until the
    others share questions, and a run that stands alone is held against its own first checkpoint.
    """
    found = {run.id: usable(evaluations[run.id]) for run in runs}
    for count in range(len(runs), 0, -1):
        shown = runs[:count]
        shared = set.intersection(*({questions(each) for each in found[run.id]} for run in shown))
        offered = (
            [wanted] if wanted in shared else [] if wanted else sorted(shared, key=lambda q: _rank(q, shown, found))
        )
        for asked in offered:
            on_it = {run.id: [each for each in found[run.id] if questions(each) == asked] for run in shown}
            if count > 1:
                return [Side(run, closing(on_it[run.id], checkpoints[run.id])) for run in shown]
            ends = [min(on_it[runs[0].id], key=_place), max(on_it[runs[0].id], key=_place)]
            if ends[0].step < ends[1].step:
                return [Side(runs[0], each) for each in ends]
    return []


def closing(found: Sequence[EvaluationRow], checkpoints: Sequence[CheckpointRow]) -> EvaluationRow:
    """Of evaluations on the same questions: the one of the best kind, at the step that validation chose or the last."""
    best = next((row.step for row in checkpoints if row.kind == "best"), None)
    kind = min((each.kind for each in found), key=KINDS.index)
    return max((each for each in found if each.kind == kind), key=lambda each: (each.step == best, each.step, each.id))


def _place(each: EvaluationRow) -> tuple[int, int, int]:
    return each.step, -KINDS.index(each.kind), each.id


def _rank(
    asked: Questions, runs: Sequence[RunRow], found: Mapping[int, Sequence[EvaluationRow]]
) -> tuple[int, bool, Questions]:
    """How good the kind is that the worst of the runs has on these questions; then whose dataset they are of."""
    kinds = [min(KINDS.index(each.kind) for each in found[run.id] if questions(each) == asked) for run in runs]
    return max(kinds), asked[0] not in {run.dataset for run in runs}, asked
