"""The map of runs' answers: principal axes of their vectors, the traces in an area, and nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from app.drift import projection, vectors
from app.drift.curves import Drift, Floats
from app.drift.figures import Cloud, colors, scatter
from app.drift.map_list import selected_texts
from app.drift.projection import Axes
from app.shared import data, format
from app.shared.figures import BLUE, GREY, ORANGE
from app.theme import readable
from store.db.engine import Store
from store.db.rows import RunRow
from store.embeddings import EncoderRow
from store.evaluations.texts import Ints

KINDS = {"probe": "Probe", "val": "Validation", "test": "Test"}
SHADES = ("Run", "Step", "Correctness", "Length")
MOST = 3000
"""Maximum number of points in the figure."""
FEWEST = 3
"""Minimum number of answers for a map."""
CHART = "drift.map"


def show(store: Store, runs: Sequence[RunRow]) -> None:
    """Show the map, or say what it needs."""
    encoder = vectors.encoder(store, runs)
    drift = vectors.drift(store, runs, encoder) if encoder else None
    if encoder is None or drift is None or drift.embedded.sum() < FEWEST:
        st.info("Too few traces of these runs are embedded: embed them to see the map.")
        return
    st.fragment(_map)(store, runs, encoder)


def _map(store: Store, runs: Sequence[RunRow], encoder: EncoderRow) -> None:
    drift, axes = vectors.drift(store, runs, encoder), vectors.axes(store, runs, encoder)
    of_kind = _kinds(store, runs, drift)
    kinds = [kind for kind in KINDS if len(of_kind[kind])]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.segmented_control(
            "Traces", kinds, default=kinds[0], required=True, format_func=KINDS.__getitem__, key="drift.map.kind"
        )
        shade = st.segmented_control("Colour", SHADES, default=SHADES[0], required=True, key="drift.map.shade")
    rows = of_kind[str(kind)]
    sample = rows if len(rows) <= MOST else np.sort(np.random.default_rng(0).choice(rows, MOST, replace=False))
    clouds = _clouds(drift, axes, runs, sample, str(shade))
    is_dark = st.context.theme.type == "dark"
    figure = scatter(clouds, _references(drift, axes), axes.explained, shaded=str(shade).lower(), dark=is_dark)
    alt = f"Map of {len(sample)} traces of {', '.join(run.name for run in runs)} on two principal axes"
    event: Any = st.plotly_chart(
        figure, key=f"{CHART}.{kind}", on_select="rerun", selection_mode=("box", "lasso", "points"), alt=alt
    )
    st.caption(_caption(drift, encoder, len(sample), len(rows)))
    # Ids, since the selection may be older than the latest answers.
    ids = [id for point in event.selection.points if (id := _prediction_id(point)) is not None]
    chosen = np.flatnonzero(np.isin(drift.answers.prediction_id, ids))
    words = st.text_input("Find texts", key="drift.map.words", placeholder="a word or part of a text", width=320)
    if not len(chosen) and words:
        chosen = sample[[words.casefold() in drift.texts[place].casefold() for place in drift.text_index[sample]]]
    if len(chosen):
        selected_texts(store, runs, drift, chosen)
    elif words:
        st.caption("No text on the map contains these words.")
    else:
        st.caption("Drag a box or a lasso over points, or find texts by their words, to read them.")


def _caption(drift: Drift, encoder: EncoderRow, sample_size: int, total: int) -> str:
    part = f" Showing {format.count(sample_size)} of {format.count(total)} answers." if sample_size < total else ""
    return (
        "Points are answers, rings are the references of all examples. The axes are the first two principal components "
        f"of all {format.count(drift.embedded.sum())} embedded answers of these runs and their references, under "
        f"{format.literal(encoder.name)}, version {encoder.version}. Distant points differ; close points may still "
        f"differ in other directions.{part}"
    )


def _kinds(store: Store, runs: Sequence[RunRow], drift: Drift) -> dict[str, Ints]:
    """Return the indices of the embedded answers by kind of evaluation."""
    kind_of = {e.id: e.kind for run in runs for e in data.list_evaluations(run.id)}
    kinds = np.array([kind_of.get(id, "") for id in drift.answers.evaluation_id.tolist()])
    return {kind: np.flatnonzero((kinds == kind) & drift.embedded) for kind in KINDS}


def _clouds(drift: Drift, axes: Axes, runs: Sequence[RunRow], rows: Ints, shade: str) -> list[Cloud]:
    """Return one cloud per run, or clouds of right, wrong and unjudged answers."""
    answers, points = drift.answers, projection.project(axes, drift.vectors[drift.text_index[rows]])
    color = colors(runs)
    values = {"Step": answers.step.astype(float), "Length": answers.tokens}.get(shade)
    parts = [(run.name, readable(color[run.id]), answers.run_id[rows] == run.id) for run in runs]
    if shade == "Correctness":
        correct = answers.correct[rows]
        unknown = np.isnan(correct)
        parts = [
            ("right", readable(BLUE), correct == 1),
            ("wrong", readable(ORANGE), correct == 0),
            ("not judged", GREY, unknown),
        ]
    names = {run.id: run.name for run in runs}
    labels = np.array([_words(drift, names, row) for row in rows.tolist()])
    return [
        Cloud(
            name,
            points[part],
            answers.prediction_id[rows[part]].tolist(),
            labels[part].tolist(),
            None if values is not None else run_color,
            values[rows[part]] if values is not None else None,
        )
        for name, run_color, part in parts
        if part.any()
    ]


def _words(drift: Drift, names: dict[int, str], row: int) -> str:
    answers = drift.answers
    parts = [names[int(answers.run_id[row])], f"step {answers.step[row]}"]
    if not np.isnan(answers.correct[row]):
        parts.append("right" if answers.correct[row] else "wrong")
    if not np.isnan(answers.tokens[row]):
        parts.append(format.pluralize(float(answers.tokens[row]), "token"))
    return ", ".join(parts)


def _references(drift: Drift, axes: Axes) -> Floats:
    """Return the coordinates of all examples' references."""
    return projection.project(axes, drift.references[np.isfinite(drift.references[:, 0])])


def _prediction_id(point: dict[str, Any]) -> int | None:
    """Return the prediction of a selected point, None for a reference."""
    held = point.get("customdata")
    first = held[0] if isinstance(held, list) and held else held
    return None if first is None or isinstance(first, list) else int(first)
