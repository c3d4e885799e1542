"""Style over training: similarity of each checkpoint's answers to the reference, the base model and an SFT run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app.drift import curves, vectors
from app.drift.curves import Drift, Floats, SimilarityCurve
from app.drift.figures import Trained, accuracy_plane, colors, similarity_chart
from app.shared import data, format
from app.shared.conditions import benchmark_of
from app.shared.figures import method_style
from app.shared.live_chart import live_chart
from app.shared.paths import Path
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


class RunAnswers(NamedTuple):
    """The greedy answers of one run over its checkpoints, as indices into `Drift`."""

    run: RunRow
    rows: Ints
    step: Ints


def show(store: Store, runs: Sequence[RunRow]) -> None:
    """Show the curves, or say what they need."""
    encoder = vectors.encoder(store, runs)
    drift = vectors.drift(store, runs, encoder) if encoder else None
    if encoder is None or drift is None or not drift.embedded.any():
        st.info("No traces of these runs are embedded yet: embed them to see how their style changes.")
        return
    by_kind = {kind: _answers(store, drift, runs, kind) for kind in KINDS}
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
            disabled=not drift.wellformed.any(),
            help="Otherwise, a malformed trace is compared with a reference as the word NULL, as in the tables, and "
            "with other traces by its whole text.",
        )
    answers = by_kind[str(kind)]
    if is_strict:
        answers = [_keep(each, drift.wellformed) for each in answers]
    _charts(drift, answers, encoder, imitator, colors(runs))


def _answers(store: Store, drift: Drift, runs: Sequence[RunRow], kind: str) -> list[RunAnswers]:
    """Return the answers of runs that have this kind of evaluation."""
    answers = []
    for run in runs:
        evaluations = data.list_evaluations(run.id)
        rows = curves.rows_of(drift, curves.checkpoints(evaluations, kind, benchmark_of(run, evaluations, kind)))
        if len(rows):
            answers.append(RunAnswers(run, rows, drift.answers.step[rows]))
    return answers


def _keep(answers: RunAnswers, mask: NDArray[np.bool_]) -> RunAnswers:
    row_mask = mask[answers.rows]
    return RunAnswers(answers.run, answers.rows[row_mask], answers.step[row_mask])


def _charts(
    drift: Drift, answers: Sequence[RunAnswers], encoder: EncoderRow, imitator: RunRow | None, color: Mapping[int, str]
) -> None:
    near = [curves.to_reference(drift, each.rows) for each in answers]
    levels = _levels(drift, answers, near)
    imitation = next((each for each in answers if imitator and each.run.id == imitator.id), None)
    others = [each for each in answers if imitation and each.run.id != imitation.run.id]
    columns = st.grid(2, min_column_width=400)
    with columns, st.container(border=True):
        st.markdown("**Similarity to the reference**", help=CONSTRUCTION)
        _chart(answers, near, drift, levels, color, key="reference", to="the reference")
    with columns, st.container(border=True):
        st.markdown(
            "**Similarity to the base model’s trace**",
            help="Similarity to the run’s own answer to the same example at step 0.",
        )
        starts = [curves.to_answers(drift, each.rows, each.rows[each.step == 0]) for each in answers]
        _chart(answers, starts, drift, {}, color, key="base", to="the base model’s trace")
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
                [curves.to_answers(drift, each.rows, end) for each in others],
                drift,
                {},
                color,
                key="imitation",
                to=f"the last answers of {imitation.run.name}",
            )
    with columns, st.container(border=True):
        st.markdown("**Accuracy against similarity**", help="One path per run over its checkpoints; numbers are steps.")
        run_paths = _paths(drift, answers, near, color)
        if run_paths:
            alt = "Accuracy against similarity to the reference, one path per run"
            live_chart(accuracy_plane(run_paths, levels), key="drift.plane", alt=alt)
        else:
            st.caption("This needs judged answers to questions with reference reasoning.")
    st.markdown(CONSTRUCTION)
    st.caption(_legend(drift, answers, encoder, levels))


def _chart(
    answers: Sequence[RunAnswers],
    values: Sequence[Floats],
    drift: Drift,
    levels: Mapping[str, float],
    color: Mapping[int, str],
    *,
    key: str,
    to: str,
) -> None:
    answer_curves = [(each, curves.spread(each.step, value)) for each, value in zip(answers, values, strict=True)]
    lines = [
        Trained(each.run.name, color[each.run.id], method_style(each.run.method)[1], curve, _accuracy(drift, each))
        for each, curve in answer_curves
        if len(curve.step)
    ]
    if not lines:
        has_references = np.isfinite(drift.references[:, 0]).any()
        st.caption(
            "There are no traces to compare."
            if has_references
            else "No question of these runs has reference reasoning."
        )
        return
    ends = ", ".join(f"{each.run.name} {curve.mean[-1]:.2f}" for each, curve in answer_curves if len(curve.step))
    alt = f"Similarity to {to} over steps; final values: {ends}"
    live_chart(similarity_chart(lines, levels), key=f"drift.{key}", alt=alt)


def _accuracy(drift: Drift, answers: RunAnswers) -> SimilarityCurve:
    return curves.accuracy(answers.step, drift.answers.correct[answers.rows])


def _levels(drift: Drift, answers: Sequence[RunAnswers], near: Sequence[Floats]) -> dict[str, float]:
    """Return the base, floor and ceiling of the similarity to the reference, as far as known."""
    examples = np.unique(np.concatenate([drift.example[each.rows] for each in answers]))
    references, seconds = drift.references[examples], drift.seconds[examples]
    starts = (value[each.step == 0] for each, value in zip(answers, near, strict=True))
    base = next((float(np.nanmean(value)) for value in starts if np.isfinite(value).any()), None)
    levels = {
        "base": base,
        "floor": curves.floor(references),
        "ceiling": curves.ceiling(references, seconds),
    }
    return {name: level for name, level in levels.items() if level is not None}


def _paths(
    drift: Drift, answers: Sequence[RunAnswers], near: Sequence[Floats], color: Mapping[int, str]
) -> list[tuple[Path, str]]:
    run_paths: list[tuple[Path, str]] = []
    for each, value in zip(answers, near, strict=True):
        curve, right = curves.spread(each.step, value), _accuracy(drift, each)
        accuracy = dict(zip(right.step.tolist(), right.mean.tolist(), strict=True))
        steps = [int(step) for step in curve.step if step in accuracy]
        near_by = dict(zip(curve.step.tolist(), curve.mean.tolist(), strict=True))
        shares, likeness = [accuracy[step] for step in steps], [near_by[step] for step in steps]
        place = sum(path.method == each.run.method for path, _ in run_paths)
        path = Path(each.run.name, each.run.method, place, steps, shares, likeness)
        if steps:
            run_paths.append((path, color[each.run.id]))
    return run_paths


def _legend(drift: Drift, answers: Sequence[RunAnswers], encoder: EncoderRow, levels: Mapping[str, float]) -> str:
    """Return a caption: what was measured, on how many examples, and with which encoder."""
    rows = np.concatenate([each.rows for each in answers])
    parts = [
        f"Cosines under {format.literal(encoder.name)} (version {encoder.version}), mean over "
        f"{len(np.unique(drift.example[rows]))} examples, greedy answers; bands hold the middle "
        f"{curves.HIGH - curves.LOW} % of them; dotted: share of right answers."
    ]
    explained = {
        "base": "base: the model before training",
        "floor": "floor: references of other examples",
        "ceiling": "ceiling: a second annotator’s references",
    }
    if levels:
        parts.append("; ".join(explained[name] for name in levels).capitalize() + ".")
    absent = int((~drift.embedded[rows]).sum())
    if absent:
        parts.append(f"{format.count(absent)} answers are left out because they are not embedded yet.")
    return " ".join(parts)
