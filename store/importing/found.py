"""A run as another tool left it. What its files do not say stays absent: no seed, count, answer or time is made up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from store import trl_keys

LAST_STEP = 2**31 - 1
"""A step is a whole number up to this one; others are damage."""
LONGEST_NAME = 200
STEP_KEY = "global_step"
"""Under it transformers tells its own step to trackers that count theirs."""
_END = "train_runtime"
_ROUNDING = 1e-3


class Said(NamedTuple):
    """A completion as a trainer logged it."""

    prompt: str
    text: str
    rewards: dict[str, float | None]
    advantage: float | None
    group: int | None = None
    """Number within the step; None where it cannot be told."""


@dataclass
class FoundRun:
    """Filled by a reader, step by step."""

    identity: str
    """Equal whenever the same run is read again, from wherever."""
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[int, dict[str, float | None]] = field(default_factory=dict)
    at: dict[int, float] = field(default_factory=dict)
    """When a step was logged, in seconds since the epoch."""
    completions: dict[int, list[Said]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Sentences that a reader of the run must know."""
    _tells_steps: bool = False
    """Whether entries tell the trainer's own step; then the tracker's count means nothing."""

    def add(self, step: object, values: Mapping[str, object], at: object = None) -> None:
        """Adds the numbers of one log entry to a step; the summary at the end of a training is left out."""
        known = {_plain(name): number for name, value in values.items() if (number := as_number(value)) is not None}
        own = known.pop(STEP_KEY, None)
        if own is not None and not self._tells_steps:
            self._tells_steps = True
            self.metrics.clear()
            self.at.clear()
        place = as_step(own if self._tells_steps else step)
        if place is None or _END in known:
            return
        row = {
            trl_keys.metric_name(name): None if math.isnan(number) else number
            for name, number in known.items()
            if name not in trl_keys.SKIPPED and not name.startswith("_")
        }
        if row:
            self.metrics.setdefault(place, {}).update(row)
            if (when := as_number(at)) is not None and math.isfinite(when):
                self.at[place] = when

    @property
    def method(self) -> str:
        """`grpo` where groups were compared, `sft` where TRL's SFT logged, else `unknown`."""
        names = {name for row in self.metrics.values() for name in row}
        if self.completions or "frac_reward_zero_std" in names:
            return "grpo"
        return "sft" if "mean_token_accuracy" in names else "unknown"

    def weights(self) -> dict[str, float]:
        """The weights under which the logged components add up to the logged reward at every step.

        Empty where they cannot be told: too few steps, components that never part, or a sum that is not met.
        """
        rows = [row for row in self.metrics.values() if row.get("reward") is not None]
        names = sorted({name for row in rows for name in row if _is_component(name)})
        table = np.array([[row.get(name) for name in names] for row in rows], float)
        total = np.array([row["reward"] for row in rows], float)
        if not names or len(rows) <= len(names) or not np.isfinite(table).all():
            return {}
        solved, _, rank, _ = np.linalg.lstsq(table, total, rcond=1e-6)
        off = np.abs(table @ solved - total).max()
        if rank < len(names) or off > _ROUNDING * max(1.0, np.abs(total).max()):
            return {}
        return {
            name.removeprefix("reward/"): float(f"{weight:.3g}") for name, weight in zip(names, solved, strict=True)
        }


def printable(name: str) -> str:
    """A name without what a screen obeys or hides: controls, direction marks, characters of no width."""
    return "".join(each for each in name if each.isprintable())[:LONGEST_NAME]


def _plain(name: str) -> str:
    return printable(name.removeprefix("train/"))


def _is_component(name: str) -> bool:
    return name.startswith("reward/") and not name.endswith("/std")


def as_number(value: object) -> float | None:
    """The number, NaN included, as trackers write it; None for anything else."""
    if value in ("NaN", "Infinity", "-Infinity"):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 1e300 else math.nan


def as_step(value: object) -> int | None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= LAST_STEP
        or value != int(value)
    ):
        return None
    return int(value)
