"""The charts of reports: every finite value is inside the drawing, gaps stay gaps, and names are only text."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.report import chart
from app.report.chart import ReportLine

VALUES = st.lists(st.floats(-1e12, 1e12) | st.just(float("nan")), min_size=1, max_size=30)
HOSTILE = "<script>alert(1)</script>\" onload='x' &"


def line(values: list[float], name: str = "a", **fields: bool) -> ReportLine:
    return ReportLine(name, np.arange(1.0, len(values) + 1), np.array(values), "#0072B2", **fields)


def parsed(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(html)


@given(VALUES, st.booleans())
def test_every_known_value_is_drawn_inside(values: list[float], sparse: bool) -> None:
    found = chart.chart("title", [line(values, sparse=sparse)])
    known = [value for value in values if value == value]
    if not known:
        assert found == ""
        return
    path = parsed(found).find("svg/path")
    assert path is not None
    points = [tuple(map(float, pair)) for pair in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path.get("d", ""))]
    assert len(points) == len(known)
    assert all(chart.LEFT - 0.1 <= x <= chart.WIDTH - chart.RIGHT + 0.1 for x, _ in points)
    assert all(chart.TOP - 0.1 <= y <= chart.HEIGHT - chart.BOTTOM + 0.1 for _, y in points)


def test_a_missing_value_breaks_the_line() -> None:
    path = parsed(chart.chart("t", [line([1.0, 2.0, float("nan"), 4.0])])).find("svg/path")
    assert path is not None and path.get("d", "").count("M") == 2


@given(st.floats(-1e9, 1e9), st.floats(0.001, 1e9))
def test_ticks_are_few_round_numbers_inside(low: float, width: float) -> None:
    found = chart.ticks(low, low + width)
    assert len(found) <= 2 * chart.TICKS + 1
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in found)


def test_names_are_text() -> None:
    drawn = parsed(chart.chart(HOSTILE, [line([1.0, 2.0], name=HOSTILE)], is_share=True))
    assert drawn.find(".//script") is None
    assert drawn.findtext("figcaption") == HOSTILE
    assert not any("onload" in element.attrib for element in drawn.iter())
