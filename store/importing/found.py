"""A run as another tool recorded it. Data that its files do not have stays absent; nothing is invented."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from store.importing import algorithms, trl_keys
from store.importing.names import LONGEST_NAME, printable, stored_names, strip_prefix

LAST_STEP = 2**31 - 1
"""The highest step number; a higher one is damaged, or counts something other than updates."""
STEP_KEYS = ("global_step", "trainer/global_step", "training/global_step")
"""Keys under which transformers, Lightning and verl log their own step to trackers that count steps differently."""
CLOCK = ("_timestamp", "_step", "_runtime")
"""W&B's own time and step, which are in every entry."""
END = "train_runtime"
SUMMARY = (END, "train_samples_per_second", "train_steps_per_second", "train_tokens_per_second", "train_loss")
"""Totals of a whole training in its last entry, which are not metrics of that step."""
RLOO_SETTING = "normalize_advantages"
"""A setting that only TRL's RLOO has."""
DEEPEST = 6
"""Deepest nesting of metrics."""
NAMED = 6
"""Most names that a sentence lists; others are counted."""
WHOLE_SECONDS = 1.0
"""Tolerance, because tools record their start in whole seconds."""
_ROUNDING = 1e-3
_WRITTEN = re.compile(r"[+-]?[0-9]{1,30}(?:[.][0-9]{0,30})?(?:[eE][+-]?[0-9]{1,3})?")
"""A number that is logged as text."""

# Reasons why a metric is left out or changed.
UNTOLD = "Left out because the trainer had not logged its step yet"
NO_STEP = f"Left out because their step is not a whole number from 0 to {LAST_STEP:,}"
NO_NUMBER = "Left out because they are not numbers"
BOOKKEEPING = "Left out because they are the tool's own data or a summary of the whole training"
PLACED = "Logged without the trainer's step, and stored at the last step that it had logged"
AGAIN = "Logged several times at the same step, of which the last value is kept"


class LoggedCompletion(NamedTuple):
    """A completion as a trainer logged it."""

    prompt: str
    text: str
    rewards: dict[str, float | None]
    advantage: float | None
    group: int | None = None
    """Number within the step; None if unknown."""
    reward: float | None = None
    """Weighted sum, if the trainer logged it."""
    gold: Any = None
    """The gold answer, if the trainer logged it."""

    @property
    def prompt_key(self) -> tuple[str, str]:
        """Return the key that distinguishes examples: those with the same prompt may have other images and answers."""
        return self.prompt, json.dumps(self.gold, sort_keys=True, default=str)


class Found(NamedTuple):
    """The runs that a reader found at a path."""

    runs: list[FoundRun]
    unread: list[str]
    """One sentence per file that could not be read."""


@dataclass
class FoundRun:
    """A run that a reader fills entry by entry under the tool's names; `settle` changes these to the store's."""

    identity: str
    """Identity that stays the same when the run is read again, even from another place or after it has grown."""
    name: str
    longer_names: tuple[str, ...] = ()
    """Alternative names in case another run has the same name, best first."""
    started_at: float | None = None
    """When its writer started, in seconds since the epoch."""
    own_steps: bool = True
    """Whether entries may contain the trainer's step in addition to the tool's."""
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[int, dict[str, float | None]] = field(default_factory=dict)
    at: dict[int, float] = field(default_factory=dict)
    """When a step was logged, in seconds since the epoch."""
    completions: dict[int, list[LoggedCompletion]] = field(default_factory=dict)
    answers: dict[int, list[LoggedCompletion]] = field(default_factory=dict)
    """Completions sampled for an evaluation at a step, not for training."""
    notes: list[str] = field(default_factory=list)
    """Sentences that are shown with the run."""
    left_out: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Names of metrics that were left out or changed, by reason."""
    gone: set[int] = field(default_factory=set)
    """Steps of an earlier attempt after the step at which the log goes back."""
    last_step: int | None = None
    """The trainer's last logged step, if any; once there is one, the tool's step is ignored."""
    folder: Path | None = None
    """Where its files are, if they are its alone."""
    uid: str | None = None
    """Uid of the stored run, if the identity no longer tells it."""
    named_method: str | None = None
    """The method named in its files."""
    method_of_samples: str = "grpo"
    """The method of a run with samples if its files do not name one."""

    def add(self, step: object, values: Mapping[str, object], at: object = None) -> None:
        """Add the numbers of one log entry to a step."""
        logged_step, numbers = self._numbers(values)
        place = self._placed(step, logged_step, numbers)
        if place is None or not numbers:
            return
        row = self.metrics.setdefault(place, {})
        for name, number in numbers.items():
            value = None if math.isnan(number) else number
            if row.get(name, value) != value:
                self.left_out[AGAIN][name] += 1
            row[name] = value
        if (when := as_number(at)) is not None and math.isfinite(when):
            self.at[place] = when

    def _numbers(self, values: Mapping[str, object]) -> tuple[float | None, dict[str, float]]:
        """Return the trainer's own step, if it was logged, and the metrics."""
        logged_step, numbers = None, {}
        is_end = any(strip_prefix(name) == END for name in values)
        for name, value in _flat(values):
            number, short = as_number(value), strip_prefix(name)
            if self.own_steps and short in STEP_KEYS:
                logged_step = number
            elif name in CLOCK:
                continue
            elif name.startswith("_") or short in trl_keys.SKIPPED or (is_end and short in SUMMARY):
                self.left_out[BOOKKEEPING][short] += 1
            elif number is not None:
                numbers[name] = number
            elif value is not None:
                self.left_out[NO_NUMBER][_with_kind(name, value)] += 1
        return logged_step, numbers

    def _placed(self, step: object, logged_step: float | None, names: Mapping[str, float]) -> int | None:
        """Return the step of an entry, or None if it is unknown."""
        if logged_step is None and self.last_step is not None:
            self.left_out[PLACED].update(list(names))
            return self.last_step
        place = as_step(step if logged_step is None else logged_step)
        if place is None:
            self.left_out[NO_STEP].update(list(names))
        elif logged_step is not None:
            self._tell(place)
        return place

    def _tell(self, step: int) -> None:
        if self.last_step is None:
            self._forget_untold()
        elif step < self.last_step:
            self.go_back(step)
        self.last_step = step

    def _forget_untold(self) -> None:
        """Drop values stored under the tool's step, which cannot be assigned once the trainer's own step is known."""
        for row in self.metrics.values():
            self.left_out[UNTOLD].update(list(row))
        self.metrics.clear()
        self.at.clear()

    def go_back(self, step: int) -> None:
        """Drop what an earlier attempt logged after `step`, where the next attempt began."""
        gone = {later_step for later_step in self.metrics if later_step > step}
        if not gone:
            return
        for later_step in gone:
            del self.metrics[later_step]
            self.at.pop(later_step, None)
        self.gone |= gone
        self.notes.append(
            f"An earlier attempt reached step {max(gone):,}; what it logged after step {step:,} is left out "
            f"({pluralize(len(gone), 'step')}), because the log continues from there."
        )

    def continue_with(self, later: FoundRun, restart: int | None = None) -> None:
        """Append a later file of the same run; `restart` is the first step that it claims to repeat."""
        if self.last_step is None and later.last_step is not None:
            self._forget_untold()
        elif self.last_step is not None and later.last_step is None:
            later._place_at(self.last_step)
        begins = self._where_begins(later) if restart is None else restart - 1
        if begins is not None:
            self.go_back(begins)
        for step, row in later.metrics.items():
            self.metrics[step] = self.metrics.get(step, {}) | row
        self.at |= later.at
        self.config |= later.config
        self.notes += later.notes
        for reason, names in later.left_out.items():
            self.left_out[reason].update(names)
        self.gone |= later.gone
        self.last_step = self.last_step if later.last_step is None else later.last_step
        self.name, self.longer_names = later.name, later.longer_names

    def _where_begins(self, later: FoundRun) -> int | None:
        """Return the step at which a later attempt began, unless it began where this one ended.

        A writer that started before this one ended ran in parallel; one with other metrics is not another attempt.
        """
        if later.started_at is not None and self.at and later.started_at + WHOLE_SECONDS < max(self.at.values()):
            return None
        shared = {name for row in self.metrics.values() for name in row}
        shared &= {name for row in later.metrics.values() for name in row}
        if not shared:
            return None
        first = min(step for step, row in later.metrics.items() if not shared.isdisjoint(row))
        last = max(step for step, row in self.metrics.items() if not shared.isdisjoint(row))
        return first if first < last else None

    def _place_at(self, step: int) -> None:
        rows = list(self.metrics.values())
        self.metrics, self.at = {}, {}
        for row in rows:
            self.left_out[PLACED].update(list(row))
            self.metrics[step] = self.metrics.get(step, {}) | row

    def settle(self) -> None:
        """Change metrics' names to the store's, and add notes on what was left out."""
        names = stored_names(name for row in self.metrics.values() for name in row)
        self.metrics = {step: {names[name]: value for name, value in row.items()} for step, row in self.metrics.items()}
        long = [stored for name, stored in names.items() if len(printable(name)) > LONGEST_NAME]
        if long:
            self.notes.append(
                f"Names of more than {LONGEST_NAME} characters are shortened to their beginning "
                f"and end: {list_names(long)}."
            )
        for reason, counts in self.left_out.items():
            if not counts:
                continue
            self.notes.append(f"{reason}: {list_names([each(name, n) for name, n in counts.items()])}.")
        self.left_out.clear()

    @property
    def method(self) -> str:
        """Return the method named in the files, or else that of their samples, `sft` for TRL's SFT, or `unknown`."""
        named = self.named_method or algorithms.algorithm(self.config)
        if named is not None:
            return named
        if RLOO_SETTING in self.config:
            return "rloo"
        names = {name for row in self.metrics.values() for name in row}
        if self.completions or self.answers or "frac_reward_zero_std" in names:
            return self.method_of_samples
        return "sft" if "mean_token_accuracy" in names else "unknown"

    def weights(self) -> dict[str, float]:
        """Infer the weights with which logged components add up to the logged reward at every step.

        Return no weights if there are too few steps, if components are constant, or if the sum does not match.
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


def pluralize(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def each(name: str, times: int) -> str:
    """Return a name with its number of occurrences."""
    return printable(name) if times == 1 else f"{printable(name)} ({times:,} times)"


def list_names(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _flat(values: Mapping[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    """Yield names and values, nested ones as `outer/inner`. A dict with a `_type` is a tracker's object."""
    for name, value in values.items():
        if isinstance(value, dict) and value and "_type" not in value and before.count("/") < DEEPEST:
            yield from _flat(value, f"{before}{name}/")
        else:
            yield f"{before}{name}", value


def _is_component(name: str) -> bool:
    return name.startswith("reward/") and not name.endswith("/std")


def _with_kind(name: str, value: object) -> str:
    """Return a name with the kind that trackers store for an object, as in `completions (table-file)`."""
    kind = value.get("_type") if isinstance(value, dict) else None
    return f"{name} ({kind})" if isinstance(kind, str) else name


def as_number(value: object) -> float | None:
    """Return a number in a tracker's format, including NaN, as a float; None for anything else."""
    if isinstance(value, str):
        if value in ("NaN", "Infinity", "-Infinity"):
            return math.nan
        value = float(value) if _WRITTEN.fullmatch(value) else None
    if not isinstance(value, int | float):
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
