"""The evaluation answers of the chosen runs with their vectors and principal axes, cached until they change."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

import numpy as np
import streamlit as st

from app.drift import projection
from app.drift.curves import Drift
from app.drift.projection import Axes
from app.shared import data
from store import embeddings
from store.db.engine import Store
from store.db.rows import RunRow
from store.embeddings import EncoderRow
from store.evaluations.texts import count_prediction_texts, read_prediction_texts
from store.examples import get_examples
from trainer.spec import wording
from trainer.spec.config import EvaluationConfig

Stamp = tuple[int, int, int]
"""Number of answers, the latest answer, and number of vectors: identifies a state of the database."""


def encoder_name(store: Store, runs: Sequence[RunRow]) -> str:
    """Return the encoder of the first evaluated run: runs are comparable only under a single encoder."""
    encoders = (data.get_run(run.id).config.get("evaluation", {}).get("encoder") for run in runs)
    return next(filter(None, encoders), EvaluationConfig().encoder)


def encoder(store: Store, runs: Sequence[RunRow]) -> EncoderRow | None:
    """Return the current version of the runs' encoder; None if nothing has been embedded with it."""
    name = encoder_name(store, runs)
    return next((row for row in embeddings.encoders(store) if row.name == name), None)


def count_missing(store: Store, runs: Sequence[RunRow], encoder: EncoderRow | None) -> int:
    """Return the number of the runs' answers without a vector."""
    if encoder is None:
        return count_prediction_texts(store, [run.id for run in runs])[0]
    return int((~drift(store, runs, encoder).embedded).sum())


def drift(store: Store, runs: Sequence[RunRow], encoder: EncoderRow) -> Drift:
    """Return all answers of the runs with their vectors."""
    ids = tuple(run.id for run in runs)
    return _drift(store, ids, encoder, _stamp(store, ids, encoder))


# Cached as a resource: copying thousands of vectors at each rerun would be slower than the rest of the page.
@st.cache_resource(max_entries=3, show_spinner="Reading traces", hash_funcs={Store: attrgetter("url")})
def _drift(store: Store, run_ids: tuple[int, ...], encoder: EncoderRow, stamp: Stamp) -> Drift:
    rows = read_prediction_texts(store, run_ids)
    bodies = [wording.style_text(text, think) for text, think in zip(rows.text, rows.think, strict=True)]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(bodies))}
    ids, example = np.unique(rows.example_id, return_inverse=True)
    examples = get_examples(store, ids.tolist())
    references = [examples[id].reference or "" for id in ids.tolist()]
    seconds = [str(examples[id].meta.get("second_reference") or "") for id in ids.tolist()]
    matrix = embeddings.matrix(store, encoder, [*numbers, wording.NULL, *references, *seconds])
    ends = np.cumsum([len(numbers), 1, len(ids)])
    vectors, null, first, second = np.split(matrix, ends)
    place = np.array([numbers[body] for body in bodies], np.int64)
    return Drift(rows, list(numbers), place, vectors, null[0], ids, example, first, second)


def axes(store: Store, runs: Sequence[RunRow], encoder: EncoderRow) -> Axes:
    """Return the principal axes of all answers of the runs."""
    ids = tuple(run.id for run in runs)
    return _axes(store, ids, encoder, _stamp(store, ids, encoder))


@st.cache_resource(max_entries=3, show_spinner=False, hash_funcs={Store: attrgetter("url")})
def _axes(store: Store, run_ids: tuple[int, ...], encoder: EncoderRow, stamp: Stamp) -> Axes:
    drift = _drift(store, run_ids, encoder, stamp)
    is_known = np.isfinite(drift.references[:, 0])
    embedded_rows = np.flatnonzero(np.isfinite(drift.vectors[:, 0]))
    times = np.bincount(drift.text_index, minlength=len(drift.texts))[embedded_rows]
    vectors = np.concatenate([drift.vectors[embedded_rows], drift.references[is_known]])
    return projection.fit(vectors, np.concatenate([times, np.ones(int(is_known.sum()), np.int64)]))


def _stamp(store: Store, run_ids: Sequence[int], encoder: EncoderRow) -> Stamp:
    return (*count_prediction_texts(store, run_ids), embeddings.count_embeddings(store, encoder.id))
