"""A run as another tool recorded it. What its files do not say stays absent: nothing is made up."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from store.importing import trl_keys
from store.importing.names import LONGEST_NAME, plain, printable, stored_names

LAST_STEP = 2**31 - 1
"""The highest step number; anything else is damage, or counts something other than updates."""
STEP_KEYS = ("global_step", "trainer/global_step", "training/global_step")
"""Keys under which transformers, Lightning and verl log their own step to trackers that count steps themselves."""
CLOCK = ("_timestamp", "_step", "_runtime")
"""W&B's own time and step, logged beside every entry."""
END = "train_runtime"
SUMMARY = (END, "train_samples_per_second", "train_steps_per_second", "train_tokens_per_second", "train_loss")
"""Totals of a whole training in its last entry, which are no figures of that step."""
RLOO_SETTING = "normalize_advantages"
"""A setting that TRL's RLOO has, and no other method."""
DEEPEST = 6
"""Deepest nesting of figures."""
NAMED = 6
"""Most names that a sentence lists; the others are counted."""
WHOLE_SECONDS = 1.0
"""Tools record their start in whole seconds."""
_ROUNDING = 1e-3
_WRITTEN = re.compile(r"[+-]?[0-9]{1,30}(?:[.][0-9]{0,30})?(?:[eE][+-]?[0-9]{1,3})?")
"""A number that a log holds as text."""

# Reasons why a figure is not kept, or not as it was logged.
UNTOLD = "Left out, since the trainer had not told its step yet"
NO_STEP = f"Left out, since their step is no whole number from 0 to {LAST_STEP:,}"
NO_NUMBER = "Left out, since they are no numbers"
BOOKKEEPING = "Left out as bookkeeping of the tool or as a summary of the whole training"
PLACED = "Logged without the trainer's step and kept at the last one that it had told"
AGAIN = "Logged again at the same step, where the last value is kept"


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
    def asked(self) -> tuple[str, str]:
        """Return what tells examples apart: examples of one prompt may have other pictures, and so other answers."""
        return self.prompt, json.dumps(self.gold, sort_keys=True, default=str)


class Found(NamedTuple):
    """What a reader found at a path."""

    runs: list[FoundRun]
    unread: list[str]
    """A sentence for each file that could not be read."""


@dataclass
class FoundRun:
    """A run that a reader fills entry by entry under the tool's names; `settle` renames them to the store's."""

    identity: str
    """The same whenever the same run is read again, even from elsewhere or after it has grown."""
    name: str
    longer_names: tuple[str, ...] = ()
    """Alternative names in case another run has its name, best first."""
    begun: float | None = None
    """When its writer began, in seconds since the epoch."""
    own_steps: bool = True
    """Whether entries may contain the trainer's own step beside that of the tool."""
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[int, dict[str, float | None]] = field(default_factory=dict)
    at: dict[int, float] = field(default_factory=dict)
    """When a step was logged, in seconds since the epoch."""
    completions: dict[int, list[LoggedCompletion]] = field(default_factory=dict)
    answers: dict[int, list[LoggedCompletion]] = field(default_factory=dict)
    """Completions sampled to evaluate a step's weights, not to train them."""
    notes: list[str] = field(default_factory=list)
    """Sentences for whoever looks at the run."""
    left_out: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Names of left-out figures, by reason."""
    gone: set[int] = field(default_factory=set)
    """Steps of an earlier attempt that came after the point where the log went back."""
    told: int | None = None
    """The trainer's own step, once an entry contained it; from then on the tool's step is ignored."""
    uid: str | None = None
    """That of the run in the database which it is, if its identity does not say so any more."""
    named_method: str | None = None
    """The method that its files name."""

    def add(self, step: object, values: Mapping[str, object], at: object = None) -> None:
        """Add the numbers of one log entry to a step."""
        own, numbers = self._numbers(values)
        place = self._placed(step, own, numbers)
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
        """Return the trainer's own step, if it was logged, and the figures."""
        own, numbers = None, {}
        is_end = any(plain(name) == END for name in values)
        for name, value in _flat(values):
            number, short = as_number(value), plain(name)
            if self.own_steps and short in STEP_KEYS:
                own = number
            elif name in CLOCK:
                continue
            elif name.startswith("_") or short in trl_keys.SKIPPED or (is_end and short in SUMMARY):
                self.left_out[BOOKKEEPING][short] += 1
            elif number is not None:
                numbers[name] = number
            elif value is not None:
                self.left_out[NO_NUMBER][_with_kind(name, value)] += 1
        return own, numbers

    def _placed(self, step: object, own: float | None, names: Mapping[str, float]) -> int | None:
        """Return the step that an entry belongs to, or None if unknown."""
        if own is None and self.told is not None:
            self.left_out[PLACED].update(list(names))
            return self.told
        place = as_step(step if own is None else own)
        if place is None:
            self.left_out[NO_STEP].update(list(names))
        elif own is not None:
            self._tell(place)
        return place

    def _tell(self, step: int) -> None:
        if self.told is None:
            self._forget_untold()
        elif step < self.told:
            self.go_back(step)
        self.told = step

    def _forget_untold(self) -> None:
        """Drop what was filed under the tool's step: it cannot be placed once the trainer's own step is known."""
        for row in self.metrics.values():
            self.left_out[UNTOLD].update(list(row))
        self.metrics.clear()
        self.at.clear()

    def go_back(self, step: int) -> None:
        """Drop what an earlier attempt logged after `step`, where the next one began."""
        gone = {each for each in self.metrics if each > step}
        if not gone:
            return
        for each in gone:
            del self.metrics[each]
            self.at.pop(each, None)
        self.gone |= gone
        self.notes.append(
            f"An earlier attempt went on to step {max(gone):,}; what it logged after step {step:,} is left out "
            f"({counted(len(gone), 'step')}), since the log goes on from there."
        )

    def continue_with(self, later: FoundRun, restart: int | None = None) -> None:
        """Append what a later file says about the same run; `restart` is the first step it claims to repeat."""
        if self.told is None and later.told is not None:
            self._forget_untold()
        elif self.told is not None and later.told is None:
            later._place_at(self.told)
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
        self.told = self.told if later.told is None else later.told
        self.name, self.longer_names = later.name, later.longer_names

    def _where_begins(self, later: FoundRun) -> int | None:
        """Return the step at which a later attempt began, if it is not where this one ended.

        A writer that began before this one ended wrote in parallel; one that logged other figures is not an attempt.
        """
        if later.begun is not None and self.at and later.begun + WHOLE_SECONDS < max(self.at.values()):
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
        """Rename the metrics to the store's names, and turn what was left out into notes."""
        names = stored_names(name for row in self.metrics.values() for name in row)
        self.metrics = {step: {names[name]: value for name, value in row.items()} for step, row in self.metrics.items()}
        long = [stored for name, stored in names.items() if len(printable(name)) > LONGEST_NAME]
        if long:
            self.notes.append(f"Names of more than {LONGEST_NAME} characters keep both ends only: {listed(long)}.")
        for reason, counts in self.left_out.items():
            if not counts:
                continue
            self.notes.append(f"{reason}: {listed([each(name, n) for name, n in counts.items()])}.")
        self.left_out.clear()

    @property
    def method(self) -> str:
        """Return what the files name, else `grpo` if groups were compared, `sft` if TRL's SFT logged, or `unknown`."""
        if self.named_method is not None:
            return self.named_method
        if RLOO_SETTING in self.config:
            return "rloo"
        names = {name for row in self.metrics.values() for name in row}
        if self.completions or self.answers or "frac_reward_zero_std" in names:
            return "grpo"
        return "sft" if "mean_token_accuracy" in names else "unknown"

    def weights(self) -> dict[str, float]:
        """Infer the weights with which the logged components add up to the logged reward at every step.

        Empty if they cannot be inferred: too few steps, components that never differ, or a sum that does not match.
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


def counted(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def each(name: str, times: int) -> str:
    """Return a name with the number of its occurrences."""
    return printable(name) if times == 1 else f"{printable(name)} ({times:,} times)"


def listed(names: list[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _flat(values: Mapping[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    """Yield names and values, those in dicts as `outer/inner`; a dict with a `_type` is an object of a tracker."""
    for name, value in values.items():
        if isinstance(value, dict) and value and "_type" not in value and before.count("/") < DEEPEST:
            yield from _flat(value, f"{before}{name}/")
        else:
            yield f"{before}{name}", value


def _is_component(name: str) -> bool:
    return name.startswith("reward/") and not name.endswith("/std")


def _with_kind(name: str, value: object) -> str:
    """Return a name with its kind, as in `completions (table-file)`, since trackers store an object's kind."""
    kind = value.get("_type") if isinstance(value, dict) else None
    return f"{name} ({kind})" if isinstance(kind, str) else name


def as_number(value: object) -> float | None:
    """Return a tracker's spelling of a number, NaN included, as a float; None for anything else."""
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
