"""A small chart without axes that fills the available width, with a mark at one x."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import streamlit as st

Numbers = npt.NDArray[np.number[Any]]


def sparkline_html(x: Numbers, y: Numbers, *, low: float, high: float, now: float, alt: str) -> str:
    """Return the area under y, with x from `low` to `high`, or "" without data; NaN is skipped, `alt` is trusted."""
    is_finite = np.isfinite(y)
    x, y = x[is_finite], y[is_finite]
    if len(x) < 2 or high <= low:
        return ""
    bottom, top = min(0.0, float(y.min())), max(float(y.max()), float(y.min()) + 1e-9)
    across = 100 * (x - low) / (high - low)
    down = 100 - 96 * (y - bottom) / (top - bottom)
    corners = [f"{across[0]:.2f}% 100%", *(f"{a:.2f}% {d:.2f}%" for a, d in zip(across, down, strict=True))]
    polygon = ",".join([*corners, f"{across[-1]:.2f}% 100%"])
    mark = f'<div class="tv-now" style="left:{100 * (now - low) / (high - low):.2f}%"></div>'
    area = f'<div class="tv-area" style="clip-path:polygon({polygon})"></div>'
    return f'<div class="tv-spark" role="img" aria-label="{alt}">{area}{mark}</div>'


def sparkline(x: Numbers, y: Numbers, *, low: float, high: float, now: float, alt: str) -> None:
    chart_html = sparkline_html(x, y, low=low, high=high, now=now, alt=alt)
    if chart_html:
        st.html(chart_html)
