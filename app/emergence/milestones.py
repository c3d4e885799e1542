"""Milestones: the steps at which something emerged in a run, each with its rule and numbers. Pure functions.

A milestone is a curve that permanently crosses a line; what is true from the first step on has not emerged.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from app.emergence import crossings
from app.emergence.crossings import Floats, Level
from store.completions.emergence import Emergence

LOCKED, LOCKED_SLACK = 0.9, 0.1
STEPPED, STEPPED_SLACK = 0.5, 0.1
RISE = 0.05
SETTLED = 0.1


class Milestone(NamedTuple):
    """`before` and `after` are steps whose traces show the difference."""

    kind: str
    title: str
    step: int
    measured: str
    """The numbers, as a sentence."""
    rule: str
    """The rule that found it, as a sentence."""
    before: int
    after: int


def milestones(samples: Emergence) -> list[Milestone]:
    """Return the milestones that occurred, ordered by step."""
    if len(samples.step) < crossings.ENOUGH:
        return []
    candidates = (_format(samples), _numbered(samples), _accuracy(samples), _length(samples))
    return sorted((milestone for milestone in candidates if milestone is not None), key=lambda one: one.step)


def format_locked_at(samples: Emergence) -> int | None:
    """Return the index of the entry from which the format is locked in."""
    return first_above(samples.share("wellformed"), LOCKED, LOCKED_SLACK)


def first_above(curve: Floats, line: float, slack: float) -> int | None:
    """Return the index from which a curve stays above a line, if it rose there by more than noise explains."""
    size = crossings.width(len(curve))
    at = crossings.first_crossing(curve, line, size=size, slack=slack)
    if at is None or not crossings.has_risen(
        crossings.level(curve, 0, min(at, size)), crossings.level(curve, at, size), RISE
    ):
        return None
    return at


def _format(samples: Emergence) -> Milestone | None:
    return _milestone(
        samples,
        format_locked_at(samples),
        samples.share("wellformed"),
        ("format", "Format locked in", "Well-formed"),
        "where 90 % are well-formed, within the first {size} steps that average 90 %; no later {size} steps average "
        "below 80 %.",
    )


def _numbered(samples: Emergence) -> Milestone | None:
    stepped = samples.share("stepped")
    return _milestone(
        samples,
        first_above(stepped, STEPPED, STEPPED_SLACK),
        stepped,
        ("steps", "Numbered steps in half of the samples", "Completions with numbered steps"),
        "where 50 % have a counted reasoning step, within the first {size} steps that average 50 %; no later {size} "
        "steps average below 40 %.",
    )


def _accuracy(samples: Emergence) -> Milestone | None:
    right = samples.share("right", "judged")
    size = crossings.width(len(samples.step))
    start = crossings.level(right, 0, size)
    rise = max(RISE, crossings.SURE * start.error * np.sqrt(2))
    return _milestone(
        samples,
        crossings.first_crossing(right, start.mean + rise, size=size, slack=rise / 2),
        right,
        ("accuracy", "Accuracy begins to rise", "Right"),
        f"where the share of right answers is {100 * rise:.0f} points above that of the first {{size}} steps, within "
        "the first {size} steps that average so much; no later {size} steps lose half of that gain. Measured on "
        "training samples, not on held-out examples.",
    )


def _length(samples: Emergence) -> Milestone | None:
    size = crossings.width(len(samples.step))
    means = crossings.forward_mean(samples.mean_tokens, size)
    end = crossings.level(samples.mean_tokens, len(samples.step) - 2 * size, 2 * size)
    room = max(SETTLED * end.mean, crossings.SURE * end.error * np.sqrt(2))
    outside = np.flatnonzero(np.abs(means - end.mean) > room)
    at = int(outside[-1]) + 1 if len(outside) else None
    if at is None or at > len(samples.step) - 3 * size or not end.mean:
        return None
    # A rise that is shorter than a window ends within it.
    at += crossings.first_at(-np.abs(samples.mean_tokens[at:] - end.mean), -room, size)
    before = crossings.level(samples.mean_tokens, 0, size)
    return Milestone(
        "length",
        "Reasoning length settles",
        int(samples.step[at]),
        f"{before.mean:.0f} tokens per completion at first, {end.mean:.0f} from here on.",
        f"where the length comes within {100 * room / end.mean:.0f} % of its mean over the last "
        f"{2 * size * samples.every} steps; every average of {size * samples.every} steps from here on is within it.",
        *_steps_around(samples, at),
    )


def _milestone(
    samples: Emergence, at: int | None, curve: Floats, labels: tuple[str, str, str], rule: str
) -> Milestone | None:
    if at is None:
        return None
    kind, title, measure = labels
    size = crossings.width(len(samples.step))
    before, after = levels_around(curve, at, size)
    steps = size * samples.every
    return Milestone(
        kind,
        title,
        int(samples.step[at]),
        f"{measure}: {before.mean:.0%} in the {min(steps, at * samples.every)} steps before, "
        f"{after.mean:.0%} in the {steps} from here on.",
        rule.format(size=steps),
        *_steps_around(samples, at),
    )


def _steps_around(samples: Emergence, at: int) -> tuple[int, int]:
    """Return the steps that lie a third of a window before and after an entry."""
    away = max(1, crossings.width(len(samples.step)) // 3)
    return int(samples.step[max(0, at - away)]), int(samples.step[min(len(samples.step) - 1, at + away)])


def levels_around(curve: Floats, at: int, size: int) -> tuple[Level, Level]:
    """Return the levels of the window before an entry and of the window that starts at it."""
    start = max(0, at - size)
    return crossings.level(curve, start, at - start), crossings.level(curve, at, size)
