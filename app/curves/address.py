"""Lists in the URL: keys may contain anything, so commas within them are percent-encoded."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, unquote

import streamlit as st

from app.shared import links
from app.shared.live_chart import Legend

NOTHING = "-"
"""An empty list; a missing one means the default."""
READABLE = " ·–/=.:@()"


def join(keys: Iterable[str]) -> str:
    return ",".join(quote(key, safe=READABLE) for key in keys) or NOTHING


def split(text: str) -> list[str]:
    return [unquote(key) for key in text.split(",") if key] if text != NOTHING else []


def read_list(name: str) -> list[str] | None:
    """Return a parameter's list; None if the URL has none."""
    return split(st.query_params[name]) if name in st.query_params else None


def legend(keys: Iterable[str]) -> Legend:
    """Return which of these keys the legend has hidden or brought to the front."""
    known_keys = list(keys)
    visible_keys = read_list("only")
    hidden = (
        [key for key in known_keys if key not in visible_keys]
        if visible_keys is not None
        else read_list("hidden") or []
    )
    front = st.query_params.get("front")
    return Legend(tuple(key for key in hidden if key in known_keys), front if front in known_keys else None)


def keep_legend(chosen: Legend, keys: Iterable[str]) -> None:
    """Write the legend's state to the URL, as the shorter list of hidden or visible keys."""
    visible_keys = [key for key in keys if key not in chosen.hidden]
    place = {"front": chosen.front} if chosen.front else {}
    if chosen.hidden:
        place |= (
            {"only": join(visible_keys)} if len(visible_keys) < len(chosen.hidden) else {"hidden": join(chosen.hidden)}
        )
    links.go("hidden", "only", "front", **place)
