"""The map of runs' answers: principal axes of their vectors, the traces in an area, and nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from app.drift import projection, vectors
from app.drift.curves import Drift, Floats
from app.drift.figures import Cloud, colors, scatter
from app.drift.map_list import area
from app.drift.projection import Axes
from app.shared import data, format
from app.shared.figures import BLUE, GREY, ORANGE
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
    used = vectors.encoder(store, runs)
    found = vectors.drift(store, runs, used) if used else None
    if used is None or found is None or found.embedded.sum() < FEWEST:
        st.info("Too few traces of these runs are embedded: embed them to see the map.")
        return
    st.fragment(_map)(store, runs, used)


def _map(store: Store, runs: Sequence[RunRow], used: EncoderRow) -> None:
    found, axes = vectors.drift(store, runs, used), vectors.axes(store, runs, used)
    of_kind = _kinds(store, runs, found)
    kinds = [kind for kind in KINDS if len(of_kind[kind])]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.segmented_control(
            "Traces", kinds, default=kinds[0], required=True, format_func=KINDS.__getitem__, key="drift.map.kind"
        )
        shade = st.segmented_control("Colour", SHADES, default=SHADES[0], required=True, key="drift.map.shade")
    rows = of_kind[str(kind)]
    drawn = rows if len(rows) <= MOST else np.sort(np.random.default_rng(0).choice(rows, MOST, replace=False))
    clouds = _clouds(found, axes, runs, drawn, str(shade))
    figure = scatter(clouds, _references(found, axes), axes.explained, shaded=str(shade).lower())
    alt = f"Map of {len(drawn)} traces of {', '.join(run.name for run in runs)} on two principal axes"
    event: Any = st.plotly_chart(
        figure, key=f"{CHART}.{kind}", on_select="rerun", selection_mode=("box", "lasso", "points"), alt=alt
    )
    st.caption(_caption(found, used, len(drawn), len(rows)))
    # Ids, since the selection may be older than the latest answers.
    ids = [id for point in event.selection.points if (id := _prediction_id(point)) is not None]
    chosen = np.flatnonzero(np.isin(found.said.prediction_id, ids))
    if len(chosen):
        area(store, runs, found, chosen)
    else:
        st.caption("Drag a box or a lasso over points to read their texts.")


def _caption(found: Drift, used: EncoderRow, drawn: int, total: int) -> str:
    part = f" Showing {format.count(drawn)} of {format.count(total)} answers." if drawn < total else ""
    return (
        "Points are answers, rings are the references of all examples. The axes are the first two principal components "
        f"of all {format.count(found.embedded.sum())} embedded answers of these runs and their references, under "
        f"{format.literal(used.name)}, version {used.version}. Distant points differ; close points may still differ "
        f"in other directions.{part}"
    )


def _kinds(store: Store, runs: Sequence[RunRow], found: Drift) -> dict[str, Ints]:
    """Return the indices of the embedded answers by kind of evaluation."""
    kind_of = {e.id: e.kind for run in runs for e in data.list_evaluations(run.id)}
    kinds = np.array([kind_of.get(id, "") for id in found.said.evaluation_id.tolist()])
    return {kind: np.flatnonzero((kinds == kind) & found.embedded) for kind in KINDS}


def _clouds(found: Drift, axes: Axes, runs: Sequence[RunRow], rows: Ints, shade: str) -> list[Cloud]:
    """Return one cloud per run, or clouds of right, wrong and unjudged answers."""
    said, points = found.said, projection.project(axes, found.vectors[found.place[rows]])
    color = colors(runs)
    values = {"Step": said.step.astype(float), "Length": said.tokens}.get(shade)
    parts = [(run.name, color[run.id], said.run_id[rows] == run.id) for run in runs]
    if shade == "Correctness":
        correct = said.correct[rows]
        unknown = np.isnan(correct)
        parts = [("right", BLUE, correct == 1), ("wrong", ORANGE, correct == 0), ("not judged", GREY, unknown)]
    names = {run.id: run.name for run in runs}
    words = np.array([_words(found, names, row) for row in rows.tolist()])
    return [
        Cloud(
            name,
            points[part],
            said.prediction_id[rows[part]].tolist(),
            words[part].tolist(),
            None if values is not None else own,
            values[rows[part]] if values is not None else None,
        )
        for name, own, part in parts
        if part.any()
    ]


def _words(found: Drift, names: dict[int, str], row: int) -> str:
    said = found.said
    parts = [names[int(said.run_id[row])], f"step {said.step[row]}"]
    if not np.isnan(said.correct[row]):
        parts.append("right" if said.correct[row] else "wrong")
    if not np.isnan(said.tokens[row]):
        parts.append(f"{said.tokens[row]:.0f} tokens")
    return ", ".join(parts)


def _references(found: Drift, axes: Axes) -> Floats:
    """Return the coordinates of all examples' references."""
    return projection.project(axes, found.references[np.isfinite(found.references[:, 0])])


def _prediction_id(point: dict[str, Any]) -> int | None:
    """Return the prediction of a selected point, None for a reference."""
    held = point.get("customdata")
    first = held[0] if isinstance(held, list) and held else held
    return None if first is None or isinstance(first, list) else int(first)
