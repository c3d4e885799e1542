"""Settings of a sweep: what differs, what each came to over its seeds, which is best, and what a brush selects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.curves.sweep import figures, settings
from app.curves.sweep.best import caution_sentence, result_sentence
from app.curves.sweep.figures import Sweep
from store.db.rows import RunDetail
from trainer.spec.statistics import over_seeds, seeds_differ_p


def run(id: int, weight: float = 1.0, **config: Any) -> RunDetail:
    absent = dict.fromkeys(RunDetail.__dataclass_fields__)
    values = absent | {"id": id, "config": config, "reward_weights": {"format": weight}}
    return RunDetail(**values)  # type: ignore[arg-type]


def test_seeds_names_and_fields_that_say_the_same_twice_are_left_out() -> None:
    runs = [
        run(i, seed=i, name=str(i), lora={"rank": r, "alpha": 2 * r}, data={"seed": i})
        for i, r in enumerate((8, 16, 8))
    ]
    assert settings.factors(runs, {}) == {"lora.rank": {0: 8.0, 1: 16.0, 2: 8.0}}


def test_where_a_run_was_imported_from_is_no_setting() -> None:
    runs = [run(i, imported={"path": f"out/{i}", "notes": [str(i)]}, recorded={"lr": i / 10}) for i in range(2)]
    assert settings.factors(runs, {}) == {"recorded.lr": {0: 0.0, 1: 0.1}}


def test_an_arm_stands_for_what_it_decides_and_rewards_are_fields() -> None:
    runs = [
        run(i, weight=w, method=m, beta=b)
        for i, (m, w, b) in enumerate([("grpo", 1, 0), ("sft", 1, 0), ("grpo", 2, 0.1)])
    ]
    arms = {0: "GRPO", 1: "SFT", 2: "GRPO"}
    found = settings.factors(runs, arms)
    assert list(found) == ["arm", "beta"] or list(found) == ["arm", "rewards.format"]
    assert "method" not in found


def test_a_setting_has_an_interval_over_its_seeds_only() -> None:
    found = settings.settings({"beta": {0: 0.0, 1: 0.0, 2: 0.1}}, {0: 0.4, 1: 0.6, 2: 0.9})
    by = {each.values: each for each in found}
    interval = by[(0.0,)].interval
    assert interval is not None and interval.value == pytest.approx(0.5)
    assert (interval.high - 0.5) == pytest.approx(12.706 * 0.1 * np.sqrt(2) / np.sqrt(2), rel=1e-3)
    assert by[(0.1,)].interval is None
    best = settings.rank_settings(found, lower=False)
    assert best[0].setting.values == (0.1,) and settings.rank_settings(found, lower=True)[0].setting.values == (0.0,)
    assert "in one run" in result_sentence("reward", best[0]) and "more seeds" in caution_sentence(best)


def test_the_interval_of_a_share_ends_where_a_share_does() -> None:
    results = {0: 0.9, 1: 1.0, 2: 0.02, 3: 0.0}
    beta: dict[int, Any] = {0: 0.0, 1: 0.0, 2: 0.1, 3: 0.1}
    assert settings.is_share("val/accuracy", results.values()) and not settings.is_share("val/accuracy", [85.0])
    assert not settings.is_share("reward", results.values())
    order = settings.rank_settings(settings.settings({"beta": beta}, results, is_share=True), lower=False)
    assert [(each.setting.interval.low, each.setting.interval.high) for each in order if each.setting.interval] == [
        (pytest.approx(0.95 - 0.635, abs=1e-3), 1.0),
        (0.0, pytest.approx(0.01 + 0.127, abs=1e-3)),
    ]
    sentence = result_sentence("val/accuracy", order[0])
    assert sentence.endswith("(Student's t, cut off because a share lies between 0 and 1).")
    drawn = figures.scatter(Sweep("val/accuracy", results, dict.fromkeys(results, "a"), is_share=True), "beta", beta)
    (means,) = [trace for trace in drawn.data if trace.error_y.array is not None]
    ends = zip(means.y, means.error_y.arrayminus, means.error_y.array, strict=True)
    assert all(y - low >= 0 and y + high <= 1 for y, low, high in ends)


def test_runs_without_a_result_do_not_count() -> None:
    found = settings.settings({"beta": {0: 0.0, 1: 0.0}}, {0: 0.4, 1: float("nan")})
    assert [each.runs for each in found] == [(0,)]
    assert settings.rank_settings([], lower=False) == []


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6), st.floats(-100, 100))
def test_the_interval_holds_the_mean_and_moves_with_the_values(values: list[float], by: float) -> None:
    own, moved = over_seeds(values), over_seeds([value + by for value in values])
    assert own is not None and moved is not None
    assert own.low <= own.value <= own.high
    assert moved.low == pytest.approx(own.low + by, abs=1e-6)
    assert seeds_differ_p(values, [values[0]]) is None
    p = seeds_differ_p(values, [value + 1 for value in values])
    assert p is None or 0 <= p <= 1


def test_a_clear_winner_is_told_from_an_equal() -> None:
    results = {0: 0.9, 1: 0.91, 2: 0.89, 3: 0.9, 4: 0.92, 5: 0.87, 6: 0.2, 7: 0.21, 8: 0.19}
    beta: dict[int, Any] = {id: float(id // 3) for id in results}
    order = settings.rank_settings(settings.settings({"beta": beta}, results), lower=False)
    assert [each.is_clear for each in order[1:]] == [False, True]
    assert "1 of 2 other settings could be as good" in caution_sentence(order)


PLACES = {1: (0.0, 0.5, 1.0), 2: (1.0, 0.5, 0.2)}


@pytest.mark.parametrize(
    ("boxes", "runs"),
    [
        ([], set()),
        ([(0.2, 0.8, 0, 1)], set()),
        ([(-0.2, 0.2, 0.9, 1.1)], {2}),
        ([(0.2, -0.2, 1.1, 0.9)], {2}),
        ([(0.8, 1.2, 0.4, 0.6)], {1, 2}),
        ([(0.8, 1.2, 0.4, 0.6), (1.8, 2.2, 0.9, 1)], {1}),
        ([(1.8, 2.2, 0.9, 1), (1.8, 2.2, 0.1, 0.3)], {1, 2}),
        ([(0.8, 2.2, 0.4, 1.1)], {1}),
        ([(8, 9, 0, 1)], set()),
    ],
)
def test_a_brush_takes_lines_that_pass_a_box_on_every_brushed_axis(boxes: Any, runs: set[int]) -> None:
    assert settings.runs_in_boxes(PLACES, boxes) == runs


def test_heights_are_by_size_by_logarithm_or_by_rank() -> None:
    assert figures.heights({0: 1.0, 1: 2.0, 2: 3.0}) == {0: 0.0, 1: 0.5, 2: 1.0}
    assert figures.heights({0: 1e-4, 1: 1e-3, 2: 1e-2}) == pytest.approx({0: 0.0, 1: 0.5, 2: 1.0})
    assert figures.heights({0: "b", 1: "a", 2: 3.0}) == {0: 1.0, 1: 0.5, 2: 0.0}
    assert figures.heights({0: 2.0}) == {0: 0.5}
    results = {0: 0.9, 1: 0.1, 2: 0.5}
    assert figures.heights({0: "a", 1: "b", 2: "c"}, results) == {0: 1.0, 1: 0.0, 2: 0.5}, "the best is at the top"


def test_figures_draw_every_run_and_leave_pairs_without_runs_empty() -> None:
    sweep = Sweep("reward", {0: 0.4, 1: 0.6, 2: 0.9}, {0: "<b>a</b>", 1: "b", 2: "c"})
    beta: dict[int, Any] = {0: 0.0, 1: 0.0, 2: 0.1}
    schedule: dict[int, Any] = {0: "cosine", 1: "cosine", 2: "linear"}
    drawn = figures.scatter(sweep, "beta", beta, ("schedule", schedule))
    points = [trace for trace in drawn.data if trace.customdata is not None]
    assert sorted(id for trace in points for id in trace.customdata) == [0, 1, 2]
    assert "<b>a" not in drawn.to_json().replace("<b>%{text}", "")
    cells, texts = figures.heat_map(sweep, ("beta", beta), ("schedule", schedule), lower=False).data
    assert [list(row) for row in cells.z] == [[0.5, None], [None, 0.9]] and cells.text[0][0] == "0.500<br>n = 2"
    assert set(texts.textfont.color) == {"#ffffff", "#000000"}, "each text has the colour that is readable on its cell"
    lines, places = figures.parallel(sweep, {"beta": beta, "schedule": schedule}, lower=False)
    assert len(lines.data) == 3 and all(len(each) == 3 for each in places.values())
    assert places[2] == [1.0, 1.0, 1.0]
    arms: dict[int, Any] = {0: "GRPO random reward", 1: "b", 2: "c"}
    written = [note.text for note in figures.parallel(sweep, {"arm": arms}, lower=False)[0].layout.annotations]
    assert "GRPO random<br>reward" in written, "the names of arms fit beside the axis on a narrow screen"


@pytest.mark.parametrize(
    ("metric", "falls"),
    [("val/loss", True), ("kl", True), ("reward", False), ("val/accuracy", False), ("time/step", True)],
)
def test_the_direction_of_a_metric_is_guessed_from_its_name(metric: str, falls: bool) -> None:
    assert settings.is_falling(metric) is falls
