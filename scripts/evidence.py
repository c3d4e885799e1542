"""Print the tables of docs/evidence.md from the runs of an experiment.

    python -m store import-run docs/evidence/demo-evidence.zip --db evidence.db
    python -m scripts.evidence demo-evidence --db evidence.db

One table has one line per arm, and one has one line per run; the others are those of the Compare page. Intervals and
p-values are over seeds and images if an arm has at least three seeds (`trainer.spec.statistics`)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from functools import cache

import numpy as np

from app.compare import against, groups, tables
from app.compare.groups import Group, Member
from app.compare.tables import Cell, Table, TableLine
from app.emergence import milestones
from store.db.engine import Store, open_store
from store.db.rows import Scores
from store.evaluations.predictions import read_scores
from store.evaluations.records import evaluations_by_run
from store.events import checkpoints_by_run
from store.experiments import get_experiment
from store.metrics import Series, read_series
from store.runs import get_run
from trainer.spec import statistics

ENDS = 5
"""Updates at the beginning and end of training over which steps are averaged."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.evidence", description=__doc__.splitlines()[0])
    parser.add_argument("experiment", help="its uid, or its name (the newest of that name)")
    parser.add_argument("--db", metavar="URL", help="database path or SQLAlchemy URL")
    options = parser.parse_args()
    with closing(open_store(options.db, readonly=True)) as store:
        print("\n".join(markdown(table) for table in make_tables(store, options.experiment)))


def markdown(table: Table) -> str:
    """Return a table with its notes; rows that others reported are left out."""
    cells = [[cell.text for cell in line.cells] for line in table.lines if line.kind == "measured"]
    lines = [f"| {' | '.join(row)} |" for row in (table.head, ["---"] * len(table.head), *cells)]
    return "\n".join([f"### {table.title}", "", *lines, "", *table.notes, ""])


def make_tables(store: Store, experiment: str) -> list[Table]:
    """Return the tables of an experiment's tested runs. Raises StoreError if the experiment does not exist."""
    arms = get_experiment(store, experiment).arms
    evaluations, checkpoints = evaluations_by_run(store, list(arms)), checkpoints_by_run(store, list(arms))
    every_run = [Member(get_run(store, id), evaluations[id], checkpoints[id]) for id in arms]
    members = [member for member in every_run if groups.latest_test(member, member.run.dataset)]
    compared = groups.groups(members, arms)
    names = groups.benchmarks(members)

    @cache
    def scores(evaluation_id: int) -> Scores:
        return read_scores(store, evaluation_id)

    every = (
        arm_table(compared, names, scores),
        emergence(store, compared),
        *(against.gains(compared, group, names, scores) for group in against.candidates(compared)[:1]),
        tables.style_drift(compared, scores),
        tables.generalization(compared, names, scores),
        tables.ranks(compared, scores),
        tables.samples(compared, names, scores),
        tables.faithfulness(compared),
    )
    return [table for table in every if any(line.kind == "measured" for line in table.lines)]


def arm_table(compared: Sequence[Group], names: Sequence[str], scores: groups.GetScores) -> Table:
    """Return greedy exact match of every arm on every benchmark, with that of the lowest seed on its own dataset."""
    lines = []
    for group in compared:
        measured = [groups.measure_group(group, name, scores) for name in names]
        own_tests = [test.metrics for m in group.members if (test := groups.latest_test(m, group.first.dataset))]
        texts = (
            *(group.label, _rank(group), str(len(group.members))),
            *("–" if each is None else _share(each.estimate) for each in measured),
            *(f"{min(metrics[name] for metrics in own_tests):.3f}" for name in ("exact_match", "wellformed")),
        )
        lines.append(TableLine(tuple(map(Cell, texts))))
    head = ("Arm", "Rank", "Seeds", *names, "Lowest seed", "Lowest well-formed share")
    return Table("arms", "Exact match of every arm, greedy", head, tuple(lines))


def emergence(store: Store, compared: Sequence[Group]) -> Table:
    """Return for every run with samples when the form was learnt, and how reasoning steps changed."""
    lines = []
    for group in (group for group in compared if (group.first.method, group.first.style) == ("grpo", "cot")):
        for member in group.members:
            series = read_series(store, member.run.id, ["wellformed_share", "reasoning_steps", "correct_share"])
            steps, right = (series[name].value for name in ("reasoning_steps", "correct_share"))
            test = groups.latest_test(member, member.run.dataset)
            ends = [_mean(part) for values in (steps, right) for part in (values[:ENDS], values[-ENDS:])]
            texts = (
                *(group.label, _rank(group), str(member.run.seed), _locked(series["wellformed_share"])),
                *(f"{value:.2f}" for value in ends),
                *((f"{test.metrics['mean_steps']:.2f}", f"{test.metrics['mean_truth']:.2f}") if test else ("–", "–")),
            )
            lines.append(TableLine(tuple(map(Cell, texts))))
    when = (f"first {ENDS} updates", f"last {ENDS}")
    head = (
        *("Arm", "Rank", "Seed", "Format locked in at update"),
        *(f"{measure}, {part}" for measure in ("Steps", "Right") for part in when),
        *("Steps on test", "True mean"),
    )
    return Table("emergence", "Emergence, run by run", head, tuple(lines))


def _rank(group: Group) -> str:
    return str(group.first.lora_rank or "–")


def _share(estimate: statistics.Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if len(values) else float("nan")


def _locked(form: Series) -> str:
    """Return the update from which the format is locked in, by the rule of the Emergence page."""
    at = milestones.first_above(form.value, milestones.LOCKED, milestones.LOCKED_SLACK)
    return "never" if at is None else str(form.step[at])


if __name__ == "__main__":
    main()
