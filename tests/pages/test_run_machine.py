"""The machine's curves and the code of a run on the Run page, and both in the difference of two runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from streamlit.testing.v1 import AppTest

from app.run import machine
from app.shared import data
from store.db.engine import Store
from store.db.rows import Clock, Series
from store.surroundings.code import Source, add_code
from store.surroundings.machine import Readings, add_samples
from tests import seeded

Open = Callable[..., AppTest]


def words(app: AppTest) -> str:
    return "\n".join(each.value for each in (*app.markdown, *app.caption)).replace("\\", "")


def test_the_machine_tab_says_why_it_is_empty_and_then_draws(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    assert "No readings" in words(open_page("run", run=run.uid, tab="Machine"))
    for second in range(0, 300, 10):
        add_samples(seeded_store, run.id, seeded.NOW + second, {"cpu": 1.0, "gpu0/use": 0.5, "gpu1/use": 0.9})
    data.forget()
    app = open_page("run", run=run.uid, tab="Machine")
    assert "**GPU utilization**" in words(app) and "**CPU (cores)**" in words(app)
    assert "GPU power" not in words(app) and "Time per step: generation" in words(app)


def test_phases_lie_back_to_back_before_the_moment_of_their_step() -> None:
    clock = Clock(np.array([1, 2]), np.array([100.0, 120.0]), np.array([1.0, 2.0]))
    times = {
        "time/generation": Series(np.array([1, 2]), np.array([6.0, 4.0]), 2),
        "time/update": Series(np.array([1, 2]), np.array([2.0, np.nan]), 2),
    }
    found = [(phase.name, phase.begin, phase.end) for phase in machine.phases(clock, times)]
    assert found == [("generation", 92.0, 98.0), ("update", 98.0, 100.0), ("generation", 116.0, 120.0)]
    many = Clock(np.arange(500), np.arange(500.0), np.arange(500.0))
    assert machine.phases(many, {"time/update": Series(np.arange(500), np.ones(500), 500)}) == []
    assert machine.shares(times).startswith("Time per step: generation 71 %, update 29 %")


def test_a_line_breaks_where_the_run_was_paused() -> None:
    at = np.array([0.0, 10, 20, 1000, 1010])
    line = machine._line("x", Readings(at, at, at, at), 0.0, 1.0, 1.0, "#000")
    assert np.isnan(line.y).sum() == 1 and np.isnan(line.y[3]) and line.low is None
    assert len(machine._line("x", Readings(*(np.array([5.0]),) * 4), 0.0, 1.0, 1.0, "#000").y) == 1


def test_code_is_shown_and_compared(seeded_store: Store, open_page: Open) -> None:
    first, second = (seeded.find(seeded_store, name) for name in ("shapes-grpo", "shapes-sft"))
    change = "diff --git a/t.py b/t.py\n--- a/t.py\n+++ b/t.py\n@@ -1 +1 @@\n-x = 1\n+x = 2"
    add_code(seeded_store, first.id, Source("a" * 40, ("t.py",), change))
    add_code(seeded_store, second.id, Source("b" * 40))
    app = open_page("run", run=first.uid, tab="Config")
    assert "commit aaaaaaaaaaaa. 1 file changed since." in words(app)
    assert any("+x = 2" in each.value for each in app.code)
    app = open_page("curves", runs=f"{first.uid},{second.uid}", difference="true")
    rows = next(each.value for each in app.dataframe if "area" in each.value)
    own = rows[rows["area"] == "code"].set_index("field")
    assert own.loc["commit"].tolist()[1:] == ["a" * 12, "b" * 12]
    assert own.loc["t.py"].tolist()[1].startswith("+1 −1 (")
