"""Actions on all runs of an experiment: pause, resume, stop and extend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import streamlit as st

from app.shared import data, format, intents, run_actions, status
from store.db.rows import ExperimentRow, JobRow, RunRow
from trainer.launch.experiments import interrupted_jobs
from trainer.spec.config import ConfigError, alternatives
from trainer.spec.experiments import MOST_RUNS, from_stored

Number = TypeVar("Number", int, float)
ICONS = {
    "Pause": ":material/pause_circle:",
    "Resume": ":material/play_circle:",
    "Stop": ":material/stop_circle:",
}


def show(experiment: ExperimentRow) -> None:
    """Show the progress of the experiment, and its buttons."""
    runs = [run for run in data.list_sound_runs() if run.id in experiment.arms]
    jobs = [job for job in data.list_jobs() if job.run_id in experiment.arms]
    at_work = [job for job in jobs if job.state in status.OPEN]
    with st.container(border=True, key="experiment_controls"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{format.literal(experiment.name)}**", width="content")
            st.caption(_progress_sentence(runs, jobs))
            _buttons(experiment, at_work, len(interrupted_jobs(jobs)))
            _extend(experiment)
        done = sum(1.0 if run.status == "finished" else status.progress(run) or 0.0 for run in runs)
        if at_work or done < len(runs):
            st.progress(done / len(runs) if runs else 0.0)


def _progress_sentence(runs: Sequence[RunRow], jobs: Sequence[JobRow]) -> str:
    """Return `12 of 40 runs finished, 2 running, 26 queued; 14 evaluations queued.`"""
    counts = Counter(status.look(run.status).label for run in runs)
    finished = counts.pop("finished", 0)
    states = [f"{n} {state}" for state, n in counts.most_common()]
    parts = [f"{finished} of {format.pluralize(len(runs), 'run')} finished", *states]
    waiting = sum(job.kind == "evaluate" and job.state == "queued" for job in jobs)
    return ", ".join(parts) + (f"; {format.pluralize(waiting, 'evaluation')} queued." if waiting else ".")


def _buttons(experiment: ExperimentRow, at_work: Sequence[JobRow], stopped: int) -> None:
    pause = "Removes its queued jobs; active ones finish their step and save a checkpoint."
    jobs = "the stopped job" if stopped == 1 else f"the {stopped} stopped jobs"
    resume = f"Queues {jobs} again; training continues from the last checkpoint."
    stop = "Ends all of its jobs now; progress since the last checkpoint is lost. Pause saves first."
    if not at_work:
        pause = stop = "It has no active or queued jobs."
    if not stopped:
        resume = "It has no stopped jobs."
    _button("Pause", pause, bool(at_work), intents.stop_experiment, experiment.uid, 1)
    _button("Resume", resume, stopped > 0, intents.resume_experiment, experiment.uid)
    _button("Stop", stop, bool(at_work), intents.stop_experiment, experiment.uid, 2)


def _button(label: str, explained: str, enabled: bool, action: Callable[..., str], *arguments: object) -> None:
    """Show a button that acts on all runs of the experiment."""
    key = f"{label.lower()}_all"
    if st.button(label, key=key, icon=ICONS[label], disabled=not enabled, help=explained):
        run_actions.attempt(action, *arguments)
        st.rerun()


def _extend(experiment: ExperimentRow) -> None:
    """Show a form for more seeds and values; only new runs are launched."""
    try:
        matrix = from_stored(experiment.matrix)
    except ConfigError:
        return
    with st.popover("Extend", icon=":material/add_circle:", key="extend_all"), st.form("extend_form", border=False):
        seeds = st.number_input("Total seeds per setting", len(matrix.seeds), MOST_RUNS, key="extend.seeds")
        ranks = st.text_input("More LoRA ranks", key="extend.ranks", placeholder=_current_values(matrix.ranks))
        rates = st.text_input("More learning rates", key="extend.rates", placeholder=_current_values(matrix.rates))
        more = {
            field: st.text_input(f"More values of {field}", key=f"extend.{field}", placeholder=_current_values(values))
            for field, values in matrix.varied
        }
        if not st.form_submit_button("Launch new runs", icon=":material/rocket_launch:"):
            return
    try:
        lines = [f"ranks={ranks}", f"rates={rates}", *(f"{field}={text}" for field, text in more.items())]
        values_by_field = dict(alternatives(text) for text in lines if text.partition("=")[2].strip())
        wider = replace(
            matrix,
            arms=(),
            seeds=tuple(range(int(seeds))),
            ranks=_numbers(values_by_field.pop("ranks", ()), int),
            rates=_numbers(values_by_field.pop("rates", ()), float),
            varied=tuple(values_by_field.items()),
        )
    except ConfigError as error:
        st.error(format.literal(str(error)))
        return
    run_actions.attempt(intents.extend_experiment, experiment.uid, wider)
    st.rerun()


def _current_values(values: Sequence[object]) -> str:
    return "currently " + ", ".join("the preset's" if value is None else str(value) for value in values)


def _numbers(values: Sequence[object], kind: Callable[[str], Number]) -> tuple[Number, ...]:
    try:
        return tuple(kind(str(value)) for value in values)
    except ValueError:
        raise ConfigError(f"{', '.join(map(str, values))}: enter numbers separated by commas.") from None
