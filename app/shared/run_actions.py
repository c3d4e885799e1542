"""Buttons that act on runs, with their effects as tooltips, and the confirmation of a deletion."""

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
    """Run a button's action; its result, or why it failed, is shown as a toast."""
    try:
        st.toast(format.literal(action(*arguments)), icon=":material/check:")
    except (StoreError, ConfigError) as error:
        st.toast(format.literal(str(error)), icon=":material/error:", duration="long")


def demo_button() -> None:
    """Show the button that trains the demo, while there is no run of one's own."""
    if not all(map(recorded.is_recorded, data.list_run_heads())):
        return
    if st.button(
        "Start the demo",
        type="primary",
        icon=":material/play_arrow:",
        key="start_demo",
        help="Trains the embedded model by GRPO, then by SFT, in about ten minutes and without a download.",
    ):
        attempt(intents.start_demo)
        st.rerun()


def stop_button(runs: Sequence[RunRow], levels: Sequence[int], *, key: str) -> None:
    """Show one button that asks each run to stop; pressed again, it insists. `levels` are those requested so far."""
    stoppable = [run for run in runs if intents.can_stop(run)]
    level = min(max(levels, default=0) + 1, max(map(intents.strongest_stop, stoppable), default=1))
    label, explanation = status.STOP_LEVELS[level]
    if all(run.status == "queued" for run in stoppable):
        explanation = "Takes it out of the queue."
    icon = ":material/stop_circle:"
    # Each level is a button of its own: a click that the busy page takes twice must not insist.
    own = key if level == 1 else f"{key}_{level}"
    explanation = explanation if stoppable else "Nothing to stop."
    if st.button(label, icon=icon, key=own, disabled=not stoppable, help=explanation):
        for run in stoppable:
            attempt(intents.stop, run, level)
        st.rerun()


def resume_button(runs: Sequence[RunRow], *, key: str) -> None:
    reasons = [intents.why_not_resumed(run) for run in runs]
    resumable = [run for run, reason in zip(runs, reasons, strict=True) if reason is None]
    explanation = "Goes on from the last checkpoint, in the queue's order."
    anew = [run for run in resumable if intents.begins_anew(run)]
    if anew:
        which = "Begins" if len(anew) == len(resumable) == 1 else f"{len(anew)} of these runs begin"
        explanation = f"{which} anew, in place of the steps so far: there is no checkpoint yet to go on from."
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
    """Show a choice of the run's checkpoints, each opening the launch form to branch from it."""
    found = data.list_checkpoints(run.id)
    if not found:
        return
    help = "A new run that starts from one of these checkpoints, with other rewards or rates."
    with st.popover("Branch", icon=":material/call_split:", key=key, help=help):
        for each in found:
            accuracy = "" if each.value is None else f", accuracy {format.percent(each.value)}"
            label = f"{each.kind.capitalize()}: step {each.step}{accuracy}"
            if st.button(label, key=f"{key}_{each.kind}", type="tertiary"):
                st.switch_page(LAUNCH_PAGE, query_params={"clone": run.uid, "from": str(each.step)})


def tags_button(runs: Sequence[RunRow], *, key: str) -> None:
    """A form of the tags that all of these runs have."""
    help = "Words to find runs by: the search looks at them." if runs else "Select runs to tag them."
    with st.popover("Tags", icon=":material/sell:", key=key, disabled=not runs, help=help):
        if not runs:
            return
        shared = sorted(intents.shared_tags(runs))
        chosen = "-".join((*(run.uid for run in runs), *shared))  # another form once somebody has changed the tags
        with st.form(f"{key}_form_{chosen}", border=False):
            tags = st.multiselect(
                "Tags" if len(runs) == 1 else f"Tags of all {len(runs)} runs",
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
        "Removes runs with all that they recorded. Asks first." if deletable else "Stop a run before you delete it."
    )
    if st.button("Delete", icon=":material/delete:", key=key, disabled=not deletable, help=explanation):
        st.session_state[TO_DELETE] = [run.uid for run in deletable]
        st.rerun()


def confirm_deletion(*, then: str | None = None) -> None:
    """Opens the question if a deletion was asked for; goes to the page `then` once it is done."""
    uids = frozenset(st.session_state.get(TO_DELETE, ()))
    found = [run for run in data.list_run_heads() if run.uid in uids] if uids else []
    if found:
        _question(found, then)


def what_goes(run: RunRow) -> str:
    """Return what a deletion removes, in numbers, and the folder by its path."""
    own = state.belongings(data.reader(), run.id)
    folder = intents.folder_of(run)
    return (
        f"{format.count(own.completions)} completions, {format.count(own.evaluations)} evaluations with "
        f"{format.count(own.predictions)} answers, {format.count(own.checkpoints)} checkpoints"
        + (f", and {folder} with its log" if folder else "")
    )


def _forget_deletion() -> None:
    st.session_state[TO_DELETE] = []


@st.dialog("Delete for good?", on_dismiss=_forget_deletion)
def _question(runs: Sequence[RunRow], then: str | None) -> None:
    for run in runs:
        st.text(f"{run.name} · {status.steps(run)} · {status.look(run.status).label}\n{what_goes(run)}")
    st.caption("Curves, tags, notes and events go too. Images stay until the System page removes what no run needs.")
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
