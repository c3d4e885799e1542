"""Milestones and findings: each on its own pattern, none on noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.emergence import crossings, findings, milestones
from app.emergence.crossings import Level
from app.emergence.findings import HeldOut
from store.completions.emergence import Emergence
from store.db.rows import EvaluationRow
from tests import emerging
from tests.emerging import ramp

STEPS = 200


def kinds(found: Emergence, reward: np.ndarray | None = None, *tested: HeldOut) -> list[str]:
    flat = np.ones(len(found.step)) if reward is None else reward
    return [finding.kind for finding in findings.findings(found, flat, tested)]


def healthy(seed: int = 0) -> Emergence:
    """Form, then steps, then accuracy, as in a run that learns."""
    return emerging.run(
        STEPS,
        seed=seed,
        wellformed=ramp(STEPS, 5, 50, 0.2, 0.97),
        stepped=ramp(STEPS, 10, 60, 0.1, 0.95),
        right=ramp(STEPS, 10, 120, 0.3, 0.9),
        tokens=ramp(STEPS, 10, 70, 20, 45),
        excess=ramp(STEPS, 0, 60, -1.5, -0.05),
    )


PATTERNS: dict[str, Callable[[], Emergence]] = {
    "padding": lambda: emerging.run(
        STEPS,
        wellformed=ramp(STEPS, 5, 50, 0.2, 0.97),
        over=ramp(STEPS, 50, 100, 0.05, 0.3),
        excess=ramp(STEPS, 50, 100, -0.1, 0.5),
        right=ramp(STEPS, 5, 60, 0.3, 0.6),
    ),
    "flat": lambda: emerging.run(STEPS, wellformed=ramp(STEPS, 20, 60, 0.2, 0.98), right=0.4),
    "shotgun": lambda: emerging.run(STEPS, several=ramp(STEPS, 60, 100, 0.0, 0.3)),
    "same_answer": lambda: emerging.run(STEPS, same=ramp(STEPS, 60, 120, 0.0, 0.9)),
    "dead": lambda: emerging.run(STEPS, wrong=ramp(STEPS, 60, 120, 0.02, 0.5)),
    "collapse": lambda: emerging.run(STEPS, wellformed=0.8, tokens=ramp(STEPS, 80, 120, 60, 15)),
}


@pytest.mark.parametrize("kind", PATTERNS)
def test_each_finding_comes_with_its_own_pattern_only(kind: str) -> None:
    found = PATTERNS[kind]()
    assert kinds(found) == [kind]
    (finding,) = findings.findings(found, np.ones(STEPS), [])
    assert 1 < finding.since < finding.now == STEPS


def curve(accuracy: list[float], n: float = 200.0) -> HeldOut:
    return HeldOut("validation", np.linspace(0, STEPS, len(accuracy)), np.array(accuracy), np.full(len(accuracy), n))


def test_reward_up_and_held_out_accuracy_down_is_a_finding() -> None:
    found, reward = emerging.run(STEPS), np.linspace(1, 3, STEPS)
    assert kinds(found, reward, curve([0.1, 0.6, 0.8, 0.5])) == ["divergence"]
    assert kinds(found, reward, curve([0.1, 0.6, 0.8, 0.78])) == []
    assert kinds(found, reward, curve([0.1, 0.6, 0.8, 0.5], n=10.0)) == []
    assert kinds(found, reward[::-1], curve([0.1, 0.6, 0.8, 0.5])) == []


# Derandomized: noise makes a milestone in two of a thousand runs, and that would be no error.
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    steps=st.integers(0, 120),
    seed=st.integers(0, 10**6),
    wellformed=st.floats(0, 1),
    stepped=st.floats(0, 1),
    right=st.floats(0, 1),
    over=st.floats(0, 1),
    excess=st.floats(-2, 2),
    several=st.floats(0, 0.5),
    wrong=st.floats(0, 1),
    tokens=st.floats(5, 200),
)
def test_nothing_is_found_in_levels_that_only_tremble(steps: int, seed: int, **levels: float) -> None:
    found = emerging.run(steps, seed=seed, **levels)
    noise = np.random.default_rng(seed).normal(1, 0.2, steps)
    assert kinds(found, noise, curve([0.5, 0.55, 0.5, 0.52])) == []
    assert [one.kind for one in milestones.milestones(found) if one.kind != "length"] == []


@pytest.mark.parametrize("seed", range(5))
def test_a_run_that_learns_shows_its_milestones_and_nothing_else(seed: int) -> None:
    found = healthy(seed)
    assert kinds(found, np.linspace(0, 2, STEPS), curve([0.1, 0.6, 0.85, 0.9])) == []
    by_kind = {one.kind: one for one in milestones.milestones(found)}
    assert set(by_kind) == {"format", "steps", "accuracy", "length"}
    assert by_kind["format"].step == pytest.approx(42, abs=8)
    assert by_kind["steps"].step == pytest.approx(26, abs=8)
    assert 5 < by_kind["accuracy"].step < 50
    assert by_kind["length"].step == pytest.approx(60, abs=12)


@pytest.mark.parametrize("seed", range(5))
def test_a_rise_shorter_than_a_window_is_marked_where_it_happens(seed: int) -> None:
    rise = {
        name: ramp(STEPS, 10, 18, low, 0.97) for name, low in {"wellformed": 0.1, "stepped": 0.02, "right": 0.1}.items()
    }
    found = emerging.run(STEPS, seed=seed, tokens=ramp(STEPS, 10, 18, 30, 50), **rise)
    steps = {one.kind: one.step for one in milestones.milestones(found)}
    assert 12 <= steps["steps"] <= 16 and 15 <= steps["format"] <= 20
    assert 9 <= steps["accuracy"] <= 14 and 14 <= steps["length"] <= 20


def test_milestones_come_in_order_with_numbers_and_steps_around_them() -> None:
    found = milestones.milestones(healthy())
    assert [one.step for one in found] == sorted(one.step for one in found)
    for one in found:
        assert one.before < one.step < one.after
        assert any(sign.isdigit() for sign in one.measured)
        assert "{" not in one.rule


def test_of_a_run_read_in_part_milestones_count_its_steps_not_what_was_read() -> None:
    whole = healthy()
    part = replace(whole, step=whole.step * 4, every=4)
    for one, other in zip(milestones.milestones(whole), milestones.milestones(part), strict=True):
        assert other.step == 4 * one.step
        assert "80 steps" in other.rule and "20 steps" in one.rule
        assert one.kind == "length" or "in the 80 from here on" in other.measured


def test_what_was_lost_again_did_not_come_to_stay() -> None:
    shares = np.concatenate([ramp(100, 10, 40, 0.2, 0.95), ramp(100, 20, 60, 0.95, 0.4)])
    assert "format" not in [one.kind for one in milestones.milestones(emerging.run(STEPS, wellformed=shares))]


def test_nothing_is_said_of_a_run_that_has_hardly_begun() -> None:
    found = emerging.run(crossings.ENOUGH - 1, wellformed=ramp(crossings.ENOUGH - 1, 5, 10, 0, 1))
    assert milestones.milestones(found) == []
    assert kinds(found) == []


def test_a_crossing_is_the_first_window_from_which_the_curve_stays() -> None:
    curve = np.array([0.0] * 10 + [1.0] * 10)
    assert crossings.first_crossing(curve, 0.9, size=2, slack=0.1) == 10
    assert crossings.first_crossing(curve, 0.9, size=5, slack=0.0) == 10
    assert crossings.first_crossing(curve[::-1], 0.9, size=2, slack=0.1) is None
    assert crossings.first_crossing(np.ones(20), 0.9, size=2, slack=0.1) is None
    assert crossings.first_crossing(np.empty(0), 0.9, size=2, slack=0.1) is None


@settings(deadline=None)
@given(values=st.lists(st.none() | st.floats(-5, 5), max_size=30), size=st.integers(1, 8))
def test_forward_means_leave_out_what_is_missing(values: list[float | None], size: int) -> None:
    curve = np.array([np.nan if value is None else value for value in values], float)
    means = crossings.forward_mean(curve, size)
    assert len(means) == max(0, len(curve) - size + 1)
    for start, mean in enumerate(means):
        known = [value for value in curve[start : start + size] if value == value]
        np.testing.assert_allclose(mean, np.mean(known) if known else np.nan, atol=1e-9)


def test_a_level_knows_how_sure_it_is() -> None:
    assert crossings.level(np.array([1.0, 3.0, np.nan]), 0, 3) == Level(2.0, 1.0)
    assert crossings.level(np.array([1.0]), 0, 3) == Level(1.0, np.inf)
    assert not crossings.has_risen(Level(0.0, np.inf), Level(9.0, 0.1), 1.0)
    assert crossings.has_risen(Level(0.0, 0.1), Level(9.0, 0.1), 1.0)


def test_held_out_accuracy_comes_from_validations_and_probes() -> None:
    def evaluation(kind: str, step: int, done: int, **figures: float) -> EvaluationRow:
        return EvaluationRow(step, 1, "b", "val", kind, step, {}, "", None, done, done, figures, 0.0, 1.0)

    found = findings.held_out(
        [
            evaluation("val", 0, 200, exact_match=0.1),
            evaluation("probe", 0, 120, accuracy=0.2),
            evaluation("probe", 10, 120),
            evaluation("test", 20, 400, exact_match=0.9),
        ],
        probe_samples=4,
    )
    assert [(one.name, one.step.tolist(), one.accuracy.tolist(), one.n.tolist()) for one in found] == [
        ("validation", [0.0], [0.1], [200.0]),
        ("probe", [0.0], [0.2], [24.0]),
    ]
