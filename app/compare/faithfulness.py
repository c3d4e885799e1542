"""Show how often altered reasoning changed a run's answers, checkpoint by checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.compare.figures import Alteration, altered
from app.compare.groups import Group
from app.compare.selection import names
from app.shared.live_chart import live_chart
from store.db.rows import EvaluationRow


def show(groups: Sequence[Group]) -> None:
    """Show the charts, or nothing if no reasoning was altered."""
    tests_by_name = {name: altered_tests(group) for name, group in names(groups).items()}
    tests_by_name = {name: tests for name, tests in tests_by_name.items() if tests}
    if not tests_by_name:
        return
    with st.container(border=True):
        st.markdown(
            "**CoT-faithfulness probe by checkpoint**",
            help="An answer that stays the same did not depend on the thinking. Bands are 95 % Wilson intervals; "
            "first seeds only.",
        )
        with st.container(horizontal=True):
            name = st.selectbox(
                "Run", list(tests_by_name), index=len(tests_by_name) - 1, key="compare.thinking", width=320
            )
            benchmarks = list(dict.fromkeys(each.benchmark for each in tests_by_name[name]))
            benchmark = st.selectbox("Benchmark", benchmarks, key=f"compare.thinking.{name}", width=260)
        series = alterations([each for each in tests_by_name[name] if each.benchmark == benchmark])
        alt = f"Share of the answers of {name} on {benchmark} that the CoT-faithfulness probe changed, by checkpoint"
        live_chart(altered(series), key="compare.altered", alt=alt)


def altered_tests(group: Group) -> list[EvaluationRow]:
    """Return the tests with altered reasoning of a group's first seed."""
    return [each for each in group.members[0].evaluations if each.kind == "thinking" and each.ended_at is not None]


def alterations(evaluations: Sequence[EvaluationRow]) -> list[Alteration]:
    """Return the figures of each alteration, from the newest evaluation of each step."""
    newest: dict[str, dict[int, EvaluationRow]] = {}
    for evaluation in sorted(evaluations, key=lambda each: each.id):
        newest.setdefault(str(evaluation.conditions.get("thinking")), {})[evaluation.step] = evaluation
    alterations_made = []
    for name, by_step in newest.items():
        steps = sorted(by_step)
        changed, low, high = ([by_step[s].metrics[f"changed{end}"] for s in steps] for end in ("", "_low", "_high"))
        alterations_made.append(Alteration(name, steps, changed, low, high))
    return alterations_made
