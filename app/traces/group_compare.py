"""The completions of one group side by side: identical ones are merged, words that differ from the best are marked.

Everything is inert HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app.shared import links
from app.shared.trace_text import visible
from app.shared.trace_view import Row, chip
from app.shared.word_diff import word_diff
from store.db.rows import StoredCompletion

MOST_COMPARED = 800
"""Characters of a text that are compared; the time grows with their square."""


class Fold(NamedTuple):
    """Rows with the same text; `row` is the first of them."""

    row: Row
    ids: tuple[int, ...]


def fold_identical(rows: Sequence[Row]) -> list[Fold]:
    """Merge rows with identical texts, in the order of their first occurrence."""
    folds: dict[str, Fold] = {}
    for row in rows:
        earlier_fold = folds.get(row.text)
        folds[row.text] = (
            Fold(row, (row.id,)) if earlier_fold is None else Fold(earlier_fold.row, (*earlier_fold.ids, row.id))
        )
    return list(folds.values())


def side_by_side(rows: Sequence[Row], *, chosen: int | None, strongest: float | None) -> str:
    """Return one column per distinct text, each compared with the first."""
    folds = fold_identical(rows)
    if not folds:
        return ""
    base = folds[0].row.text
    columns = [_column(each, base, first=i == 0, chosen=chosen, strongest=strongest) for i, each in enumerate(folds)]
    return f'<div class="tv-columns">{"".join(columns)}</div>'


def _column(fold: Fold, base: str, *, first: bool, chosen: int | None, strongest: float | None) -> str:
    row = fold.row
    times = f' <b title="{len(fold.ids)} identical answers">×{len(fold.ids)}</b>' if len(fold.ids) > 1 else ""
    reward = "" if row.reward is None else f'<span class="tv-number">reward <b>{row.reward:.3g}</b></span>'
    bar = ""
    if isinstance(row, StoredCompletion) and row.advantage is not None:
        bar = advantage_bar(row.advantage, strongest)
    kind = "completion" if isinstance(row, StoredCompletion) else "prediction"
    link = f'<a class="tv-link" target="_self" href="{links.page("traces", **{kind: row.id})}">#{row.id}</a>'
    text = word_diff(None if first else base[:MOST_COMPARED], row.text[:MOST_COMPARED])
    more = "…" if len(row.text) > MOST_COMPARED else ""
    name = "tv-column tv-chosen" if chosen in fold.ids else "tv-column"
    return (
        f'<div class="{name}"><div class="tv-head">{chip(row)}{times}{reward}{link}</div>{bar}'
        f'<div class="tv-compared">{text}{more}</div></div>'
    )


def advantage_bar(value: float, strongest: float | None) -> str:
    """Return the advantage as a bar to the left or right of the middle, with its value."""
    share = min(1.0, abs(value) / strongest) * 50 if strongest else 0.0
    side = "tv-up" if value >= 0 else "tv-down"
    number = visible(f"{value:+.2f}".replace("-", "−"))
    return (
        f'<div class="tv-wide" title="Advantage"><span class="tv-bar"><i class="{side}" style="width:{share:.0f}%"></i>'
        f'</span> <span class="tv-number">A {number}</span></div>'
    )
