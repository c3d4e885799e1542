"""Words that appeared or faded during training, as a table. Model output is shown as plain text."""

from __future__ import annotations

import streamlit as st

from app.emergence.reasoning import Word, vocabulary
from app.emergence.story import Texts
from app.shared.trace_text import visible


def vocabulary_table(read: Texts) -> None:
    """Show each word's share of the texts over training as a row of cells, and its first and last value."""
    changed_words = vocabulary(read.readings)
    if not changed_words:
        st.caption("No word appeared in, or faded from, more than a tenth of the texts.")
        return
    up, down = [one for one in changed_words if one.change > 0], [one for one in changed_words if one.change < 0]
    last = int(read.step[-1])
    with st.grid(2, min_column_width=380):
        for title, words in (("Appeared", up), ("Faded", down[::-1])):
            with st.container(border=True):
                st.markdown(f"**{title}**")
                if words:
                    st.html(table_html(words, last))
                else:
                    st.caption("No word changed by more than a tenth of the texts.")


def table_html(words: list[Word], last: int) -> str:
    """Return one row per word, with darker cells for larger shares. `last` is the last step."""
    rows = "".join(_row(one, last) for one in words)
    style = (
        "<style>.vo{width:100%;border-collapse:collapse;font-size:.85rem}"
        ".vo :is(td,th){padding:1px 6px;border:0;text-align:left;font-weight:400}"
        ".vo thead th{font-size:.75rem;opacity:.8}"
        ".vo .vo-strip{display:flex;gap:1px;height:16px}.vo .vo-strip i{flex:1;background:#0072B2;min-width:4px}"
        ".vo .vo-n{text-align:right;white-space:nowrap;opacity:.8}</style>"
    )
    names = ("Word", "Share of texts over training", "First and last")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    return f'{style}<table class="vo"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _row(word: Word, last: int) -> str:
    cells = "".join(f'<i style="opacity:{max(0.04, share):.2f}" title="{share:.0%}"></i>' for share in word.shares)
    ends = f"{word.shares[0]:.0%} → {word.shares[-1]:.0%}"
    alt = f"{ends} from the first step to step {last}, at most {max(word.shares):.0%}"
    strip = f'<div class="vo-strip" role="img" aria-label="{alt}">{cells}</div>'
    rest = f'<td style="width:60%">{strip}</td><td class="vo-n">{ends}</td>'
    return f'<tr><th scope="row">{visible(word.word)}</th>{rest}</tr>'
