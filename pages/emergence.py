"""Emergence: when did reasoning appear in a run, and what drives the policy?"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import recorded_view
from app.emergence import figures, notes, story
from app.emergence import rows as emergence_rows
from app.emergence.story import Story, Texts
from app.emergence.time_machine import time_machine
from app.emergence.vocabulary import vocabulary_table
from app.shared import data, data_needs, links, run_picker, status
from app.shared.figures import Mark
from app.shared.live_chart import live_chart, load_library
from app.shared.trace_view import show_style
from store.db.rows import RunRow

NONE = "none"
SUMMARIZING = "Summarizing this run's completions; this happens only once."
HELP = """
- **Format, reasoning, accuracy**: shares of the completions sampled at each step, and greedy accuracy on held-out
  examples (validation and probe). Flags are milestones; their cards above state the rules.
- **Heat maps**: darker cells mean that more completions of the step have that many counted steps or tokens.
- **Answers**: entropy of a step's answers. It drops below the entropy of the true counts when the policy keeps giving
  the same answer.
- **Texts**: shares of texts that are distinct, cut off, or give several answers; of well-formed ones, those with more
  steps than there are objects to count. Of traces with steps, those whose answer is the number of their last step, and
  those that state the answer before the first step (32 texts of at most 64 steps).
- **Groups**: a group is live when its rewards differ: by accuracy if some answers are right and some wrong, otherwise
  by style only. In a dead group every advantage is 0.
- **What drives the policy**: share of each component in the within-group variance of the reward (its covariance with
  the reward). Components that work against the reward count as 0.
- **Steps and objects**: only for drawn scenes, whose objects are known. Each step is matched to an object by the
  colour, kind and position that it names; the values are means over well-formed traces with steps.
"""


def choose(runs: Sequence[RunRow]) -> tuple[RunRow, RunRow | None]:
    """Return the run to show, and the run to overlay, if any."""
    shown = run_picker.current_run(runs)
    by_uid = {run.uid: run for run in runs if run.uid != shown.uid}
    labels = run_picker.labels(list(by_uid.values()))
    beside = st.query_params.get("with")
    st.session_state["emergence.with"] = beside if beside in by_uid else NONE
    other = st.selectbox(
        "Overlay another run (dotted)",
        [NONE, *by_uid],
        key="emergence.with",
        format_func=lambda uid: labels.get(uid, "no other run"),
        on_change=go_to_overlay,
        width=420,
    )
    return shown, by_uid.get(other)


def go_to_overlay() -> None:
    other = st.session_state["emergence.with"]
    links.go("with") if other == NONE else links.go(**{"with": other})


def load_story(row: RunRow) -> Story | None:
    """Return a run's story; a run from an older database is summarized first, with a progress bar."""
    data.reader()
    run = data.get_run(row.id)
    if story.is_summarized(run):
        return story.load(run)
    bar = st.progress(0.0, text=SUMMARIZING)
    for share in story.summarize(run):
        bar.progress(share, text=SUMMARIZING)
    bar.empty()
    return story.load(run)


def emergence(row: RunRow, beside: RunRow | None) -> None:
    if data.get_row(row.id) is None:
        st.info("This run has been deleted.", icon=":material/delete:")
        return
    current, other = load_story(row), None if beside is None else load_story(beside)
    if current is None:
        nothing_sampled(row)
        return
    if not current.is_sampled:
        st.info("This run samples no completions in training: the charts show its probes.", icon=":material/info:")
        draw(current, story.read_texts(current), other)
        data_needs.show_missing(current.has, emergence_rows.PARTS)
        return
    notes.findings_box(current)
    st.header("Milestones", anchor=False)
    notes.milestone_cards(current)
    st.header("Step by step", anchor=False, help=HELP)
    step_bar(current)
    read = story.read_texts(current)
    draw(current, read, other)
    data_needs.show_missing(current.has, emergence_rows.PARTS)
    st.header("Words that appeared and faded", anchor=False)
    vocabulary_table(read)


def draw(current: Story, read: Texts, other: Story | None) -> None:
    rows = emergence_rows.rows(current, read, other)
    flags = emergence_rows.flags(current)
    marks = [*flags, *(Mark(one.since, f"{one.title} · {one.since}", one.sentence) for one in current.findings)]
    at = links.step()
    figure = figures.emergence_chart(rows, marks, cursor=None if at is None else float(at), revision=current.run.uid)
    live_chart(
        figure,
        key=f"emergence_{current.run.uid}",
        alt=takeaway(current),
        on_click=lambda point: links.set_step(point.x),
    )


def takeaway(current: Story) -> str:
    """Return `demo-grpo over 170 steps: Format locked in at step 45; …`."""
    reached = "; ".join(f"{one.title.lower()} at step {one.step}" for one in current.milestones)
    return f"{current.run.name} over {current.samples.step[-1]} steps: {reached or 'no milestone yet'}."


def step_bar(current: Story) -> None:
    """Show the step of the cursor with a link to its traces."""
    at = links.step()
    with st.container(horizontal=True, vertical_alignment="center", height=40, border=False):
        if at is None:
            read = (
                ""
                if current.samples.every == 1
                else f"This run is long: the chart shows {notes.steps_summary(current)}. "
            )
            st.caption(
                f"{read}All rows share one axis: click to set the cursor, drag to zoom, double-click to zoom out."
            )
            return
        st.markdown(f"Cursor at **step {at}**", width="content")
        query = {"run": current.run.uid, "step": str(at)}
        st.page_link("../pages/traces.py", label="Open its traces", icon=":material/psychology:", query_params=query)
        st.button("Clear", icon=":material/close:", type="tertiary", on_click=links.clear_step)


def nothing_sampled(row: RunRow) -> None:
    if row.status is None:
        st.info("This run was imported without completions: there is nothing to analyze.", icon=":material/download:")
    elif data_needs.is_script(row):
        st.info(
            "No training completions were recorded for this script. "
            "Its recorded evaluation answers, if any, are below.",
            icon=":material/info:",
        )
    elif row.step > 0 and row.method not in status.SAMPLES_NOTHING:
        st.info(
            "The training completions of this run are not in this database. "
            "Below you can follow its answers to held-out examples.",
            icon=":material/info:",
        )
    elif row.method == "grpo" and row.status in status.OPEN:
        st.info("The first step is still running: charts appear once it is finished.", icon=":material/hourglass_top:")
    elif row.method == "grpo":
        st.info("This run ended before its first step: see its log for the reason.", icon=":material/error:")
    else:
        st.info(
            "This run samples no completions in training; only GRPO does. "
            "Below you can follow its answers to held-out examples.",
            icon=":material/info:",
        )
    st.page_link("../pages/run.py", label="Open the run", icon=":material/monitoring:", query_params={"run": row.uid})


st.title("Emergence")
show_style()
st.html(notes.STYLE)
runs = run_picker.selectable_runs()
if not runs:
    recorded_view.no_runs("the milestones of a run, each with a trace from before and after")
load_library()
chosen, overlay = choose(runs)
every = 5.0 if chosen.status in status.OPEN else None
st.fragment(emergence, run_every=every)(chosen, overlay)
st.header("Time machine", anchor=False, help="The same held-out example, answered greedily at every evaluation.")
time_machine(data.get_run(chosen.id))
