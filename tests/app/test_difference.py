"""What differs between two runs, and where their curves part."""

from __future__ import annotations

import numpy as np
import pytest

from app.curves import rewards
from app.curves.bands import Points
from app.curves.difference import differences, divergence_step
from store.db.rows import Band, RunDetail

COMPONENTS = {
    "format": Band(1, np.array([1, 2]), np.array([1, 1]), *[np.array([0.0, 1.0])] * 3),
    "steps": Band(1, np.array([1, 2]), np.array([1, 1]), *[np.array([2.0, 4.0])] * 3),
}
STEPS = np.arange(1.0, 301.0)


def detail(**changed: object) -> RunDetail:
    fixed = dict.fromkeys(RunDetail.__dataclass_fields__) | {
        "dataset": "shapes-simple",
        "config": {"name": "a", "seed": 0, "lora": {"rank": 8}, "data": {"split": "train"}},
        "reward_weights": {"format": 1.0},
        "environment": {"packages": {"torch": "2.13"}},
        "sources": {"mine": {"hash": "abc", "text": "x"}},
    }
    return RunDetail(**(fixed | changed))


def test_only_what_differs_is_listed_by_its_area() -> None:
    assert differences(detail(), detail(config={**detail().config, "name": "b"})) == []
    other = detail(
        config={"seed": 1, "lora": {"rank": 16}, "data": {"split": "val"}},
        reward_weights={"format": 1.0, "steps": 0.5},
        environment={"packages": {"torch": "2.12"}},
        sources={"mine": {"hash": "def", "text": "y"}},
        prompt_hash="p",
    )
    found = [(row["area"], row["field"], row["first"], row["second"]) for row in differences(detail(), other)]
    assert found == [
        ("data", "data.split", "train", "val"),
        ("seeds", "seed", "0", "1"),
        ("configuration", "lora.rank", "8", "16"),
        ("rewards", "steps", "–", "0.5"),
        ("prompt", "hash", "–", "p"),
        ("code", "mine", "abc", "def"),
        ("versions and machine", "packages.torch", "2.13", "2.12"),
    ]


@pytest.mark.parametrize("seed", range(10))
def test_curves_part_where_one_leaves_the_noise_of_the_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (Points(STEPS, rng.normal(0, 0.1, len(STEPS))) for _ in range(2))
    assert divergence_step(one, other) is None
    leaves = Points(STEPS, other.y + np.where(STEPS > 150, 0.5, 0.0))
    found = divergence_step(one, leaves)
    assert found is not None and 135 <= found <= 155


def test_a_short_excursion_and_few_values_are_no_parting() -> None:
    rng = np.random.default_rng(0)
    one, other = (Points(STEPS, rng.normal(0, 0.1, len(STEPS))) for _ in range(2))
    other.y[100:110] += 0.4
    assert divergence_step(one, other) is None
    assert divergence_step(Points(STEPS[:9], np.zeros(9)), Points(STEPS[:9], np.ones(9))) is None
    assert divergence_step(Points(STEPS, np.zeros(300)), Points(STEPS, np.ones(300))) == 8


def test_runs_that_pay_differently_are_scored_as_most_of_them_are_paid() -> None:
    runs = [detail(id=id, reward_weights=weights) for id, weights in enumerate(({"a": 1.0}, {"b": 2.0}, {"b": 2.0}))]
    assert rewards.definition(runs) == {"b": 2.0}
    assert rewards.definition(runs[:2]) == {"a": 1.0}, "the oldest of equals"
    assert rewards.definition(runs[1:]) is None, "they agree"
    assert rewards.definition([runs[0], detail(id=9, reward_weights={})]) is None, "nothing is known of the other"
    assert rewards.total(COMPONENTS, {"format": 1.0, "steps": 0.5}).mean.tolist() == [1.0, 3.0]
    empty = COMPONENTS["steps"]._replace(step=np.empty(0, np.int64))
    assert not len(rewards.total(COMPONENTS | {"steps": empty}, {"format": 1.0, "steps": 0.5}).step)
