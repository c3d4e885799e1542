"""What scripts hand to the recorder of their own loop, told as Python, NumPy, torch and pandas tell it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sqlalchemy import text

from store.db.engine import Store, open_store
from trainer.record import vr1z
from trainer.record.direct import Database


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., Store]:
    """Return a function that records what `act` does with a run, and returns the database."""

    def record(act: Callable[[vr1z.Run], None] = lambda run: run.log(1, {"loss": 1.0}), **given: Any) -> Store:
        url = str(tmp_path / "runs.db")
        run = vr1z.Run(given.pop("name", "mine"), folder=tmp_path, dashboard=Database(url), **given)
        run.begin()
        act(run)
        run.finish()
        return open_store(url, readonly=True)

    return record


def rows(store: Store, query: str) -> list[tuple[Any, ...]]:
    with store.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


@pytest.mark.parametrize(
    "right",
    [
        [True, False],
        [np.True_, np.False_],
        [1, 0],
        np.array([1, 0]),
        np.array([True, False]),
        torch.tensor([1.0, 0.0]),
        torch.tensor([True, False]),
        pd.Series([True, False]),
        (x for x in (1.0, 0.0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_reward_is_a_number_whatever_says_so(right: Any, recorded: Callable[..., Store]) -> None:
    store = recorded(lambda run: run.group(1, "How many?", None, ["one", "two"], rewards={"right": right}))
    assert rows(store, "SELECT reward FROM completion ORDER BY id") == [(1.0,), (0.0,)]


@pytest.mark.parametrize("short", [[1.0], 0.5, np.float32(0.5), torch.tensor(0.5)], ids=repr)
def test_a_reward_that_does_not_fit_costs_only_itself(short: Any, recorded: Callable[..., Store]) -> None:
    def act(run: vr1z.Run) -> None:
        for step in (1, 2):
            run.group(
                step, "How many?", None, ["one", "two"], rewards={"good": [1, 2], "bad": short}, tokens=[3, pd.NA]
            )

    store = recorded(act)
    found = rows(store, "SELECT text, reward, tokens FROM completion ORDER BY id")
    assert found == [("one", 1.0, 3), ("two", 2.0, None)] * 2
    [(message,)] = rows(store, "SELECT message FROM event WHERE kind = 'recording_failed'")
    assert message.startswith("bad of a group is left out because it ")
    assert message.endswith(": pass a list with one entry per completion.")


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ({"correct": np.True_, "tokens": np.int64(3)}, (1, 3)),
        ({"correct": torch.tensor(False), "tokens": torch.tensor(3)}, (0, 3)),
        ({"correct": 1.0, "tokens": 3.0}, (1, 3)),
        ({"correct": float("nan"), "tokens": float("nan")}, (None, None)),
        ({"correct": pd.NA, "tokens": None}, (None, None)),
        ({"correct": "False", "tokens": "3"}, (None, None)),
    ],
)
def test_what_is_unknown_of_an_answer_is_absent(
    told: dict[str, Any], kept: tuple[Any, ...], recorded: Callable[..., Store]
) -> None:
    answers = [{"prompt": "How many?", "completion": "three", "answer": np.float64("nan"), **told}]
    store = recorded(lambda run: run.evaluation(2, "held out", answers))
    assert rows(store, "SELECT correct, tokens FROM prediction") == [kept]
    assert rows(store, "SELECT gold, columns FROM example") == [(None, None)]


PICTURES = {
    "bfloat16": torch.full((3, 40, 30), 0.5, dtype=torch.bfloat16),
    "bool": np.ones((40, 30), bool),
    "LAB": Image.new("LAB", (30, 40), (128, 128, 128)),
    "La": Image.new("LA", (30, 40), (128, 255)).convert("La"),
    "stack": np.full((1, 40, 30, 3), 128, np.uint8),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_of_any_kind_is_kept(kind: str) -> None:
    [data] = vr1z.question_of_row({"prompt": "How many?", "image": PICTURES[kind]}).images
    image = Image.open(io.BytesIO(data))
    assert image.size == (30, 40)
    assert abs(image.convert("L").getpixel((9, 9)) - (255 if kind == "bool" else 128)) < 12  # type: ignore[operator]


@pytest.mark.parametrize("url", ["localhost:8501", " http://localhost:8501/ "])
def test_an_address_needs_no_scheme(url: str) -> None:
    assert vr1z.Dashboard(url).url == "http://localhost:8501"
