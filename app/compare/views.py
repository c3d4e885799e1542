"""Details behind the tables: accuracy curves, answers by true count, and examples that only one side got right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from app.compare import groups as comparison
from app.compare.figures import Tally, answer_heat_map, by_count
from app.compare.groups import Group
from app.compare.selection import names, place_in_method
from app.shared import data, format, links
from app.shared.example_parts import truth
from app.shared.live_chart import live_chart
from app.shared.paths import Path, paths
from app.shared.trace_text import highlighted, visible
from store.db.engine import Store
from store.db.rows import Scores
from store.examples import get_examples

TRACES = "traces"
SHOWN = 12
"""Number of examples in the gallery."""
COUNTED = "steps_equal_count"
FIGURES = {
    "exact_match_lenient": "right (last number)",
    "answered": "answered",
    "mean_absolute_error": "MAE of answers",
    "rmse": "RMSE of answers",
    "off_by_one": "off by at most 1",
    "relaxed": "off by at most 5 %",
    "consistent": "answer = conclusion",
    "mean_think_tokens": "think tokens",
    "mean_steps": "numbered steps",
    COUNTED: "steps = count",
    "cos_mean": "cosine",
    "cos_floor": "floor",
    "cos_ceiling": "ceiling",
    "truncated": "cut off",
}
"""Column title by metric of an evaluation."""


def path_figure(groups: Sequence[Group]) -> Any:
    """Return validation accuracy against similarity, by checkpoint of each group's first seed."""
    run_paths = []
    for name, group in names(groups).items():
        points = {
            e.step: (e.metrics["exact_match"], e.metrics["cos_mean"])
            for e in group.members[0].evaluations
            if e.kind == "val" and e.metrics.get("cos_mean") is not None
        }
        if points:
            steps = sorted(points)
            accuracy, similarity = zip(*(points[step] for step in steps), strict=True)
            run_paths.append(
                Path(name, group.first.method, place_in_method(groups, group), steps, accuracy, similarity)
            )
    return paths(run_paths) if run_paths else None


def count_figure(groups: Sequence[Group], benchmark: str) -> Any:
    tallies = []
    for name, group in names(groups).items():
        evaluation = comparison.latest_test(group.members[0], benchmark)
        counts = evaluation.metrics.get("by_count") if evaluation else None
        if counts:
            tally = {int(count): pair for count, pair in counts.items()}
            tallies.append(Tally(name, group.first.method, place_in_method(groups, group), tally))
    return by_count(tallies) if tallies else None


def charts(groups: Sequence[Group], benchmark: str) -> None:
    both = st.grid(2, min_column_width=400)
    with both, st.container(border=True, height="stretch"):
        st.markdown(
            "**Accuracy against similarity**", help="Validation results, one path per run over its checkpoints."
        )
        figure = path_figure(groups)
        if figure is None:
            st.caption("No run has validation results with similarities.")
        else:
            live_chart(
                figure, key="compare.paths", alt="Accuracy against similarity to the reference, one path per run"
            )
    with both, st.container(border=True, height="stretch"):
        st.markdown("**Accuracy by true count**", help="Bars and bands are 95 % Wilson intervals; first seeds only.")
        figure = count_figure(groups, benchmark)
        if figure is None:
            st.caption(f"No results by true count on {format.literal(benchmark)}.")
        else:
            live_chart(figure, key="compare.counts", alt=f"Accuracy by true count on {benchmark}")


def figures_table(groups: Sequence[Group], benchmark: str) -> None:
    """Show the other metrics from the test of each group's first seed."""
    tests = {name: comparison.latest_test(group.members[0], benchmark) for name, group in names(groups).items()}
    metrics_by_run = {name: evaluation.metrics for name, evaluation in tests.items() if evaluation is not None}
    if not any(values.get(key) is not None for values in metrics_by_run.values() for key in FIGURES):
        st.caption(f"No other metrics were recorded on {format.literal(benchmark)}.")
        return
    # Without numbered steps, as in prose, their number cannot be compared with the count.
    rows = {
        name: values if values.get("mean_steps") else {**values, COUNTED: None}
        for name, values in metrics_by_run.items()
    }
    st.dataframe(
        {"run": list(rows)} | {label: [row.get(key) for row in rows.values()] for key, label in FIGURES.items()},
        hide_index=True,
        placeholder=format.UNKNOWN,
        column_config={label: st.column_config.NumberColumn(format="%.3g") for label in FIGURES.values()},
        alt=f"Other metrics of each run on {benchmark}",
    )


def confusion(store: Store, groups: Sequence[Group], benchmark: str) -> None:
    """Show one group's answers by true count."""
    by_name = {n: g for n, g in names(groups).items() if comparison.latest_test(g.members[0], benchmark) is not None}
    if not by_name:
        return
    name = st.selectbox("Answers of", list(by_name), index=len(by_name) - 1, key="compare.heat", width=320)
    evaluation = comparison.latest_test(by_name[name].members[0], benchmark)
    if evaluation is not None:
        scores = data.read_scores(evaluation.id)
        if not np.isfinite(scores.truth).any():
            st.caption(f"No question of {format.literal(benchmark)} has a count as its gold answer.")
            return
        alt = f"Answers of {name} by true count on {benchmark}"
        live_chart(answer_heat_map(scores.truth, scores.answer), key="compare.confusion", alt=alt)


def compare_examples(store: Store, groups: Sequence[Group], benchmark: str) -> None:
    """Compare two checkpoints example by example: how many and which examples only one of them got right."""
    by_name = {n: g for n, g in names(groups).items() if comparison.latest_test(g.members[0], benchmark) is not None}
    if len(by_name) < 2:
        st.caption("This needs two runs with tests on this benchmark.")
        return
    options = list(by_name)
    methods = [group.first.method for group in by_name.values()]
    rival = next((i for i in reversed(range(len(options))) if methods[i] != methods[-1]), 0)
    with st.container(horizontal=True):
        first = st.selectbox("First run", options, index=len(options) - 1, key="compare.one", width=300)
        second = st.selectbox("Second run", options, index=rival, key="compare.other", width=300)
    tests = [comparison.latest_test(by_name[name].members[0], benchmark) for name in (first, second)]
    one, other = (data.read_scores(each.id) for each in tests if each is not None)
    shared, i, j = np.intersect1d(one.example_id, other.example_id, return_indices=True)
    outcomes = {
        f"only {first} right": (one.correct[i] > 0) & (other.correct[j] == 0),
        f"only {second} right": (one.correct[i] == 0) & (other.correct[j] > 0),
        "both right": (one.correct[i] > 0) & (other.correct[j] > 0),
        "both wrong": (one.correct[i] == 0) & (other.correct[j] == 0),
    }
    for name, side in ((first, one), (second, other)):
        if np.isfinite(side.answer).any():
            answer_rates(name, side)
    outcome = st.segmented_control(
        "Examples",
        list(outcomes),
        default=next(iter(outcomes)),
        key="compare.outcome",
        required=True,
        wrap=True,
        format_func=lambda key: f"{format.literal(key)}: {int(outcomes[key].sum())}",
    )
    places = np.flatnonzero(outcomes[str(outcome)])[:SHOWN]
    examples = get_examples(store, shared[places].tolist())
    cards = [
        card(
            examples[int(shared[p])],
            (first, one, int(i[p]), by_name[first]),
            (second, other, int(j[p]), by_name[second]),
        )
        for p in places
    ]
    st.html(f'<div class="duel">{"".join(cards)}</div>' if cards else '<p class="duel-none">No examples.</p>')


def answer_rates(name: str, scores: Scores) -> None:
    """Show the share of answered examples, and the accuracy on those."""
    answered = ~np.isnan(scores.answer)
    right = scores.correct[answered].mean() if answered.any() else float("nan")
    st.caption(
        f"{format.literal(name)}: {format.percent(answered.mean())} answered, of which {format.percent(right)} right."
    )


Side = tuple[str, Scores, int, Group]


def card(example: Any, *sides: Side) -> str:
    """Return one example with both answers, each linked to its trace, as inert HTML."""
    images = "".join(
        f'<img loading="lazy" src="{visible(links.image(sha256))}" alt="Image of the question">'
        for sha256 in example.images[:1]
    )
    answers = "".join(answer(*side) for side in sides)
    right = truth(example) if example.gold is not None else str(example.answer)
    question = f"{highlighted(example.question)} <b>{visible(right or '')}</b>"
    return f'<div class="duel-card">{images}<div>{question}{answers}</div></div>'


def answer(name: str, scores: Scores, place: int, group: Group) -> str:
    count = scores.answer[place]
    text = "no count" if np.isnan(count) else f"{count:.0f}"
    sign = {1.0: "✔", 0.0: "✘"}.get(float(scores.correct[place]), "")
    query = f"run={group.first.uid}&view=Predictions&evaluation={scores.evaluation_id}"
    link = visible(f"{TRACES}?{query}&prediction={scores.prediction_id[place]}")
    return f'<div><a target="_self" href="{link}">{sign} {text}</a> {visible(name)}</div>'
