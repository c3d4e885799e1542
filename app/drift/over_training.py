"""Style over training: similarity of each checkpoint's answers to the reference, the base model and an SFT run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.drift import curves, vectors
from app.drift.curves import Drift, Floats, SimilarityCurve
from app.drift.figures import Trained, colors, plane, similarity_chart
from app.shared import data, format
from app.shared.conditions import benchmark_of
from app.shared.figures import Path, method_style
from app.shared.live_chart import live_chart
from store.db.engine import Store
from store.db.rows import RunRow
from store.embeddings import EncoderRow
from store.evaluations.texts import Ints

KINDS = {"probe": "Probe", "val": "Validation"}
CONSTRUCTION = (
    "SFT imitates the references, so it is close to them by construction: a high similarity shows that imitation "
    "worked, not that its reasoning is better."
)
WITHOUT_CURVE = "Runs without evaluations during training have no curve."


class Answers(NamedTuple):
    """The greedy answers of one run over its checkpoints, as indices into `Drift`."""

    run: RunRow
    rows: Ints
    step: Ints


def show(store: Store, runs: Sequence[RunRow]) -> None:
    """Show the curves, or say what they need."""
    used = vectors.encoder(store, runs)
    found = vectors.drift(store, runs, used) if used else None
    if used is None or found is None or not found.embedded.any():
        st.info("No traces of these runs are embedded yet: embed them to see how their style changes.")
        return
    by_kind = {kind: _answers(store, found, runs, kind) for kind in KINDS}
    kinds = [kind for kind in KINDS if by_kind[kind]]
    if not kinds:
        st.info(WITHOUT_CURVE)
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.segmented_control(
            "Answers", kinds, default=kinds[0], required=True, format_func=KINDS.__getitem__, key="drift.kind"
        )
        imitators = [each.run for each in by_kind[str(kind)] if each.run.method == "sft"]
        imitator = None
        if imitators:
            imitator = st.selectbox(
                "SFT run", imitators, format_func=lambda run: run.name, key="drift.imitator", width=260
            )
        is_strict = st.toggle(
            "Well-formed traces only",
            key="drift.strict",
            disabled=not found.wellformed.any(),
            help="Otherwise, a malformed trace is compared with a reference as the word NULL, as in the tables, and "
            "with other traces by its whole text.",
        )
    answers = by_kind[str(kind)]
    if is_strict:
        answers = [_keep(each, found.wellformed) for each in answers]
    _charts(found, answers, used, imitator, colors(runs))


def _answers(store: Store, found: Drift, runs: Sequence[RunRow], kind: str) -> list[Answers]:
    """Return the answers of runs that have this kind of evaluation."""
    made = []
    for run in runs:
        evaluations = data.list_evaluations(run.id)
        rows = curves.rows_of(found, curves.checkpoints(evaluations, kind, benchmark_of(run, evaluations, kind)))
        if len(rows):
            made.append(Answers(run, rows, found.said.step[rows]))
    return made


def _keep(answers: Answers, kept: NDArray[np.bool_]) -> Answers:
    is_kept = kept[answers.rows]
    return Answers(answers.run, answers.rows[is_kept], answers.step[is_kept])


def _charts(
    found: Drift, answers: Sequence[Answers], used: EncoderRow, imitator: RunRow | None, color: Mapping[int, str]
) -> None:
    near = [curves.to_reference(found, each.rows) for each in answers]
    levels = _levels(found, answers, near)
    imitation = next((each for each in answers if imitator and each.run.id == imitator.id), None)
    others = [each for each in answers if imitation and each.run.id != imitation.run.id]
    columns = st.grid(2, min_column_width=400)
    with columns, st.container(border=True):
        st.markdown("**Similarity to the reference**", help=CONSTRUCTION)
        _chart(answers, near, found, levels, color, key="reference", to="the reference")
    with columns, st.container(border=True):
        st.markdown(
            "**Similarity to the base model’s trace**",
            help="Similarity to the run’s own answer to the same example at step 0.",
        )
        starts = [curves.to_answers(found, each.rows, each.rows[each.step == 0]) for each in answers]
        _chart(answers, starts, found, {}, color, key="base", to="the base model’s trace")
    with columns, st.container(border=True):
        st.markdown(
            "**Similarity to the SFT trace**",
            help="Similarity to the chosen SFT run’s last answer to the same example.",
        )
        if imitation is None or not others:
            st.caption("Choose an SFT run and another run with evaluations on the same examples.")
        else:
            end = imitation.rows[imitation.step == imitation.step.max(initial=0)]
            _chart(
                others,
                [curves.to_answers(found, each.rows, end) for each in others],
                found,
                {},
                color,
                key="imitation",
                to=f"the last answers of {imitation.run.name}",
            )
    with columns, st.container(border=True):
        st.markdown("**Accuracy against similarity**", help="One path per run over its checkpoints; numbers are steps.")
        drawn = _paths(found, answers, near, color)
        if drawn:
            alt = "Accuracy against similarity to the reference, one path per run"
            live_chart(plane(drawn, levels), key="drift.plane", alt=alt)
        else:
            st.caption("This needs judged answers to questions with reference reasoning.")
    st.markdown(CONSTRUCTION)
    st.caption(_legend(found, answers, used, levels))


def _chart(
    answers: Sequence[Answers],
    values: Sequence[Floats],
    found: Drift,
    levels: Mapping[str, float],
    color: Mapping[int, str],
    *,
    key: str,
    to: str,
) -> None:
    drawn = [(each, curves.spread(each.step, value)) for each, value in zip(answers, values, strict=True)]
    lines = [
        Trained(each.run.name, color[each.run.id], method_style(each.run.method)[1], curve, _accuracy(found, each))
        for each, curve in drawn
        if len(curve.step)
    ]
    if not lines:
        known = np.isfinite(found.references[:, 0]).any()
        st.caption("There are no traces to compare." if known else "No question of these runs has reference reasoning.")
        return
    ends = ", ".join(f"{each.run.name} {curve.mean[-1]:.2f}" for each, curve in drawn if len(curve.step))
    alt = f"Similarity to {to} over steps; final values: {ends}"
    live_chart(similarity_chart(lines, levels), key=f"drift.{key}", alt=alt)


def _accuracy(found: Drift, each: Answers) -> SimilarityCurve:
    return curves.accuracy(each.step, found.said.correct[each.rows])


def _levels(found: Drift, answers: Sequence[Answers], near: Sequence[Floats]) -> dict[str, float]:
    """Return the base, floor and ceiling of the similarity to the reference, as far as known."""
    shown = np.unique(np.concatenate([found.example[each.rows] for each in answers]))
    references, seconds = found.references[shown], found.seconds[shown]
    starts = (value[each.step == 0] for each, value in zip(answers, near, strict=True))
    base = next((float(np.nanmean(value)) for value in starts if np.isfinite(value).any()), None)
    levels = {
        "base": base,
        "floor": curves.floor(references),
        "ceiling": curves.ceiling(references, seconds),
    }
    return {name: level for name, level in levels.items() if level is not None}


def _paths(
    found: Drift, answers: Sequence[Answers], near: Sequence[Floats], color: Mapping[int, str]
) -> list[tuple[Path, str]]:
    made = []
    for each, value in zip(answers, near, strict=True):
        curve, right = curves.spread(each.step, value), _accuracy(found, each)
        accuracy = dict(zip(right.step.tolist(), right.mean.tolist(), strict=True))
        steps = [int(step) for step in curve.step if step in accuracy]
        near_by = dict(zip(curve.step.tolist(), curve.mean.tolist(), strict=True))
        shares, likeness = [accuracy[step] for step in steps], [near_by[step] for step in steps]
        path = Path(each.run.name, each.run.method, 0, steps, shares, likeness)
        if steps:
            made.append((path, color[each.run.id]))
    return made


def _legend(found: Drift, answers: Sequence[Answers], used: EncoderRow, levels: Mapping[str, float]) -> str:
    """Return a caption: what was measured, on how many examples, and with which encoder."""
    rows = np.concatenate([each.rows for each in answers])
    parts = [
        f"Cosines under {format.literal(used.name)} (version {used.version}), mean over "
        f"{len(np.unique(found.example[rows]))} examples, greedy answers; bands hold the middle "
        f"{curves.HIGH - curves.LOW} % of them; dotted: share of right answers."
    ]
    explained = {
        "base": "base: the model before training",
        "floor": "floor: references of other examples",
        "ceiling": "ceiling: a second annotator’s references",
    }
    if levels:
        parts.append("; ".join(explained[name] for name in levels).capitalize() + ".")
    absent = int((~found.embedded[rows]).sum())
    if absent:
        parts.append(f"{format.count(absent)} answers are left out because they are not embedded yet.")
    return " ".join(parts)
