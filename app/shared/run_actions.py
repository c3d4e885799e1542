"""Buttons that act on runs, with tooltips that state their effects, and the confirmation of a deletion."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from app import recorded
from app.shared import data, format, intents, status
from store.care import state
from store.db.engine import StoreError
from store.db.rows import RunDetail, RunRow
from trainer.spec.config import ConfigError

RUN_PAGE = "../pages/run.py"
LAUNCH_PAGE = "../pages/launch.py"
TO_DELETE = "runs to delete"


def attempt(action: Callable[..., str], *arguments: object) -> None:
    """Run a button's action, and show its result or error as a toast."""
    try:
        st.toast(format.literal(action(*arguments)), icon=":material/check:")
    except (StoreError, ConfigError) as error:
        st.toast(format.literal(str(error)), icon=":material/error:", duration="long")


def demo_button() -> None:
    """Show the button that trains the demo, if the user has no runs."""
    if not all(map(recorded.is_recorded, data.list_run_heads())):
        return
    if st.button(
        "Start the demo",
        type="primary",
        icon=":material/play_arrow:",
        key="start_demo",
        help="Trains the embedded model with GRPO, then with SFT; takes about ten minutes and needs no download.",
    ):
        attempt(intents.start_demo)
        st.rerun()


def stop_button(runs: Sequence[RunRow], levels: Sequence[int], *, key: str) -> None:
    """Show one button that asks each run to stop, more strongly each time; `levels` are those requested so far."""
    stoppable = [run for run in runs if intents.can_stop(run)]
    level = min(max(levels, default=0) + 1, max(map(intents.strongest_stop, stoppable), default=1))
    label, explanation = status.STOP_LEVELS[level]
    if all(run.status == "queued" for run in stoppable):
        explanation = "Removes it from the queue."
    icon = ":material/stop_circle:"
    # Each level is a separate button: a click that a busy page handles twice must not escalate.
    button_key = key if level == 1 else f"{key}_{level}"
    explanation = explanation if stoppable else "Nothing to stop."
    if st.button(label, icon=icon, key=button_key, disabled=not stoppable, help=explanation):
        for run in stoppable:
            attempt(intents.stop, run, level)
        st.rerun()


def resume_button(runs: Sequence[RunRow], *, key: str) -> None:
    reasons = [intents.why_not_resumed(run) for run in runs]
    resumable = [run for run, reason in zip(runs, reasons, strict=True) if reason is None]
    explanation = "Continues from the last checkpoint; the job goes into the queue."
    restarting = [run for run in resumable if intents.begins_anew(run)]
    if restarting:
        subject = "Restarts" if len(restarting) == len(resumable) == 1 else f"{len(restarting)} of these runs restart"
        explanation = f"{subject} from step 0 and replaces the steps so far: there is no checkpoint yet."
    if not resumable:
        explanation = str(reasons[0]) if reasons else intents.ONLY_UNFINISHED
    if st.button("Resume", icon=":material/play_circle:", key=key, disabled=not resumable, help=explanation):
        for run in resumable:
            attempt(intents.resume, run)
        st.rerun()


def clone_button(run: RunRow | None, *, key: str) -> None:
    explanation = "Opens the launch form with this run's configuration." if run else "Select one run to clone it."
    if st.button("Clone", icon=":material/content_copy:", key=key, disabled=run is None, help=explanation) and run:
        st.switch_page(LAUNCH_PAGE, query_params={"clone": run.uid})


def branch_button(run: RunDetail, *, key: str) -> None:
    """Show the run's checkpoints, each of which opens the launch form to branch from it."""
    checkpoints = data.list_checkpoints(run.id)
    if not checkpoints:
        return
    help = "Starts a new run from one of these checkpoints, with other settings."
    with st.popover("Branch", icon=":material/call_split:", key=key, help=help):
        for saved in checkpoints:
            accuracy = "" if saved.value is None else f", accuracy {format.percent(saved.value)}"
            label = f"{saved.kind.capitalize()}: step {saved.step}{accuracy}"
            if st.button(label, key=f"{key}_{saved.kind}", type="tertiary"):
                st.switch_page(LAUNCH_PAGE, query_params={"clone": run.uid, "from": str(saved.step)})


def tags_button(runs: Sequence[RunRow], *, key: str) -> None:
    """Show a form for the tags that all of these runs share."""
    help = "Adds tags, which the search includes." if runs else "Select runs to tag them."
    with st.popover("Tags", icon=":material/sell:", key=key, disabled=not runs, help=help):
        if not runs:
            return
        shared = sorted(intents.shared_tags(runs))
        chosen = "-".join((*(run.uid for run in runs), *shared))  # a new form once the tags have changed
        with st.form(f"{key}_form_{chosen}", border=False):
            tags = st.multiselect(
                "Tags" if len(runs) == 1 else f"Tags shared by all {len(runs)} runs",
                sorted({*shared, *(tag for run in data.list_sound_runs() for tag in run.tags)}),
                default=shared,
                key=f"{key}_tags_{chosen}",
                accept_new_options=True,
                placeholder="none",
                width=320,
            )
            is_sent = st.form_submit_button("Save", icon=":material/check:")
        if is_sent:
            attempt(intents.tag_runs, runs, tags)
            st.rerun()


def delete_button(runs: Sequence[RunRow], *, key: str) -> None:
    """Request confirmation: the page must call `confirm_deletion` outside of its fragments."""
    deletable = [run for run in runs if run.status not in status.OPEN]
    explanation = (
        "Deletes runs with all their data, after a confirmation." if deletable else "Stop a run before you delete it."
    )
    if st.button("Delete", icon=":material/delete:", key=key, disabled=not deletable, help=explanation):
        st.session_state[TO_DELETE] = [run.uid for run in deletable]
        st.rerun()


def confirm_deletion(*, then: str | None = None) -> None:
    """Open the confirmation dialog if a deletion was requested; open the page `then` once it is done."""
    uids = frozenset(st.session_state.get(TO_DELETE, ()))
    runs = [run for run in data.list_run_heads() if run.uid in uids] if uids else []
    if runs:
        _question(runs, then)


def deletion_summary(run: RunRow) -> str:
    """Return what a deletion removes: numbers of rows, and the path of the folder."""
    counts = state.belongings(data.reader(), run.id)
    folder = intents.folder_of(run)
    return (
        f"{format.pluralize(counts.completions, 'completion')}, "
        f"{format.pluralize(counts.evaluations, 'evaluation')} with "
        f"{format.pluralize(counts.predictions, 'answer')}, {format.pluralize(counts.checkpoints, 'checkpoint')}"
        + (f", and {folder} with its log" if folder else "")
    )


def _forget_deletion() -> None:
    st.session_state[TO_DELETE] = []


@st.dialog("Delete permanently?", on_dismiss=_forget_deletion)
def _question(runs: Sequence[RunRow], then: str | None) -> None:
    for run in runs:
        st.text(f"{run.name} · {status.steps(run)} · {status.look(run.status).label}\n{deletion_summary(run)}")
    st.caption(
        "Also deletes curves, tags, notes and events. Images stay until you remove unused data on the System page."
    )
    with st.container(horizontal=True, horizontal_alignment="right"):
        word = "Delete" if len(runs) == 1 else f"Delete {len(runs)} runs"
        is_refused = st.button("Cancel", key="deletion_no")
        is_confirmed = st.button(word, type="primary", icon=":material/delete:", key="deletion_yes")
    if is_confirmed:
        for run in runs:
            attempt(intents.delete, run)
    if is_confirmed or is_refused:
        _forget_deletion()
        if is_confirmed and then:
            st.switch_page(then)
        st.rerun()
