"""Cards for milestones and findings, with traces from just before and just after."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from app.emergence.findings import Finding
from app.emergence.milestones import Milestone
from app.emergence.story import Story
from app.shared import data, data_needs, format
from app.shared.trace_text import excerpt
from store.db.rows import RunDetail, StoredCompletion

TRACES_PAGE = "../pages/traces.py"
MOST_LOOKED_AT = 1000
"""Maximum number of a step's completions to choose an example from."""
EXCERPT, LONG_EXCERPT = 160, 400
"""Characters of an example trace on a milestone's card, and below a finding."""
Sort = Callable[[StoredCompletion], tuple[float, ...]]
SHOWS: Mapping[str, Sort] = {
    "format": lambda row: (row.wellformed,),
    "steps": lambda row: (row.wellformed, row.reasoning_steps > 0),
    "accuracy": lambda row: (row.correct is True, row.wellformed),
    "length": lambda row: (row.tokens or 0,),
}
"""Sort key by kind of milestone: the example after it has the largest value, the one before the smallest."""
PICK: Mapping[str, Sort] = {
    "padding": lambda row: (row.wellformed, row.reasoning_steps - (row.truth or 0), row.correct is False),
    "shotgun": lambda row: (row.answer is None, row.text.count("<answer>")),
    "collapse": lambda row: (-(row.tokens or 0),),
}
"""Sort key for the trace of a step that shows a finding best; by default, a wrong one of usual length."""
SIGNS: data_needs.Parts = {
    "padding": (data_needs.THINKING, data_needs.TRUE_COUNTS, data_needs.JUDGED),
    "collapse": (data_needs.LENGTHS,),
    "standstill": (data_needs.FORM, data_needs.JUDGED),
}
"""Findings that are named when none was found, with what they need."""
AHEAD = {
    "the format is not locked in": data_needs.FORM,
    "fewer than half of the samples have numbered steps": data_needs.THINKING,
    "accuracy has not risen": data_needs.JUDGED,
    "the length has not settled": data_needs.LENGTHS,
}
"""Descriptions of milestones that have not occurred, with what they need."""


def findings_box(story: Story) -> None:
    """Show the findings; if there are none, say what was checked."""
    run, run_findings = story.run, story.findings
    if not run_findings:
        absent = [f"no {sign}" for sign, needs in SIGNS.items() if data_needs.allows(story.has, *needs)]
        if absent:
            text = f"No warning signs in {steps_summary(story)}: {', '.join(absent)}."
            st.success(text, icon=":material/visibility:")
        else:
            st.caption("Warning signs cannot be checked: they need token counts or judged answers.")
        return
    with st.grid(min(2, len(run_findings)), min_column_width=400, gap="small"):
        for finding in run_findings:
            _finding(run, finding)
    st.caption("Check the traces: this is evidence, not a verdict.")


def _finding(run: RunDetail, finding: Finding) -> None:
    with st.container(border=True, key=f"finding_{finding.kind}", gap="xsmall", height="stretch"):
        st.markdown(f":material/visibility: **{finding.title}** since step {finding.since}")
        st.caption(format.literal(finding.sentence))
        st.html(_quote(example(run, finding.now, PICK.get(finding.kind, _wrong), largest=True), LONG_EXCERPT))
        with st.container(horizontal=True):
            _link(run, finding.since, f"Traces of step {finding.since}")
            _link(run, finding.now, f"Traces of step {finding.now}")


def steps_summary(story: Story) -> str:
    """Return `170 steps` or, for a long run, `1,954 steps, one in 4`."""
    steps = format.pluralize(len(story.samples.step), "step")
    return steps if story.samples.every == 1 else f"{steps}, one in {story.samples.every}"


def findings_line(run_findings: list[Finding]) -> str:
    """Return findings like `More steps than objects (since step 62)` in one line; empty without findings."""
    return " · ".join(f"{one.title} (since step {one.since})" for one in run_findings)


def milestone_cards(story: Story) -> None:
    """Show a card for each milestone, in the order of their steps."""
    if not story.milestones:
        waiting = [clause for clause, need in AHEAD.items() if data_needs.allows(story.has, need)]
        if waiting:
            st.caption(f"No milestones yet: {', '.join(waiting)}.")
        else:
            st.caption("Milestones cannot be checked: they need a required format, token counts or judged answers.")
        return
    with st.grid(len(story.milestones), min_column_width=215, gap="small"):
        for one in story.milestones:
            _card(story.run, one)


def _card(run: RunDetail, milestone: Milestone) -> None:
    sort = SHOWS[milestone.kind]
    with st.container(border=True, height="stretch", gap="xxsmall", key=f"milestone_{milestone.kind}"):
        st.markdown(f"**{milestone.title}** · step {milestone.step}", help=f"Rule: {milestone.rule}")
        st.caption(format.literal(milestone.measured))
        for word, step, largest in (("before", milestone.before, False), ("after", milestone.after, True)):
            row = example(run, step, sort, largest=largest)
            _link(run, step, f"Just {word}: step {step}", row)
            st.html(_quote(row))


def example(run: RunDetail, step: int, sort: Sort, *, largest: bool) -> StoredCompletion | None:
    """Return the completion of a step with the largest (or smallest) `sort` key; None without completions."""
    rows = data.list_completions(run.id, steps=(step, step), limit=MOST_LOOKED_AT)
    return (max if largest else min)(rows, key=sort, default=None)


def _wrong(row: StoredCompletion) -> tuple[float, ...]:
    return (row.correct is False, row.wellformed)


def _quote(row: StoredCompletion | None, length: int = EXCERPT) -> str:
    if row is None:
        return ""
    verdict = {True: "right", False: "wrong", None: "not judged"}[row.correct]
    truth = "" if row.truth is None else f", true count {row.truth}"
    return f'<div class="em-quote">{excerpt(row.text, length)}<span>{verdict}{truth}</span></div>'


def _link(run: RunDetail, step: int, label: str, row: StoredCompletion | None = None) -> None:
    query = {"run": run.uid, "step": str(step)} | ({"completion": str(row.id)} if row else {})
    st.page_link(TRACES_PAGE, label=label, icon=":material/psychology:", query_params=query)


STYLE = (
    "<style>.em-quote{font-family:var(--st-code-font,monospace);font-size:.78rem;line-height:1.45;"
    "overflow-wrap:anywhere;border-left:3px solid var(--st-border-color,#d5dae2);padding:.1rem .5rem}"
    ".em-quote span{display:block;opacity:.8;font-family:var(--st-font)}</style>"
)
