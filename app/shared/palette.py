"""Colours of several groups of one method, and of results from low to high. Pure functions."""

from __future__ import annotations

import numpy as np
from plotly.colors import sample_colorscale

from app.shared.figures import BLUE, GREY, ORANGE, SKY, SYMBOLS, VERMILLION, method_style

FAMILIES = {
    BLUE: (BLUE, SKY, "#7A6FD0"),
    VERMILLION: (VERMILLION, ORANGE, "#A6761D"),
    GREY: (GREY, "#B9A58C", "#6F8F8A"),
}
"""Colours of a method's groups, by the colour of the method."""
VISIBLE = {False: (0.0, 0.68), True: (0.42, 1.0)}
"""Part of the colour scale that stands out from a light page, and from a dark one."""


def group_style(method: str, place: int) -> tuple[str, str, str]:
    """Return colour, dash and marker of a method's group, which is the `place`-th of it in the same chart.

    The first one looks like the method itself; the colours of one method belong together.
    """
    colour, dash = method_style(method)
    family = FAMILIES.get(colour, (colour,))
    return family[place % len(family)], dash if place < len(family) else "dot", SYMBOLS[place % len(SYMBOLS)]


def scale(*, dark: bool) -> list[str]:
    """Return the colours of results, low to high, that stand out from the page."""
    return [str(each) for each in sample_colorscale("Viridis", np.linspace(*VISIBLE[dark], 9).tolist())]
