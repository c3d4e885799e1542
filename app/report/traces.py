"""The traces of a report: those around each milestone, tagged ones, and held-out answers of all runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from app.emergence.milestones import Milestone
from app.latest_group import extremes
from store.completions.rows import get_completions, get_step_bounds, list_groups
from store.db.engine import Store
from store.db.rows import EvaluationRow, RunDetail, StoredCompletion, StoredExample, StoredPrediction
from store.evaluations.predictions import list_predicted, list_predictions_to
from store.evaluations.records import list_evaluations
from store.examples import get_examples
from store.notes import list_tagged

MOST_TAGGED = 12
OF_EACH = 3
"""Number of held-out examples that the first run got right, and of those that it got wrong."""
HELD_OUT = ("test", "val", "probe")
"""Kinds of evaluations, most informative first."""


class ReportedAnswer(NamedTuple):
    """An answer with a short title."""

    title: str
    row: StoredCompletion | StoredPrediction


class Card(NamedTuple):
    """A question with its image and some answers; `title` says why it is shown."""

    title: str
    example: StoredExample | None
    answers: list[ReportedAnswer]


def of_training(store: Store, run: RunDetail, reached: Sequence[Milestone], is_sampled: bool) -> Iterator[Card]:
    """Yield the best and worst answer of a group before and after each milestone, and at the first and last step."""
    bounds = get_step_bounds(store, run.id) if is_sampled else None
    if bounds is None:
        return
    why = {bounds.first: "the first", bounds.last: "the last"}
    for milestone in reached:
        why |= {milestone.before: f"before “{milestone.title}”", milestone.after: f"after “{milestone.title}”"}
    for step in sorted(why):
        groups = list_groups(store, run.id, step)
        if groups:
            best, worst = extremes(groups[0].completions)
            answers = [ReportedAnswer("best", best)] + ([ReportedAnswer("worst", worst)] if worst.id != best.id else [])
            yield Card(f"Step {step:,}, {why[step]}", groups[0].example, answers)


def tagged_cards(store: Store, run: RunDetail) -> Iterator[Card]:
    """Yield the completions that users have tagged."""
    tags_by_id = list_tagged(store, run.id, MOST_TAGGED)
    rows = get_completions(store, list(tags_by_id))
    examples = get_examples(store, {row.example_id for row in rows if row.example_id is not None})
    for row in rows:
        tag_names = ", ".join(tags_by_id[row.id])
        yield Card(
            f"Step {row.step:,}, tagged {tag_names}",
            examples.get(row.example_id or 0),
            [ReportedAnswer("sampled", row)],
        )


def held_out(store: Store, runs: Sequence[RunDetail]) -> Iterator[Card]:
    """Yield questions with every run's greedy answer: some that the first run got right, and some it got wrong."""
    chosen = {run.id: evaluation for run in runs if (evaluation := _latest(store, run)) is not None}
    first = next((chosen[run.id] for run in runs if run.id in chosen), None)
    if first is None:
        return
    right, wrong = (list_predicted(store, first.id, correct=correct, limit=OF_EACH) for correct in (True, False))
    ids = [*right, *(id for id in wrong if id not in right)]
    examples = get_examples(store, ids)
    rows_by_run = {
        run.id: {row.example_id: row for row in list_predictions_to(store, chosen[run.id].id, ids) if row.sample == 0}
        for run in runs
        if run.id in chosen
    }
    for id in ids:
        answers = [
            ReportedAnswer(f"{run.name}, step {chosen[run.id].step:,}", rows_by_run[run.id][id])
            for run in runs
            if id in rows_by_run.get(run.id, {})
        ]
        yield Card(f"{examples[id].name}", examples[id], answers)


def _latest(store: Store, run: RunDetail) -> EvaluationRow | None:
    """Return the latest finished evaluation of the most informative kind, on the run's own dataset."""
    done = [each for each in list_evaluations(store, run.id) if each.ended_at and each.benchmark == run.dataset]
    by_kind = {each.kind: each for each in done}
    return next((by_kind[kind] for kind in HELD_OUT if kind in by_kind), None)
