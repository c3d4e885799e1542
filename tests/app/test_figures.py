"""Figures as data, and the words and charts that go with them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.run import charts
from app.shared import figures
from app.shared.figures import (
    Bars,
    Frame,
    Line,
    Mark,
    bar_chart,
    group_style,
    line_chart,
    method_style,
    scale,
    smooth,
    stacked_chart,
)
from app.shared.live_chart import figure_json

STEPS = np.arange(1.0, 6.0)


def line(y: list[float], **settings: object) -> Line:
    return Line("reward", STEPS[: len(y)], np.array(y), **settings)  # type: ignore[arg-type]


def traces(figure: object) -> dict[str, dict]:
    return {named(trace["uid"]): trace for trace in json.loads(figure_json(figure))["data"]}


def named(uid: str) -> str:
    """The name that a uid was made of; a uid is a word for CSS."""
    assert re.fullmatch(r"trace-[0-9a-f]+", uid)
    return bytes.fromhex(uid.removeprefix("trace-")).decode()


def test_smoothing_is_an_unbiased_average_of_the_past() -> None:
    assert smooth(STEPS, np.array([2.0, 2.0, 2.0, 2.0, 2.0]), 0.9).tolist() == [2.0] * 5
    np.testing.assert_allclose(smooth(STEPS[:2], np.array([0.0, 1.0]), 0.5), [0.0, 0.5 / 0.75])
    assert smooth(STEPS, STEPS, 0.0) is STEPS


def test_smoothing_leaves_gaps_and_goes_on_behind_them() -> None:
    smoothed = smooth(STEPS, np.array([1.0, np.nan, 1.0, np.nan, 5.0]), 0.5)
    assert np.isnan(smoothed).tolist() == [False, True, False, True, False]
    assert smoothed[2] == 1.0


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=60),
    st.sampled_from([1.0, 32.0, 0.37]),
    st.floats(0.01, 0.999),
    st.data(),
)
def test_smoothing_is_what_its_definition_says_on_even_and_uneven_steps(
    gaps: list[int], unit: float, weight: float, data: st.DataObject
) -> None:
    x = np.cumsum(gaps) * unit
    y = np.array(data.draw(st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), min_size=len(x), max_size=len(x))))
    expected, mean, mass, before = [], 0.0, 0.0, None
    for here, value in zip(x, y, strict=True):
        if np.isnan(value):
            expected.append(np.nan)
            continue
        mass = (0.0 if before is None else weight ** (here - before)) * mass + (1 - weight)
        mean, before = mean + (1 - weight) / mass * (value - mean), here
        expected.append(mean)
    scale = np.nanmax(np.abs(y), initial=1.0)
    np.testing.assert_allclose(smooth(x, y, weight), expected, rtol=1e-7, atol=1e-9 * scale)


def test_thinning_a_curve_does_not_change_how_smooth_it_is() -> None:
    x = np.arange(400.0)
    y = x / 100
    full, thin = smooth(x, y, 0.95), smooth(x[::4], y[::4], 0.95)
    np.testing.assert_allclose(thin[50:], full[::4][50:], atol=0.05)


def test_raw_values_stand_dim_behind_the_smoothed_line() -> None:
    found = traces(line_chart([line([1.0, 2.0, 3.0])], smoothing=0.6))
    assert list(found) == ["reward/raw", "reward"]
    assert found["reward/raw"]["opacity"] < 1
    assert found["reward/raw"]["legendgroup"] == found["reward"]["legendgroup"]
    assert list(traces(line_chart([line([1.0, 2.0])]))) == ["reward"]


def test_sparse_measurements_are_marked_and_never_smoothed() -> None:
    found = traces(line_chart([line([1.0, 9.0], sparse=True)], smoothing=0.9))
    assert list(found) == ["reward"]
    assert found["reward"]["mode"] == "lines+markers"


def test_missing_values_are_gaps() -> None:
    figure = line_chart([line([1.0, np.nan, 3.0])], smoothing=0.6)
    assert all(trace.connectgaps is not True for trace in figure.data)
    assert np.isnan(figure.data[-1].y[1])


def test_an_interval_is_a_band_that_breaks_with_its_line() -> None:
    low, high = np.array([0.1, np.nan, 0.3, 0.4]), np.array([0.5, np.nan, 0.7, 0.8])
    figure = line_chart([line([0.3, np.nan, 0.5, 0.6], low=low, high=high)], share=True)
    first, second, curve = figure.data
    assert list(first.y) == [0.5, 0.1]
    assert list(second.x) == [3.0, 4.0, 4.0, 3.0]
    assert second.fill == "toself"
    assert curve.customdata.shape == (4, 2)
    assert figure.layout.yaxis.tickformat == ".0%"


def test_a_logarithmic_axis_and_a_share_exclude_each_other() -> None:
    assert line_chart([line([1.0, 10.0])], log=True).layout.yaxis.type == "log"
    assert line_chart([line([0.1, 0.2])], log=True, share=True).layout.yaxis.type is None


def test_a_constant_is_not_drawn_as_zero() -> None:
    assert line_chart([line([3e-4, 3e-4])]).layout.yaxis.range == (0, 6e-4)
    assert line_chart([line([0.0, 0.0])]).layout.yaxis.range == (-0.05, 1)
    assert line_chart([line([1.0, 2.0])]).layout.yaxis.range is None


def test_marks_and_cursor_are_uprights() -> None:
    figure = line_chart([line([1.0, 2.0])], Frame(marks=[Mark(1.5, "★", "best <b>")], cursor=2.0))
    assert [shape.x0 for shape in figure.layout.shapes] == [1.5, 2.0]
    assert figure.layout.annotations[0].hovertext == "best &lt;b&gt;"


def test_one_revision_keeps_what_a_user_did() -> None:
    before, after = (line_chart([line(y)], Frame(revision="a")) for y in ([1.0, 2.0], [1.0, 2.0, 3.0]))
    assert before.layout.uirevision == after.layout.uirevision == "a"
    assert before.layout.legend.uirevision == after.layout.legend.uirevision
    assert before.data[0].uid == after.data[0].uid


def test_parts_are_stacked() -> None:
    figure = stacked_chart([Line("generation", STEPS, STEPS), Line("update", STEPS, STEPS)])
    assert {trace.stackgroup for trace in figure.data} == {"all"}


def test_bars_beyond_the_last_place_stand_on_it() -> None:
    figure = bar_chart([Bars("<b>a</b>", [0, 2, 3, 1_000_000_000], [1, 2, 3, 4])], last=3)
    assert figure.data[0].y.tolist() == [1, 0, 2, 7]
    assert figure.data[0].name == "&lt;b&gt;a&lt;/b&gt;"
    assert figure.layout.xaxis.ticktext == ("0", "1", "2", "3+")


def test_shares_of_bars_are_of_their_own_group() -> None:
    figure = bar_chart([Bars("a", [0, 1], [1, 3]), Bars("b", [1], [9]), Bars("c", [], [])], last=1, share=True)
    assert [list(trace.y) for trace in figure.data] == [[0.25, 0.75], [0, 1], []]
    assert figure.layout.xaxis.ticktext == ("0", "1")


def test_names_are_not_html() -> None:
    assert line_chart([Line("<img src=x>", STEPS, STEPS)]).data[0].name == "&lt;img src=x&gt;"


def test_an_empty_chart_is_a_chart() -> None:
    assert line_chart([]).layout.showlegend is False
    assert len(line_chart([line([np.nan, np.nan])]).data) == 1


def test_methods_differ_by_colour_and_by_dash() -> None:
    colours, dashes = zip(*figures.METHOD_STYLE.values(), strict=True)
    assert len(set(colours)) == len(set(dashes)) == 3


@pytest.mark.parametrize("method", ["grpo", "sft", "none"])
def test_charts_have_one_key_each_and_say_what_they_mean(method: str) -> None:
    found = [*charts.outcome(method, ["format", "accuracy"]), *charts.optimization(method)]
    assert len({chart.key for chart in found}) == len(found)
    assert all(chart.help and chart.curves for chart in found if chart.key != "time")


def test_rewards_of_sft_come_from_the_probe() -> None:
    reward, components, *_ = charts.outcome("sft", ["format"])
    assert reward.metrics == ["probe/reward"]
    assert components.metrics == ["probe/reward/format"]


def test_the_loss_of_grpo_comes_with_a_warning() -> None:
    loss = next(chart for chart in charts.optimization("grpo") if chart.key == "loss")
    assert "Near zero by construction" in loss.help


def test_groups_of_one_method_differ_and_the_first_looks_like_the_method() -> None:
    looks = [group_style("grpo", place) for place in range(4)]
    assert looks[0][:2] == method_style("grpo") and len(set(looks)) == 4
    assert not {colour for colour, _, _ in looks} & {group_style("sft", place)[0] for place in range(4)}


def contrast(colour: str, page: str) -> float:
    """The contrast of two colours, 1 to 21, as WCAG defines it."""

    def light(text: str) -> float:
        values = [int(text[i : i + 2], 16) for i in (1, 3, 5)] if text[0] == "#" else map(float, text[4:-1].split(","))
        parts = [v / 12.92 if (v := each / 255) <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for each in values]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((light(colour), light(page)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("dark", "page"), [(False, "#ffffff"), (True, "#11151c")])
def test_a_colour_scale_stands_out_from_the_page_at_both_ends(dark: bool, page: str) -> None:
    assert min(contrast(colour, page) for colour in scale(dark=dark)) > 2
