"""What changed: distinctive phrases of the first two sides, and the structure of all sides and the reference."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

import streamlit as st

from app.drift import structure, words
from app.drift.layout import address, format_signed, single_line, table
from app.drift.reads import PairedAnswers
from app.drift.structure import REPEATED, RULES, Form
from app.drift.words import Phrase
from app.shared import data, format
from app.shared.trace_text import excerpt, visible
from store.db.engine import Store
from trainer.spec import statistics

SHOWN = 15
"""Maximum number of phrases shown per side."""
DISTINCTIVE = 2.0
"""Minimum z-score of a phrase that is shown."""
LENGTHS = {1: "One word", 2: "Two words", 3: "Three words"}
Ends = Sequence[tuple[str, float]]
LOG_ODDS = (
    "Log-odds ratio of each phrase between the two sides, with an informative Dirichlet prior (Monroe, Colaresi and "
    f"Quinn 2008): the pooled frequencies of both sides, weighted like {words.PRIOR:.0f} phrases. z is the log-odds "
    "ratio divided by its standard error. Words of a text are not independent, so z only ranks phrases; it is no test."
)


class StyleChanges(NamedTuple):
    """Phrases by number of words, the second side's first; everything else by side, the reference last."""

    phrases: dict[int, tuple[list[Phrase], list[Phrase]]]
    forms: tuple[Form, ...]
    openings: tuple[Ends, ...]
    closings: tuple[Ends, ...]
    has_reference: bool


@st.cache_resource(max_entries=8, show_spinner="Counting words", hash_funcs={Store: attrgetter("url")})
def find_changes(store: Store, evaluations: tuple[int, ...], _reading: PairedAnswers) -> StyleChanges:
    """Return the changes; `evaluations` identify the texts, which never change, and are the cache key."""
    answer_texts = list(_reading.shared.texts)
    has_reference = all(_reading.references)
    texts = [*answer_texts, tuple(_reading.references)] if has_reference else answer_texts
    phrases = {}
    for n in LENGTHS:
        ranked = words.distinctive(answer_texts[1], answer_texts[0], n)
        first_phrases = [one for one in ranked if one.z >= DISTINCTIVE][:SHOWN]
        phrases[n] = (first_phrases, [one for one in reversed(ranked) if one.z <= -DISTINCTIVE][:SHOWN])
    return StyleChanges(
        phrases,
        tuple(structure.form(each, _reading.questions) for each in texts),
        tuple(words.ends(each) for each in texts),
        tuple(words.ends(each, last=True) for each in texts),
        has_reference,
    )


def show(evaluations: tuple[int, ...], names: Sequence[str], reading: PairedAnswers) -> None:
    change = find_changes(data.reader(), evaluations, reading)
    columns = [*names, "Reference"] if change.has_reference else list(names)
    st.header("Distinctive phrases", anchor=False, help=LOG_ODDS)
    length = st.segmented_control(
        "Phrase length", list(LENGTHS), default=1, key="drift.words", required=True, format_func=LENGTHS.__getitem__
    )
    with st.grid(2, min_column_width=360):
        for name, phrases in zip((names[1], names[0]), change.phrases[int(length)], strict=True):
            with st.container(border=True):
                st.markdown(f"**More common in {format.literal(name)}**")
                if phrases:
                    st.html(
                        table(
                            ("Phrase", "z", *(f"of {each}" for each in names[1::-1])), [_line(one) for one in phrases]
                        )
                    )
                else:
                    st.caption("No distinctive phrases.")
    st.caption("Shares of texts that contain the phrase, without tags. Click a phrase to see its questions.")
    n = len(reading.shared.example_id)
    st.header(
        "Structure", anchor=False, help="Each row counts a text pattern exactly as stated; it does not judge meaning."
    )
    st.html(table(("Pattern", *columns), _structure(change.forms, n)))
    st.header("Repetition", anchor=False)
    st.html(table(("Measure", *columns), _repetition(change.forms)))
    st.header("Openings, closings and most frequent phrases", anchor=False)
    st.html(table(("Part", *columns), _ends(change)))


def _line(one: Phrase) -> tuple[str, ...]:
    link = address(phrase=one.text, view="Side by side", order="drift", example="")
    text = f'<a target="_self" href="{link}" title="Questions with this phrase">{visible(one.text)}</a>'
    return (
        text,
        single_line(format_signed(abs(one.z), 1)),
        format.percent(one.first),
        format.percent(one.second),
    )


def _structure(forms: Sequence[Form], n: int) -> list[tuple[str, ...]]:
    rows = []
    for i, rule in enumerate(RULES):
        shares = [(each.structure[i], statistics.wilson(round(each.structure[i] * n), n)) for each in forms]
        cells = [
            f'<span class="dr-n">{format.percent(share)} <small>({100 * low:.0f}–{100 * high:.0f})</small></span>'
            for share, (low, high) in shares
        ]
        rows.append((f"{visible(rule.name)}<br><small>{visible(rule.definition)}</small>", *cells))
    return rows


def _repetition(forms: Sequence[Form]) -> list[tuple[str, ...]]:
    figures = (
        ("Words", "mean per text", [f"{each.words:.1f}" for each in forms]),
        ("Distinct texts", "distinct texts / all texts", [format.percent(each.distinct) for each in forms]),
        (
            f"Repeated {REPEATED}-word phrases",
            "mean share of a text's phrases that occurred earlier in it",
            [f"{100 * each.repeated:.1f} %" for each in forms],
        ),
        (
            "Compression ratio",
            "size of all texts, one per line, divided by their zlib size (level 9); repetition raises it",
            [f"{each.compression:.1f}" for each in forms],
        ),
    )
    return [(f"{visible(name)}<br><small>{visible(definition)}</small>", *cells) for name, definition, cells in figures]


def _ends(change: StyleChanges) -> list[tuple[str, ...]]:
    rows = (
        ("Openings", "the first three words", change.openings),
        ("Closings", "the last three words", change.closings),
        (f"{REPEATED}-word phrases", "share of texts that contain them", [each.frequent for each in change.forms]),
    )
    return [
        (f"{visible(name)}<br><small>{visible(definition)}</small>", *(_shares(each) for each in sides))
        for name, definition, sides in rows
    ]


def _shares(shares: Ends) -> str:
    return "<br>".join(
        f"{excerpt(text, 60) or '⟨nothing⟩'} <small>{format.percent(share)}</small>" for text, share in shares
    )
