"""Statistics of a dataset split: rows, skipped rows by reason, images, and the distribution of counts."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

import streamlit as st

from app.shared import figures, format
from app.shared.figures import Bars, Frame
from app.shared.live_chart import live_chart
from store.db.rows import Bar, IndexRow

LAST = 20
"""Larger true counts share one bar."""
LEVEL_COLORS = (figures.SKY, figures.PURPLE, figures.VERMILLION, figures.GREY)
SPLIT_COLORS = {"train": figures.BLUE, "val": figures.ORANGE, "test": figures.GREEN}


def split_order(split: str) -> tuple[int, str]:
    """Return a sort key: train, val, test, then other splits."""
    order = list(SPLIT_COLORS)
    return (order.index(split) if split in order else len(order)), split


def facts(index: IndexRow | None, stored: int) -> None:
    """Show a split's facts; `stored` is the number of its examples in the database."""
    if index is None or index.indexed_at is None:
        used = format.pluralize(stored, "example")
        st.caption(
            f":material/playlist_add: This split is not indexed: it shows only {used} that runs used. Index it to see "
            "all examples, skipped rows with reasons, and images that it shares with other datasets."
        )
        return
    numbers = {
        "Rows": format.count(index.rows),
        "Usable": format.count(index.usable),
        "Skipped": format.count((index.rows or 0) - (index.usable or 0)),
        "Images": format.count(index.images),
        "Questions per image": format.number((index.usable or 0) / index.images) if index.images else format.UNKNOWN,
        **{f"{edge.capitalize()} (px)": _spread(spread) for edge, spread in index.sizes.items()},
    }
    with st.container(horizontal=True, gap="medium", key="dataset_facts"):
        for name, value in numbers.items():
            st.metric(name, value, width="content")
    st.caption(format.literal(_origin(index)))
    if index.skipped:
        reasons = "\n".join(f"{format.count(n):>9}  {reason}" for reason, n in index.skipped.items())
        skipped = sum(index.skipped.values())
        with st.expander(f"Why {format.pluralize(skipped, 'row')} {'was' if skipped == 1 else 'were'} skipped"):
            st.code(reasons, language=None)


def _spread(spread: dict[str, float]) -> str:
    low, middle, high = (format.count(spread[name]) for name in ("min", "median", "max"))
    return low if low == high else f"{low} – {middle} – {high}"


def _origin(index: IndexRow) -> str:
    parts = [
        f"Indexed {format.age(index.indexed_at, time.time())}",
        f"from {index.path}" if index.path else "",
        f"revision {index.revision}" if index.revision else "",
        "sizes are min – median – max",
        "" if index.complete else f"only the first {format.count(index.usable)} usable questions were indexed",
    ]
    return " · ".join(part for part in parts if part)


def histograms(bars: Sequence[Bar], split: str) -> None:
    """Show the shares of true counts by split, and the true counts of one split by difficulty."""
    frame = Frame(x_title="true count", height=250)
    last = min(LAST, max((bar.answer or 0 for bar in bars), default=0))
    charts = st.grid(2, min_column_width=400)
    with charts, st.container(border=True):
        by_split = _grouped([(bar.split, bar) for bar in sorted(bars, key=lambda bar: split_order(bar.split))])
        groups = [Bars(name, *_points(each), SPLIT_COLORS.get(name, figures.GREY)) for name, each in by_split.items()]
        st.markdown("**True counts by split** · share of its examples")
        live_chart(
            figures.bar_chart(groups, frame, last=last, share=True), key="chart_by_split", alt=_alt("split", by_split)
        )
    with charts, st.container(border=True):
        by_level = _grouped([(bar.difficulty or "unknown", bar) for bar in bars if bar.split == split])
        groups = [
            Bars(name, *_points(each), LEVEL_COLORS[i % len(LEVEL_COLORS)])
            for i, (name, each) in enumerate(by_level.items())
        ]
        st.markdown(f"**True counts by difficulty** · examples of {format.literal(split)}")
        live_chart(
            figures.bar_chart(groups, frame, last=last, stacked=True),
            key="chart_by_difficulty",
            alt=_alt("difficulty", by_level),
        )


def _grouped(pairs: Sequence[tuple[str, Bar]]) -> dict[str, list[Bar]]:
    groups: dict[str, list[Bar]] = defaultdict(list)
    for name, bar in pairs:
        groups[name].append(bar)
    return dict(groups)


def _points(bars: Sequence[Bar]) -> tuple[list[int], list[float]]:
    known_bars = [bar for bar in bars if bar.answer is not None]
    return [bar.answer or 0 for bar in known_bars], [bar.examples for bar in known_bars]


def _alt(grouping: str, groups: dict[str, list[Bar]]) -> str:
    parts = []
    for name, bars in groups.items():
        largest = max(bars, key=lambda bar: bar.examples)
        parts.append(f"{name}: {sum(bar.examples for bar in bars):,} examples, most common count {largest.answer}")
    return f"True counts by {grouping}. {'; '.join(parts)}."
