"""The head of the Drift page: whether the first two sides drifted apart, with the numbers."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.drift import sides as drift
from app.drift.layout import gain, single_line, table
from app.drift.reads import PairedAnswers
from app.drift.sides import Side, Verdict, form_of_side
from app.shared import format
from app.shared.conditions import differences
from app.shared.trace_text import visible

HELP = (
    "They drifted apart if the whole interval of their difference in similarity lies beyond "
    f"±{drift.CLEAR}, and did not if it lies within. Similarity is the mean cosine between the thinking and the "
    "reference reasoning. 95 % intervals are Wilson's for shares, otherwise bootstraps over images, paired for "
    "differences."
)
MALFORMED = 0.95
"""Share of well-formed answers below which similarity mostly reflects the format."""


def show(sides: Sequence[Side], names: Sequence[str], verdict: Verdict, reading: PairedAnswers) -> None:
    """Show the verdict, the table, and the notes needed to interpret them."""
    verdict_text = drift.sentence(verdict, *names[:2], has_references=any(reading.references)).replace("-", "−")
    st.markdown(f"**{format.literal(verdict_text)}**", help=HELP)
    measure = f"Similarity ({reading.encoder})" if reading.encoder else "Similarity"
    head = ("Side", "Exact match", measure, "Well-formed", "Steps", "Tokens")
    rows = [
        (
            visible(name),
            single_line(format.interval(*standing.accuracy) if standing.accuracy else format.UNKNOWN),
            single_line(format.interval(*standing.similarity) if standing.similarity else format.UNKNOWN),
            format.percent(standing.wellformed) if form != "none" else format.UNKNOWN,
            f"{standing.reasoning_steps:.1f}" if form == "cot" else format.UNKNOWN,
            format.count(standing.tokens),
        )
        for name, standing, form in zip(names, verdict.standings, map(form_of_side, sides), strict=True)
    ]
    difference = f"<b>{visible(names[1])} minus {visible(names[0])}</b>"
    last = (difference, single_line(gain(verdict.accuracy)), single_line(gain(verdict.similarity)), "", "", "")
    st.html(table(head, [*rows, last]))
    for note in notes(sides, names, verdict, reading):
        st.caption(format.literal(note))


def notes(sides: Sequence[Side], names: Sequence[str], verdict: Verdict, reading: PairedAnswers) -> list[str]:
    """Return the limits of the comparison, one sentence each."""
    first, second = (side.evaluation.conditions for side in sides[:2])
    different = differences(first, second)
    loose = [
        name
        for name, each in zip(names[:2], verdict.standings, strict=False)
        if each.wellformed < MALFORMED and each.similarity is not None
    ]
    sentences = [
        f"{format.pluralize(verdict.n, 'shared question')}." if not different else "",
        f"Their conditions differ: {', '.join(different)}." if different else "",
        drift.unshared_note(reading.shared, names) or "",
        "SFT imitates the reference, so it is close to it by construction."
        if any(side.run.method == "sft" for side in sides)
        else "",
        f"Many answers of {' and '.join(loose)} are malformed and count as the word NULL: their similarity reflects "
        "format, not style."
        if loose
        else "",
    ]
    return [" ".join(note for note in sentences if note)]
