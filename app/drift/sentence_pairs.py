"""Matching sentences of two columns with their cosines, as inert HTML."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.drift.sentences import Match, Vectors, align
from app.shared import format
from app.shared.trace_text import highlighted, visible
from store import embeddings
from store.db.engine import Store
from store.embeddings import EncoderRow
from trainer.spec.wording import sentences

HELP = (
    "Sentences are matched one to one so that the sum of cosines is largest (Hungarian method). List items count as "
    "sentences. Sentences without a counterpart stand alone."
)


def show(store: Store, columns: Sequence[tuple[str, str]], against: int, encoder: EncoderRow | None) -> None:
    """Show every column (name, text) beside the one that it is compared with."""
    split = [sentences(text) for _, text in columns]
    vectors = embedded_texts(store, encoder, [one for each in split for one in each])
    measure = f"cosines of {encoder.name}" if encoder and vectors is not None else "cosines of word counts"
    others = [i for i in range(len(columns)) if i != against]
    st.markdown(f"**Sentence by sentence** · {format.literal(measure)}", help=HELP)
    with st.grid(min(2, len(others)), min_column_width=360):
        for i in others:
            with st.container():
                st.html(pairs(columns[against][0], columns[i][0], align(split[against], split[i], vectors)))


def embedded_texts(store: Store, encoder: EncoderRow | None, texts: Sequence[str]) -> Vectors | None:
    """Return vectors of all sentences; None if any is missing, since measures are never mixed."""
    if encoder is None:
        return None
    vectors_by_text = embeddings.vectors(store, encoder.id, texts)
    return vectors_by_text if set(texts) <= set(vectors_by_text) else None


def pairs(first: str, second: str, matches: Sequence[Match]) -> str:
    """Return a line per match; darker means closer."""
    lines = "".join(
        f"<span>{highlighted(match.first or '')}</span>{_cosine(match.cosine)}"
        f"<span>{highlighted(match.second or '')}</span>"
        for match in matches
    )
    return f'<div class="dr-pairs"><b>{visible(first)}</b><i></i><b>{visible(second)}</b>{lines}</div>'


def _cosine(value: float | None) -> str:
    if value is None:
        return "<i>–</i>"
    return f'<i style="background:rgba(0,158,115,{max(0.0, value) * 0.6:.2f})">{value:.2f}</i>'
