"""Findings about a run: patterns that often mean that the policy found a shortcut instead of reasoning.

They are evidence, not alarms: each states what was measured and since when. Pure functions of a run's curves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.emergence import crossings
from app.emergence.crossings import Floats, Level, has_risen, level
from app.emergence.milestones import format_locked_at
from store.completions.emergence import Emergence
from store.db.rows import EvaluationRow, Series

FLAT = 0.05
"""Smaller changes in accuracy count as none."""
LEARNT = 0.7
"""Accuracy above which a plateau is expected."""
SMALL_GAIN = 0.1
PADDED = 0.15
EXCESS = 0.1
COLLAPSED = 0.6
SHOTGUN = 0.1
DEAD = 0.2
SAME_ANSWER, BEYOND_TRUTH = 0.6, 0.25


class Finding(NamedTuple):
    """`sentence` states what was measured; the traces of the steps `since` and `now` show it."""

    kind: str
    title: str
    sentence: str
    since: int
    now: int


class HeldOut(NamedTuple):
    """Greedy accuracy on held-out examples; arrays by step."""

    name: str
    step: Floats
    accuracy: Floats
    n: Floats


def held_out(evaluations: Sequence[EvaluationRow], probe_samples: int) -> list[HeldOut]:
    """Return accuracy in a run's finished validations and probes; a probe also samples each example `probe_samples`
    times.
    """
    curves = []
    for kind, name, figure, copies in (
        ("val", "validation", "exact_match", 1),
        ("probe", "probe", "accuracy", 1 + probe_samples),
    ):
        rows = [row for row in evaluations if row.kind == kind and row.metrics.get(figure) is not None and row.done]
        if rows:
            columns = [(row.step, row.metrics[figure], row.done / copies) for row in rows]
            curves.append(HeldOut(name, *np.array(columns, float).T))
    return curves


def at_steps(curve: Series, steps: NDArray[Any]) -> Floats:
    """Return the curve's value at each of the steps, NaN without any values."""
    is_known = np.isfinite(curve.value)
    if not is_known.any():
        return np.full(len(steps), np.nan)
    return np.interp(steps, curve.step[is_known], curve.value[is_known])


def findings(samples: Emergence, reward: Floats, held_out_curves: Sequence[HeldOut]) -> list[Finding]:
    """Return a run's findings, most serious first; `reward` has an entry for each step of `samples`."""
    if len(samples.step) < crossings.ENOUGH:
        return []
    rules: tuple[Callable[[], Finding | None], ...] = (
        lambda: next((each for curve in held_out_curves if (each := diverging_accuracy(samples, reward, curve))), None),
        lambda: padded_steps(samples),
        lambda: flat_accuracy(samples),
        lambda: several_answers(samples),
        lambda: same_answer(samples),
        lambda: dead_groups(samples),
        lambda: length_collapse(samples),
    )
    return [finding for rule in rules if (finding := rule()) is not None]


def diverging_accuracy(samples: Emergence, reward: Floats, held_out_curve: HeldOut) -> Finding | None:
    """Find a rising training reward while held-out accuracy falls from its peak, both beyond noise."""
    if len(held_out_curve.step) < 3:
        return None
    best, last = int(np.argmax(held_out_curve.accuracy)), len(held_out_curve.step) - 1
    shares, n = held_out_curve.accuracy[[best, last]], held_out_curve.n[[best, last]]
    fall = shares[0] - shares[1]
    # The peak is the maximum of several noisy values, so the error is taken for both points.
    error = float(np.sqrt((shares * (1 - shares) / n).sum())) * np.sqrt(2)
    start, size = _entry(samples, held_out_curve.step[best]), crossings.width(len(samples.step))
    before, after = level(reward, min(start, len(reward) - size), size), _now(reward)
    if fall < FLAT or fall <= crossings.SURE * error or not has_risen(before, after, 0.0):
        return None
    return Finding(
        "divergence",
        "Training reward up, held-out accuracy down",
        f"Reward {before.mean:.2f} → {after.mean:.2f} since step {held_out_curve.step[best]:.0f}, while greedy "
        f"accuracy ({held_out_curve.name}) fell from {shares[0]:.0%} to {shares[1]:.0%} of {n[1]:.0f}.",
        int(held_out_curve.step[best]),
        int(samples.step[-1]),
    )


def padded_steps(samples: Emergence) -> Finding | None:
    """Find traces that permanently have more steps than objects to count, without better answers."""
    excess, over, right = samples.excess, samples.share("over", "compared"), samples.share("right", "judged")
    at, size = _since(samples, excess, EXCESS, slack=EXCESS), crossings.width(len(samples.step))
    if at is None or len(samples.step) - at < 2 * size:
        return None
    before, now, all_since = level(right, at, size), _now(right), level(excess, at, len(excess))
    listed = level(over, at, len(over))
    if listed.mean < PADDED or not has_risen(_first(excess), all_since, EXCESS) or now.mean - before.mean > SMALL_GAIN:
        return None
    return _finding(
        samples,
        at,
        ("padding", "More steps than objects"),
        f"{listed.mean:.0%} of well-formed traces list more steps than the true count ({all_since.mean:+.2f} on "
        f"average), while the share of right answers went from {before.mean:.0%} to {now.mean:.0%}.",
    )


def flat_accuracy(samples: Emergence) -> Finding | None:
    """Find a format that has been locked in for a while without a change in accuracy."""
    at, size = format_locked_at(samples), crossings.width(len(samples.step))
    right = samples.share("right", "judged")
    if at is None or len(samples.step) - at < 3 * size:
        return None
    before, now = level(right, max(0, at - size // 2), size), _now(right)
    gain = now.mean - before.mean
    if now.mean > LEARNT or gain + 2 * np.hypot(before.error, now.error) > 2 * FLAT or gain > FLAT:
        return None
    return _finding(
        samples,
        at,
        ("flat", "Format locked in, accuracy flat"),
        f"{_now(samples.share('wellformed')).mean:.0%} well-formed, while the share of right answers went from "
        f"{before.mean:.0%} to {now.mean:.0%} in {samples.step[-1] - samples.step[at] + 1} steps.",
    )


def several_answers(samples: Emergence) -> Finding | None:
    """Find a rising share of completions with several answers."""
    several = samples.share("several")
    now = _now(several)
    if now.mean < SHOTGUN or not has_risen(_first(several), now, SHOTGUN - 0.02):
        return None
    return _finding(
        samples,
        _since(samples, several, SHOTGUN, slack=SHOTGUN / 2),
        ("shotgun", "Several answers at once"),
        f"{now.mean:.0%} of completions give several answers, up from {_first(several).mean:.0%} at the start.",
    )


def same_answer(samples: Emergence) -> Finding | None:
    """Find one answer that is given much more often than it is right."""
    top, truth = _now(samples.top_answer), _now(samples.top_truth)
    if not (top.mean >= SAME_ANSWER and top.mean - truth.mean >= BEYOND_TRUTH):
        return None
    return _finding(
        samples,
        _since(samples, samples.top_answer, SAME_ANSWER, slack=0.1),
        ("same_answer", "Always the same answer"),
        f"The most common answer makes up {top.mean:.0%} of a step's answers, the most common true count "
        f"{truth.mean:.0%}; entropy is {_now(samples.answer_entropy).mean:.1f} bits instead of "
        f"{_now(samples.truth_entropy).mean:.1f}.",
    )


def dead_groups(samples: Emergence) -> Finding | None:
    """Find a rising share of dead groups that are not all right; dead groups that are all right mean success."""
    wrong = samples.liveness()["wrong"]
    now = _now(wrong)
    if now.mean < DEAD or not has_risen(_first(wrong), now, 0.75 * DEAD):
        return None
    return _finding(
        samples,
        _since(samples, wrong, DEAD, slack=DEAD / 2),
        ("dead", "Dead groups rising"),
        f"In {now.mean:.0%} of groups ({_first(wrong).mean:.0%} at the start) all completions have the same reward "
        "and not all are right: the policy learns nothing from them.",
    )


def length_collapse(samples: Emergence) -> Finding | None:
    """Find reasoning that has shrunk to a fraction of the length that it had when well-formed."""
    size = crossings.width(len(samples.step))
    tokens = crossings.forward_mean(samples.mean_tokens, size)
    formed = crossings.forward_mean(samples.share("wellformed"), size)
    thinking = np.where(formed >= 0.5, tokens, np.nan)
    if not np.isfinite(thinking).any():
        return None
    at = int(np.nanargmax(thinking))
    peak, now = level(samples.mean_tokens, at, size), _now(samples.mean_tokens)
    if now.mean > COLLAPSED * peak.mean or not has_risen(now, peak, 1.0):
        return None
    return _finding(
        samples,
        at,
        ("collapse", "Length collapse"),
        f"{peak.mean:.0f} tokens per completion at step {samples.step[at]}, {now.mean:.0f} now; counted steps "
        f"{level(samples.mean_steps, at, size).mean:.1f} → {_now(samples.mean_steps).mean:.1f}.",
    )


def _finding(samples: Emergence, at: int | None, kind_and_title: tuple[str, str], sentence: str) -> Finding:
    return Finding(*kind_and_title, sentence, int(samples.step[at or 0]), int(samples.step[-1]))


def _first(curve: Floats) -> Level:
    return level(curve, 0, crossings.width(len(curve)))


def _now(curve: Floats) -> Level:
    size = crossings.width(len(curve))
    return level(curve, len(curve) - size, size)


def _since(samples: Emergence, curve: Floats, line: float, *, slack: float) -> int | None:
    return crossings.first_crossing(curve, line, size=crossings.width(len(samples.step)), slack=slack)


def _entry(samples: Emergence, step: float) -> int:
    return min(int(np.searchsorted(samples.step, step)), len(samples.step) - 1)
