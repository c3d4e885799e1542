"""What the Curves page draws: groups, charts, axes, figures and addresses, as pure functions."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.curves import address, axes, catalogue, charts, figures, grouping
from app.curves.bands import Points
from app.curves.figures import ChartStyle, RunCurve
from app.curves.grouping import ARM, METHOD, SETTINGS, TAGS, Entry
from store.db.connection import StoreError
from store.db.rows import Band, Clock, RunRow

FIELDS = {
    "lora.rank": {1: "16", 2: "16", 3: "64", 4: "64"},
    "seed": {1: "0", 2: "1", 3: "0", 4: "1"},
}
ARMS = {1: "SFT", 2: "SFT", 3: "GRPO"}


def run(id: int, **changed: object) -> RunRow:
    fixed = dict.fromkeys(RunRow.__dataclass_fields__) | {
        "id": id,
        "uid": f"u{id}",
        "name": f"run {id}",
        "method": "grpo",
        "style": "cot",
        "step": 10,
        "tags": (),
        "sparkline": (),
        "grammar": "ours",
    }
    return RunRow(**(fixed | changed))


RUNS = [run(each) for each in (4, 3, 2, 1)]


def labels(by: list[str], runs: list[RunRow] = RUNS) -> dict[str, list[int]]:
    return {e.label: [run.id for run in e.members] for e in grouping.entries(runs, by, FIELDS, ARMS)}


def test_runs_are_grouped_by_what_is_named() -> None:
    assert labels([]) == {"run 1": [1], "run 2": [2], "run 3": [3], "run 4": [4]}
    assert labels(["lora.rank"]) == {"rank 16": [1, 2], "rank 64": [3, 4]}
    assert labels([SETTINGS]) == {"rank 16": [1, 2], "rank 64": [3, 4]}, "seeds do not make a setting"
    assert labels([ARM]) == {"SFT": [1, 2], "GRPO": [3], "no arm": [4]}
    assert labels([METHOD, "seed"]) == {"GRPO · seed 0": [1, 3], "GRPO · seed 1": [2, 4]}
    assert labels([TAGS], [replace(RUNS[0], tags=("a", "b")), RUNS[1]]) == {"no tag": [3], "a, b": [4]}


def test_runs_of_one_name_are_told_apart() -> None:
    twins = [run(1, name="same"), run(2, name="same"), run(3)]
    assert list(labels([], twins)) == ["same (u1)", "same (u2)", "run 3"]


def test_fifty_runs_look_different() -> None:
    found = grouping.entries([run(id) for id in range(50)], [], {}, {})
    assert len({(entry.colour, entry.dash) for entry in found}) == 50


def test_a_chart_draws_the_metric_that_most_of_the_runs_have() -> None:
    everywhere, somewhere = frozenset({1, 2}), frozenset({1})
    reward = catalogue.chart("Reward")
    assert catalogue.metric(reward, {"reward": everywhere, "probe/reward": everywhere}) == "reward"
    assert catalogue.metric(reward, {"reward": somewhere, "probe/reward": everywhere}) == "probe/reward"
    assert catalogue.metric(reward, {"loss": everywhere}) is None
    assert catalogue.first({"reward": somewhere, "kl": somewhere}) == ["Reward", "KL"]
    assert catalogue.first({"b": everywhere, "a": somewhere, "c": everywhere}) == ["b", "c", "a"]


def test_metrics_are_found_by_expressions_and_listed_by_prefix() -> None:
    names = ["loss", "probe/kl", "probe/reward", "val/accuracy"]
    assert catalogue.matching(names, "^PROBE/") == ["probe/kl", "probe/reward"]
    assert catalogue.by_prefix(names) == {"": ["loss"], "probe": names[1:3], "val": names[3:]}
    for pattern in ("(", "a{100000000}", r"(.)\1{9999999}"):
        with pytest.raises(StoreError):
            catalogue.matching(names, pattern)


def test_charts_move_and_go() -> None:
    order = ["a", "b", "c"]
    moved = {action: charts.move_chart(action, "b", order) for action in ("first", "earlier", "later", "remove")}
    assert moved == {
        "first": ["b", "a", "c"],
        "earlier": ["b", "a", "c"],
        "later": ["a", "c", "b"],
        "remove": ["a", "c"],
    }
    assert charts.move_chart("later", "c", order) == order and charts.move_chart("earlier", "a", order) == order


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1)))
def test_lists_survive_the_address(keys: list[str]) -> None:
    assert address.split(address.join(keys)) == keys or keys == [address.NOTHING]


def clock(at: list[float], tokens: list[float]) -> Clock:
    return Clock(np.arange(len(at)) * 10, np.array(at), np.array(tokens))


def test_axes_place_the_steps_of_each_run_by_its_own_clock() -> None:
    clocks = {1: clock([50, 60, 70], [0, 100, 200]), 2: clock([0, 40, 80], [0, 500, np.nan])}
    by_time = axes.axis("time", clocks, [])
    assert by_time.title == "time (seconds)"
    assert by_time.place(1, [0, 5, 20]).tolist() == [0, 5, 20] and by_time.place(2, [5, 20]).tolist() == [20, 80]
    assert by_time.step(2, 40) == 10 and by_time.steps([1, 2], 10, 20) == (2, 20)
    assert axes.axis("tokens", clocks, []).place(2, 10) == 500
    assert axes.axis("step", {}, []).place(7, [3, 4]).tolist() == [3, 4]
    hours = axes.axis("time", {1: clock([0, 7200, 14400], [0, 0, 0])}, [])
    assert hours.title == "time (hours)" and hours.place(1, 20) == 4


def test_tokens_go_on_where_a_resumed_run_counts_anew() -> None:
    assert axes.axis("tokens", {1: clock([0, 1, 2], [100, 200, 50])}, []).place(1, [0, 10, 20]).tolist() == [
        100,
        200,
        250,
    ]


def test_a_thinned_curve_keeps_its_spikes_and_a_smoothed_one_is_the_mean() -> None:
    low, mean, high = np.array([1.0, 1.0]), np.array([1.0, 3.0]), np.array([1.0, 9.0])
    rolled = Band(4, np.array([0, 4]), np.array([4, 4]), low, mean, high)
    drawn = figures.curve("u1", "run", rolled, np.array([0.0, 4.0]), np.array([3.0, 7.0]), 0.0)
    assert drawn.points.y.tolist() == [1, 1, 1, 9] and drawn.points.x.tolist() == [0, 3, 4, 7]
    assert drawn.mean.y.tolist() == [1, 3], "a group is made of means"
    smoothed = figures.curve("u1", "run", rolled, np.array([0.0, 4.0]), np.array([3.0, 7.0]), 0.5)
    assert smoothed.points.x.tolist() == [1.5, 5.5] and 1 < smoothed.points.y[1] < 3
    assert smoothed.raw.y.tolist() == [1, 1, 1, 9]


LOOK = ChartStyle("step", "mean ± standard deviation")
TWO = Points(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
THREE = Points(np.array([0.0, 1.0, 2.0]), np.array([3.0, 4.0, 5.0]))
SHORT, LONG = RunCurve("u1", "one", TWO, TWO, TWO), RunCurve("u2", "two", THREE, THREE, THREE)


def test_a_group_is_a_line_with_a_band_dotted_where_runs_have_ended() -> None:
    group = Entry("both", "both", (run(1), run(2)), "#0072B2", "solid", is_group=True)
    traces = figures.overlay([(group, [SHORT, LONG])], LOOK)["data"]
    assert [trace["uid"] for trace in traces] == ["both/band0", "both", "both/fewer"]
    assert traces[2]["line"]["dash"] == "dot" and "n = %{customdata[0]} of 2" in traces[1]["hovertemplate"]
    single = figures.overlay([(group, [SHORT])], LOOK)["data"]
    assert [trace["uid"] for trace in single] == ["both"], "a band is never drawn from one run"
    behind = figures.overlay([(group, [SHORT, LONG])], LOOK._replace(singles=True))["data"]
    assert {trace["meta"].get("group") for trace in behind} == {None, "both"}


def test_the_band_of_a_share_ends_where_a_share_does() -> None:
    x = np.array([0.0, 1.0])
    curves = [RunCurve(key, key, *[Points(x, np.array(y))] * 3) for key, y in (("a", [0.0, 1.0]), ("b", [0.1, 0.9]))]
    group = Entry("both", "both", (run(1), run(2)), "#0072B2", "solid", is_group=True)
    for share in (True, False):
        drawn = figures.overlay([(group, curves)], LOOK._replace(share=share, spread="mean ± standard deviation"))
        told = np.frombuffer(base64.b64decode(drawn["data"][1]["customdata"]["bdata"]), np.float32).reshape(2, 3)
        assert ((told[:, 1:] >= 0) & (told[:, 1:] <= 1)).all() == share


def test_raw_values_lie_behind_few_smoothed_runs() -> None:
    entry = Entry("u1", "one", (run(1),), "#0072B2", "solid")
    traces = figures.overlay([(entry, [SHORT])], LOOK._replace(smoothed=True))["data"]
    assert [trace["uid"] for trace in traces] == ["u1/raw", "u1"]
    many = [(entry, [SHORT])] * (figures.RAW + 1)
    assert not [t for t in figures.overlay(many, LOOK._replace(smoothed=True))["data"] if t["uid"] == "u1/raw"]


def test_names_are_no_markup_in_a_figure() -> None:
    entry = Entry("u1", "<b>x</b>", (run(1),), "#0072B2", "solid")
    drawn = figures.overlay([(entry, [SHORT._replace(label="<b>x</b>")])], LOOK)["data"]
    assert drawn[0]["name"] == "&lt;b&gt;x&lt;/b&gt;"
