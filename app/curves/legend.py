"""The shared legend of all charts of the page: it hides curves, shows a single one, or brings one to the front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from app.curves.grouping import Entry
from app.shared.figures import REPLACED
from app.shared.live_chart import Legend

KEY = "curves_legend"
HINT = "Click a swatch to hide or show a curve; click a name to bring it to the front."
_HERE = Path(__file__)
_legend = st.components.v2.component(
    "run_legend",
    html='<div class="run-legend"></div>\n',
    css=_HERE.with_name("curves.css").read_text(encoding="utf-8"),
    js=_HERE.with_suffix(".js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


def show(entries: Sequence[Entry], notes: Sequence[str], chosen: Legend, on_change: Callable[[Legend], None]) -> None:
    """Show a line for each entry with its note; `on_change` receives the user's choice."""

    def report() -> None:
        state = st.session_state[KEY].state
        if state is not None:
            on_change(Legend(tuple(map(str, state["hidden"])), None if state["front"] is None else str(state["front"])))

    lines = [
        {"key": entry.key, "label": entry.label, "note": note, "colour": entry.colour, "dash": entry.dash}
        for entry, note in zip(entries, notes, strict=True)
    ]
    _legend(
        key=KEY, data={"entries": lines, "hint": HINT, "colours": REPLACED} | chosen._asdict(), on_state_change=report
    )
