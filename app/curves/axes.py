"""One x axis for many runs: steps, time, tokens or examples seen. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from app.shared.conditions import examples_per_step, running_tokens
from store.db.rows import Clock, RunDetail

Floats = npt.NDArray[np.float64]
Kind = Literal["step", "time", "tokens", "examples"]
KINDS: tuple[Kind, ...] = ("step", "time", "tokens", "examples")
UNITS = ((7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


class Scale(NamedTuple):
    """Knots that map one run's steps to positions on the axis; both increase."""

    steps: Floats
    places: Floats

    def place(self, step: npt.ArrayLike) -> Floats:
        return np.interp(np.asarray(step, float), self.steps, self.places)

    def step(self, place: float) -> float:
        return float(np.interp(place, self.places, self.steps))


class SharedAxis(NamedTuple):
    """The axis of all runs; without `scales`, positions are steps. With them, runs without one are not on the axis."""

    title: str
    scales: Mapping[int, Scale] | None = None

    def has(self, run_id: int) -> bool:
        return self.scales is None or run_id in self.scales

    def place(self, run_id: int, step: npt.ArrayLike) -> Floats:
        return np.asarray(step, float) if self.scales is None else self.scales[run_id].place(step)

    def step(self, run_id: int, place: float) -> int:
        return max(0, round(place if self.scales is None else self.scales[run_id].step(place)))

    def steps(self, run_ids: Sequence[int], lo: float, hi: float) -> tuple[int, int]:
        """Return the first and last step of any run between two positions."""
        placed = [run_id for run_id in run_ids if self.has(run_id)]
        if not placed:
            return 0, 0
        return min(self.step(each, lo) for each in placed), max(self.step(each, hi) for each in placed)


def axis(kind: Kind, clocks: Mapping[int, Clock], runs: Sequence[RunDetail]) -> SharedAxis:
    """Return the axis; time starts at each run's first step, and tokens continue where a run was resumed."""
    if kind == "time":
        elapsed = {id: np.maximum.accumulate(clock.at - clock.at[0]) for id, clock in clocks.items()}
        longest = max((float(each[-1]) for each in elapsed.values()), default=0.0)
        _, size, unit = next(each for each in UNITS if longest >= each[0])
        return SharedAxis(
            f"time ({unit})", {id: Scale(clocks[id].step.astype(float), at / size) for id, at in elapsed.items()}
        )
    if kind == "tokens":
        has_tokens = {id: np.isfinite(clock.tokens) for id, clock in clocks.items()}
        scales = {
            id: Scale(clocks[id].step[mask].astype(float), running_tokens(clocks[id].tokens[mask]))
            for id, mask in has_tokens.items()
            if mask.any()
        }
        return SharedAxis("tokens", scales)
    if kind == "examples":
        each_step = {run.id: examples_per_step(run) for run in runs}
        ends = {run.id: float(max(run.step, run.max_steps or 0, 1)) for run in runs}
        scales = {
            id: Scale(np.array([0.0, ends[id]]), np.array([0.0, ends[id] * count]))
            for id, count in each_step.items()
            if count
        }
        return SharedAxis("training examples seen", scales)
    return SharedAxis("step")
