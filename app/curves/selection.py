"""Choose the runs to draw by name, experiment, tag or words; the URL keeps the choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import streamlit as st

from app.curves import address, saved_views
from app.shared import data, format, links, run_picker, status
from store.db.rows import ExperimentRow, RunRow

MAX_RUNS = 100
"""Maximum number of runs drawn: the newest of the chosen ones."""
NEWEST = 10
"""Number of runs drawn by default."""
CHOICE_PARAMETERS = ("hidden", "only", "front", "zoom", "at", "of")
"""URL parameters that are meaningless for other runs."""


class ChosenRuns(NamedTuple):
    """Runs, newest first; `arms` are those of the chosen experiment, if any, by run id."""

    runs: list[RunRow]
    arms: Mapping[int, str]
    experiment: ExperimentRow | None = None


def choose(runs: Sequence[RunRow], page: str) -> ChosenRuns:
    """Show the choice and the page's saved views; return the chosen runs that have completed a step."""
    experiments = {row.uid: row for row in data.list_experiments()}
    by_uid = {run.uid: run for run in runs}
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover("Choose runs", icon=":material/filter_list:", key="choose_runs"):
            chosen_uids = _run_choice(by_uid)
            experiment = _experiment(experiments)
            tags = _tags(runs)
            search = _search_text()
        summary_place = st.container(width="content")
        saved_views.show(page)
    matching_runs = filter_runs(runs, experiment, tags, search) if experiment or tags or search else []
    chosen = {run.uid: run for run in (*(by_uid[uid] for uid in chosen_uids), *matching_runs)}
    origin = "chosen"
    if not (chosen_uids or experiment or tags or search):
        newest = _default(runs, list(experiments.values()))
        chosen, origin = {run.uid: run for run in newest[0]}, newest[1]
        experiment = newest[2]
    trained = sorted((run for run in chosen.values() if run.step > 0), key=lambda run: -run.id)
    summary_place.caption(_summary(len(chosen), len(trained), origin))
    return ChosenRuns(trained[:MAX_RUNS], experiment.arms if experiment else {}, experiment)


def filter_runs(
    runs: Sequence[RunRow], experiment: ExperimentRow | None, tags: Sequence[str], search: str
) -> list[RunRow]:
    """Return the runs of an experiment that have all tags, and all words in their name, model, dataset or tags."""
    return [
        run
        for run in runs
        if (experiment is None or run.id in experiment.arms)
        and set(tags) <= set(run.tags)
        and all(word in _text(run) for word in search.lower().split())
    ]


def _text(run: RunRow) -> str:
    method = status.METHODS.get(run.method, run.method)
    return " ".join((run.name, run.uid, run.model, run.dataset, method, *run.tags)).lower()


def _default(
    runs: Sequence[RunRow], experiments: Sequence[ExperimentRow]
) -> tuple[list[RunRow], str, ExperimentRow | None]:
    """Return the runs of the newest experiment, or the newest runs, whichever was active last."""
    trained = [run for run in runs if run.step > 0]
    newest = [row for row in experiments if not trained or trained[0].id in row.arms]
    if newest:
        experiment = newest[0]
        members = [run for run in trained or runs if run.id in experiment.arms]
        return members, f"of the newest experiment “{format.literal(experiment.name)}”", experiment
    return trained[:NEWEST], "the newest" if len(trained) > NEWEST else "all that have completed a step", None


def _summary(chosen_count: int, drawn_count: int, origin: str) -> str:
    parts = [f"{format.pluralize(min(drawn_count, MAX_RUNS), 'run')}, {origin}"]
    if drawn_count > MAX_RUNS:
        parts.append(f"showing the newest {MAX_RUNS} of {drawn_count}")
    if waiting := chosen_count - drawn_count:
        parts.append(f"{waiting} without a completed step left out")
    return "; ".join(parts) + "."


def _go(name: str, value: str) -> None:
    st.session_state.pop(run_picker.SEVERAL, None)
    links.go(name, *CHOICE_PARAMETERS, **({name: value} if value else {}))


def _run_choice(by_uid: Mapping[str, RunRow]) -> list[str]:
    key = "curves.runs"
    st.session_state[key] = [uid for uid in address.read_list("runs") or [] if uid in by_uid]
    return st.multiselect(
        "Runs",
        list(by_uid),
        key=key,
        format_func=lambda uid: f"{by_uid[uid].name} · {uid}",
        placeholder="by name",
        on_change=lambda: _go("runs", ",".join(st.session_state[key])),
    )


def _experiment(experiments: Mapping[str, ExperimentRow]) -> ExperimentRow | None:
    key = "curves.experiment"
    requested_uid = st.query_params.get("experiment")
    st.session_state[key] = requested_uid if requested_uid in experiments else None
    uid = st.selectbox(
        "Experiment",
        list(experiments),
        index=None,
        key=key,
        format_func=lambda uid: (
            f"{experiments[uid].name} · {format.pluralize(len(experiments[uid].arms), 'run')} · {uid}"
        ),
        placeholder="any",
        disabled=not experiments,
        on_change=lambda: _go("experiment", st.session_state[key] or ""),
    )
    return experiments.get(uid or "")


def _label(row: ExperimentRow) -> str:
    return f"{row.name} · {format.pluralize(len(row.arms), 'run')} · {row.uid}"


def _tags(runs: Sequence[RunRow]) -> list[str]:
    key = "curves.tags"
    all_tags = sorted({tag for run in runs for tag in run.tags})
    st.session_state[key] = [tag for tag in address.read_list("tags") or [] if tag in all_tags]
    return st.multiselect(
        "Tags",
        all_tags,
        key=key,
        placeholder="any",
        disabled=not all_tags,
        on_change=lambda: _go("tags", address.join(st.session_state[key]) if st.session_state[key] else ""),
    )


def _search_text() -> str:
    key = "curves.words"
    st.session_state[key] = st.query_params.get("find", "")
    return st.text_input(
        "Words",
        key=key,
        placeholder="name, model, dataset, tag",
        on_change=lambda: _go("find", st.session_state[key].strip()),
    )
