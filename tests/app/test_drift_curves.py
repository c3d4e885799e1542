"""Similarity over training and the map's axes, against computations of another kind."""

from __future__ import annotations

import numpy as np
import pytest

from app.drift import curves, projection
from app.drift.curves import Drift
from app.drift.figures import Trained, accuracy_plane, colors, similarity_chart
from app.shared.paths import Path
from store.db.rows import EvaluationRow, RunRow
from store.evaluations.texts import PredictionTexts

RANDOM = np.random.default_rng(7)
EXAMPLES, STEPS = 5, (0, 10, 20)


def units(n: int, dimension: int = 6) -> np.ndarray:
    vectors = RANDOM.normal(size=(n, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def drift() -> Drift:
    """One run of three evaluations, each answer another text; answers to example 0 are malformed."""
    n = EXAMPLES * len(STEPS)
    step = np.repeat(STEPS, EXAMPLES)
    example = np.tile(np.arange(EXAMPLES), len(STEPS))
    said = PredictionTexts(
        np.arange(n),
        np.ones(n, np.int64),
        step + 100,
        step,
        example + 50,
        np.zeros(n, np.int64),
        example % 2 == 0,
        np.full(n, 9.0),
        [f"text {i}" for i in range(n)],
        [None if e == 0 else (0, 4) for e in example.tolist()],
    )
    references = np.stack([*units(EXAMPLES - 1), np.full(6, np.nan, np.float32)])
    return Drift(
        said,
        said.text,
        np.arange(n),
        units(n),
        units(1)[0],
        np.arange(EXAMPLES) + 50,
        example,
        references,
        units(EXAMPLES),
    )


def test_similarity_to_the_reference_is_the_cosine_of_each_pair(drift: Drift) -> None:
    rows = curves.rows_of(drift, [110, 120])
    assert rows.tolist() == list(range(EXAMPLES, 3 * EXAMPLES))
    for row, found in zip(rows.tolist(), curves.to_reference(drift, rows), strict=True):
        example = row % EXAMPLES
        own = drift.null if example == 0 else drift.vectors[row]
        if example == EXAMPLES - 1:
            assert np.isnan(found)  # it has no reference
        else:
            assert found == pytest.approx(sum(a * b for a, b in zip(own, drift.references[example], strict=True)))


def test_similarity_to_other_answers_is_that_of_the_same_example(drift: Drift) -> None:
    rows, base = curves.rows_of(drift, [100, 110, 120]), curves.rows_of(drift, [100])
    found = curves.to_answers(drift, rows, base[1:])
    for row, cosine in zip(rows.tolist(), found, strict=True):
        if row % EXAMPLES == 0:
            assert np.isnan(cosine)  # the base said nothing of it
        else:
            assert cosine == pytest.approx(float(drift.vectors[row] @ drift.vectors[row % EXAMPLES]), abs=1e-6)
    assert np.isnan(curves.to_answers(drift, rows, base[:0])).all()


def test_only_greedy_answers_count(drift: Drift) -> None:
    sampled = drift._replace(answers=drift.answers._replace(sample=np.arange(len(drift.answers.sample)) % 2))
    assert (curves.rows_of(sampled, [100, 110, 120]) % 2 == 0).all()


def test_spread_is_mean_and_percentiles_of_each_step() -> None:
    step = np.array([0, 0, 0, 5, 5, 9])
    curve = curves.spread(step, np.array([0.1, 0.2, 0.9, np.nan, 0.4, np.nan]))
    assert curve.step.tolist() == [0, 5] and curve.n.tolist() == [3, 1]
    assert curve.mean.tolist() == pytest.approx([0.4, 0.4])
    # Linear between the ranks: 0.1 + 0.2 * 0.1 and 0.2 + 0.8 * 0.7.
    assert (curve.low[0], curve.high[0]) == pytest.approx((0.12, 0.76))
    assert len(curves.spread(step, np.full(6, np.nan)).step) == 0


def test_accuracy_has_an_interval_at_each_step() -> None:
    curve = curves.accuracy(np.array([0, 0, 5, 5]), np.array([True, False, True, True]))
    assert curve.mean.tolist() == [0.5, 1.0]
    assert (curve.low < curve.mean).all() and (curve.high[0], curve.high[1]) == (pytest.approx(0.905, abs=1e-3), 1.0)


def test_floor_and_ceiling() -> None:
    references, seconds = units(8), units(8)
    expected = np.mean([references[i] @ references[j] for i in range(8) for j in range(8) if i != j])
    assert curves.floor(references) == pytest.approx(float(expected), abs=1e-6)
    expected = np.mean([seconds[i] @ references[i] for i in range(8)])
    assert curves.ceiling(references, seconds) == pytest.approx(float(expected), abs=1e-6)
    none = np.full((3, 6), np.nan, np.float32)
    assert curves.floor(none) is None and curves.ceiling(none, none) is None
    assert curves.ceiling(references, np.concatenate([seconds[:7], none[:1]])) is None


def evaluation(id: int, kind: str, step: int, benchmark: str = "d", ended_at: float | None = 9.0) -> EvaluationRow:
    return EvaluationRow(id, 1, benchmark, "val", kind, step, {}, "", None, 1, 1, {}, 1.0, ended_at)


def test_the_latest_finished_evaluation_of_a_step_counts() -> None:
    rows = [
        evaluation(1, "val", 0),
        evaluation(2, "val", 10),
        evaluation(3, "val", 10),
        evaluation(4, "val", 10, ended_at=None),
        evaluation(5, "probe", 20),
        evaluation(6, "val", 20, benchmark="another"),
    ]
    assert curves.checkpoints(rows[::-1], "val", "d") == [1, 3]


def test_axes_are_those_of_the_singular_values() -> None:
    vectors = units(40) * np.array([3, 1, 2, 0.5, 0.1, 0.1], np.float32)
    weight = RANDOM.integers(1, 5, 40)
    axes = projection.fit(vectors, weight)
    repeated = np.repeat(vectors, weight, axis=0)
    centred = repeated - repeated.mean(axis=0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    assert axes.explained == pytest.approx(values[:2] ** 2 / (values**2).sum(), abs=1e-5)
    for found, expected in zip(axes.components, directions[:2], strict=True):
        assert abs(found @ expected) == pytest.approx(1, abs=1e-4)
        assert found[np.abs(found).argmax()] > 0
    assert np.abs(projection.project(axes, repeated)) == pytest.approx(np.abs(centred @ directions[:2].T), abs=1e-4)


def test_the_same_cloud_lies_the_same_way_however_it_is_listed() -> None:
    vectors, weight = units(30), np.ones(30, np.int64)
    order = RANDOM.permutation(30)
    first, second = projection.fit(vectors, weight), projection.fit(vectors[order], weight)
    assert np.allclose(projection.project(first, vectors)[order], projection.project(second, vectors[order]), atol=1e-5)


def test_equal_texts_have_a_map_too() -> None:
    axes = projection.fit(np.repeat(units(1), 4, axis=0), np.ones(4, np.int64))
    assert np.isfinite(projection.project(axes, units(3))).all() and axes.explained.max() <= 1


def test_nearest_are_those_of_a_full_sort() -> None:
    vectors = units(30)
    vectors[4] = np.nan
    among = np.arange(0, 30, 2)
    found = projection.nearest(vectors, 6, among, 5)
    cosines = {i: float(vectors[i] @ vectors[6]) for i in among.tolist() if i not in (4, 6)}
    assert [i for i, _ in found] == sorted(cosines, key=lambda i: -cosines[i])[:5]
    assert [cosine for _, cosine in found] == pytest.approx([cosines[i] for i, _ in found])


def test_figures_show_runs_levels_and_steps() -> None:
    curve = curves.spread(np.array([0, 0, 10, 10]), np.array([0.1, 0.3, 0.6, 0.8]))
    right = curves.accuracy(np.array([0, 10]), np.array([False, True]))
    figure = similarity_chart([Trained("<b>a", "#0072B2", "solid", curve, right)], {"floor": 0.4})
    names = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert names == ["&lt;b&gt;a", "&lt;b&gt;a, right"]
    assert [shape.y0 for shape in figure.layout.shapes] == [0.4]
    assert figure.layout.annotations[0].text == "floor 0.40"
    path = Path("a", "grpo", 0, [0, 1, 2, 10], [0.1, 0.11, 0.5, 0.9], [0.2, 0.2, 0.2, 0.6])
    drawn = accuracy_plane([(path, "#0072B2")], {"base": 0.2})
    assert sorted(int(step) for step in drawn.data[1].text) == [0, 2, 10]  # 1 lies on 0


def test_runs_of_one_method_have_different_colours() -> None:
    runs = [
        RunRow(**dict.fromkeys(RunRow.__dataclass_fields__) | {"id": id, "method": method})
        for id, method in enumerate(["sft", "grpo", "grpo", "none", "foreign"])
    ]
    assert len(set(colors(runs).values())) == len(runs)
