"""Read and cache the answers of the chosen sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import streamlit as st

from app.drift import sides as drift
from app.drift.sides import Floats, Shared, Side, SideAnswers
from store import embeddings
from store.db.engine import Store
from store.db.rows import StoredExample
from store.embeddings import EncoderRow
from store.evaluations.predictions import list_greedy_texts, read_scores
from store.examples import get_examples
from trainer.spec.similarity import compared_text


class PairedAnswers(NamedTuple):
    """The sides' answers, their examples, and the gap between the first two sides on each."""

    shared: Shared
    examples: Mapping[int, StoredExample]
    gap: Floats
    encoder: str | None
    """Name of the encoder behind the similarities."""

    @property
    def questions(self) -> list[str]:
        return [self.examples[id].question for id in self.shared.example_id.tolist()]

    @property
    def references(self) -> list[str]:
        """Return the examples' references, empty texts where there are none."""
        return [self.examples[id].reference or "" for id in self.shared.example_id.tolist()]


def reading(store: Store, sides: Sequence[Side], encoder: EncoderRow | None) -> PairedAnswers:
    """Return the shared answers with similarities: as recorded if under one encoder, else from embeddings.

    `encoder` is the one of this database's embeddings, if any.
    """
    recorded = {side.evaluation.encoder for side in sides}
    if len(recorded) == 1 and None not in recorded:
        return _read(store, tuple(side.evaluation.id for side in sides), recorded.pop(), None, 0)
    embedded = embeddings.count_embeddings(store, encoder.id) if encoder else 0
    return _read(store, tuple(side.evaluation.id for side in sides), None, encoder, embedded)


# Cached as a resource, so without copying: finished evaluations never change, and pages only read the result.
@st.cache_resource(max_entries=8, show_spinner="Reading", hash_funcs={Store: attrgetter("url")})
def _read(
    store: Store, evaluations: tuple[int, ...], recorded: str | None, encoder: EncoderRow | None, embedded: int
) -> PairedAnswers:
    """Read the answers; `embedded`, the number of embedded texts, is only part of the cache key."""
    shared = drift.share([SideAnswers(read_scores(store, id), list_greedy_texts(store, id)) for id in evaluations])
    examples = get_examples(store, shared.example_id.tolist())
    if recorded is None:
        unknown = np.full(shared.correct.shape, np.nan)
        similarity = unknown if encoder is None else cosines(store, encoder, shared, examples)
        shared = shared._replace(similarity=similarity)
        recorded = encoder.name if encoder is not None and np.isfinite(similarity).any() else None
    return PairedAnswers(shared, examples, drift.answer_gaps(shared), recorded)


def cosines(store: Store, encoder: EncoderRow, shared: Shared, examples: Mapping[int, StoredExample]) -> Floats:
    """Return cosines between thinking and references, shape (sides, examples); NaN where a text is not embedded."""
    references = [examples[id].reference or "" for id in shared.example_id.tolist()]
    reference = embeddings.matrix(store, encoder, references)
    rows = []
    for texts, wellformed in zip(shared.texts, shared.wellformed, strict=True):
        spans = [(0, len(text)) if formed else None for text, formed in zip(texts, wellformed, strict=True)]
        thinking = [compared_text(text, span) for text, span in zip(texts, spans, strict=True)]
        rows.append((embeddings.matrix(store, encoder, thinking) * reference).sum(axis=1))
    return np.array(rows, dtype=float)
