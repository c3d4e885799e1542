"""Summarize the completions of one step. Pure functions.

Every value is a sum or a count, so that steps can be merged by addition.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from store.db.rows import CompletionRow, TraceFields
from store.db.values import finite

SAME = 1e-6
"""Rewards that differ by less count as equal, as they give no gradient."""
UNREAD = "none"
"""Replaces the answer of completions without a readable count."""
LIVENESS = ("accuracy", "style", "right", "wrong", "live", "dead")
"""Kinds of groups: live with right and wrong answers; live otherwise; dead with only right answers; dead otherwise. The
last two are live and dead groups whose answers were not judged."""
_NUMBER = re.compile(r"[0-9]+")


def summarize(rows: Sequence[CompletionRow], truths: Mapping[int, int | None]) -> dict[str, Any]:
    """Summarize one step's completions; `truths` has the true count by example id.

    Counts of completions: `n`, `wellformed`, `truncated`, `judged` (known to be right or wrong), `right`, `stepped`
    (with a counted step), `several` (more than one answer) and `distinct` (texts). Among well-formed ones whose true
    count is known: `compared` counts them, `over` counts those with more steps than the true count, and `listed` and
    `true` are the sums of steps and true counts. Histograms that map values to numbers of completions:
    `reasoning_steps`, `tokens`, `answers`, `truths`. For groups of two or more: `groups` by LIVENESS. Sums over all
    groups: `variance` of the reward and, by component, `covariance` of its unweighted value with the reward.
    """
    wellformed_truths = [
        (row, truths.get(row.example_id)) for row in rows if row.wellformed and row.example_id is not None
    ]
    compared = [(row.reasoning_steps, truth) for row, truth in wellformed_truths if truth is not None]
    questions = [truths.get(row.example_id) for row in rows if row.example_id is not None]
    return {
        "n": len(rows),
        "wellformed": sum(row.wellformed for row in rows),
        "truncated": sum(row.truncated for row in rows),
        "judged": sum(row.correct is not None for row in rows),
        "right": sum(row.correct is True for row in rows),
        "stepped": sum(row.reasoning_steps > 0 for row in rows),
        "several": sum(map(answers_twice, rows)),
        "distinct": len({row.text for row in rows}),
        "compared": len(compared),
        "over": sum(steps > truth for steps, truth in compared),
        "listed": sum(steps for steps, _ in compared),
        "true": sum(truth for _, truth in compared),
        "reasoning_steps": Counter(row.reasoning_steps for row in rows),
        "tokens": Counter(row.tokens for row in rows if row.tokens is not None),
        "answers": Counter(UNREAD if row.answer is None else row.answer for row in rows),
        "truths": Counter(truth for truth in questions if truth is not None),
        **_of_groups(rows),
    }


def answers_twice(row: CompletionRow) -> bool:
    """Return whether a text gives several counts, in several answer blocks or in one that cannot be parsed."""
    if row.answer_span is None:
        return row.text.count("<answer>") > 1
    return row.answer is None and len(_NUMBER.findall(row.text, *row.answer_span)) > 1


def _of_groups(rows: Sequence[CompletionRow]) -> dict[str, Any]:
    groups: dict[tuple[int, int], list[CompletionRow]] = defaultdict(list)
    for row in rows:
        if row.group is not None and finite(row.reward) is not None:
            groups[row.generation, row.group].append(row)
    covariance: dict[str, float] = defaultdict(float)
    variance = 0.0
    for members in groups.values():
        rewards = [row.reward or 0.0 for row in members]
        mean = sum(rewards) / len(rewards)
        for row, reward in zip(members, rewards, strict=True):
            share = (reward - mean) / len(members)
            variance += share * reward
            for name, value in row.rewards.items():
                covariance[name] += share * (finite(value) or 0.0)
    compared = [members for members in groups.values() if len(members) > 1]
    return {"groups": Counter(map(liveness, compared)), "variance": max(0.0, variance), "covariance": covariance}


def liveness(group: Sequence[CompletionRow]) -> str:
    """Return the LIVENESS of a group of at least two completions, all with a reward."""
    verdicts = {row.correct for row in group}
    if None in verdicts:
        return "dead" if is_dead(group) else "live"
    if is_dead(group):
        return "right" if verdicts == {True} else "wrong"
    return "accuracy" if {True, False} <= verdicts else "style"


def is_dead(group: Sequence[TraceFields]) -> bool:
    """Return whether a group gives no gradient: at least two rewards are known, and all are equal."""
    rewards = [row.reward for row in group if finite(row.reward) is not None]
    return len(rewards) > 1 and not differ(rewards)


def differ(rewards: Iterable[float | None]) -> bool:
    """Return whether the known rewards of a group differ."""
    present = [reward for reward in map(finite, rewards) if reward is not None]
    return len(present) > 1 and max(present) - min(present) >= SAME


def right_share(rows: Sequence[TraceFields]) -> float | None:
    """Return the share of right answers among those known to be right or wrong; None if there are none."""
    judged = [row.correct for row in rows if row.correct is not None]
    return sum(judged) / len(judged) if judged else None
