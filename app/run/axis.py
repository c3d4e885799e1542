"""The x axis of a run's curves: steps, time or tokens. Pure functions of arrays."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from store.db.rows import Clock

Kind = Literal["step", "time", "tokens"]
_UNITS = ((7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


class Axis(NamedTuple):
    """Knots that map steps to positions on the axis, both increasing; without knots, a position is its step."""

    title: str
    steps: npt.NDArray[np.float64]
    places: npt.NDArray[np.float64]
    unit: float = 1.0
    """Seconds, tokens or steps per unit of the axis."""

    def place(self, step: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the positions of steps, clamped to the knots."""
        steps = np.asarray(step, dtype=float)
        return np.interp(steps, self.steps, self.places) if len(self.steps) else steps

    def step(self, place: float) -> int:
        """Return the step nearest to a position."""
        if not len(self.steps):
            return round(place)
        return int(self.steps[np.argmin(np.abs(self.places - place))])


def axis(kind: Kind, clock: Clock) -> Axis:
    """Return the axis; time starts at the first step, and an axis without data falls back to steps."""
    steps = clock.step.astype(float)
    if kind == "time" and len(steps):
        elapsed = np.maximum.accumulate(clock.at - clock.at[0])
        _, size, unit = next(each for each in _UNITS if elapsed[-1] >= each[0])
        return Axis(f"time ({unit})", steps, elapsed / size, size)
    if kind == "tokens" and np.isfinite(clock.tokens).any():
        has_tokens = np.isfinite(clock.tokens)
        return Axis("tokens", steps[has_tokens], np.maximum.accumulate(clock.tokens[has_tokens]))
    return Axis("step", np.empty(0), np.empty(0))


def step_at(clock: Clock, when: float) -> int:
    """Return the last step recorded by a time; 0 before the first."""
    before = int(np.searchsorted(clock.at, when, side="right"))
    return int(clock.step[before - 1]) if before else 0
