"""Turn a run's story into the rows of its chart. Pure functions."""

from __future__ import annotations

import numpy as np

from app.emergence.figures import EmergenceCurve, Heat, Row
from app.emergence.reasoning import MATCHES
from app.emergence.story import Story, Texts
from app.shared.data_needs import (
    COUNTED,
    FORM,
    GROUPS,
    JUDGED,
    LENGTHS,
    REWARDS,
    TAGS,
    THINKING,
    TRUE_COUNTS,
    Parts,
    allows,
)
from app.shared.figures import BLUE, GREEN, GREY, ORANGE, PALETTE, PURPLE, SKY, VERMILLION, Floats, Mark
from store.completions.emergence import MOST_STEPS, Emergence, thinned

POINTS = 250
"""Maximum entries along the axis; steps are merged beyond that."""
FLAG_COLORS = {"format": BLUE, "steps": GREEN, "accuracy": ORANGE, "length": PURPLE}
HELD_OUT_COLORS = {"validation": VERMILLION, "probe": PURPLE}
LIVELINESS = {
    "accuracy": ("live: accuracy", BLUE),
    "style": ("live: style only", ORANGE),
    "wrong": ("dead: not all right", VERMILLION),
    "right": ("dead: all right", GREY),
    "live": ("live", BLUE),
    "dead": ("dead", VERMILLION),
}
"""Label and colour by kind of group; the last two are for groups whose answers were not judged."""
PARTS: Parts = {
    "format": (FORM,),
    "reasoning steps": (THINKING,),
    "accuracy": (JUDGED,),
    "length": (LENGTHS,),
    "entropy of the answers": (COUNTED,),
    "true counts": (TRUE_COUNTS,),
    "several answers": (TAGS,),
    "groups": (REWARDS, GROUPS),
    "what drives the policy": (REWARDS, GROUPS),
}
"""What each part of the chart needs."""
MATCHED = {
    "hit": ("matched", GREEN),
    "repeated": ("repeated", PURPLE),
    "beside": ("not asked for", SKY),
    "invented": ("does not exist", VERMILLION),
    "missed": ("missed", GREY),
}


def rows(story: Story, read: Texts, other: Story | None) -> list[Row]:
    """Return the rows for one run, overlaid with the other run's curves where possible."""
    samples, has = thinned(story.samples, POINTS), story.has
    beside = None if other is None else thinned(other.samples, POINTS)
    is_grouped = allows(has, REWARDS, GROUPS)
    outcome, matches = _outcome(story, samples, other, beside), _matches(read)
    made = [
        Row("Format, reasoning, accuracy", outcome, "share", tall=1.7) if outcome else None,
        _steps(samples, beside) if allows(has, THINKING) else None,
        _length(samples, beside) if allows(has, LENGTHS) else None,
        Row("Answers (bits)", _answers(story, samples, beside)) if allows(has, COUNTED) else None,
        Row("Texts", _texts(story, samples, read), "share"),
        Row("Groups", _groups(samples), "stacked share") if is_grouped else None,
        Row("What drives the policy", _movers(story, samples), "stacked share") if is_grouped else None,
        Row("Steps and objects per trace", matches, "stacked") if matches else None,
    ]
    return [row for row in made if row is not None]


def flags(story: Story) -> list[Mark]:
    return [
        Mark(one.step, f"{one.title} · {one.step}", one.measured, FLAG_COLORS[one.kind]) for one in story.milestones
    ]


def _outcome(story: Story, samples: Emergence, other: Story | None, beside: Emergence | None) -> list[EmergenceCurve]:
    curves = []
    for run, each in ((story, samples), (other, beside)):
        if run is None or each is None:
            continue
        dotted, x = run is not story, each.step.astype(float)
        shares = (
            ("well-formed", each.share("wellformed"), BLUE, FORM),
            ("numbered steps", each.share("stepped"), GREEN, THINKING),
            ("right, sampled", each.share("right", "judged"), ORANGE, JUDGED),
        )
        curves += [
            EmergenceCurve(name, x, y, color, dotted) for name, y, color, need in shares if allows(run.has, need)
        ]
        curves += [
            EmergenceCurve(f"right, {held.name}", held.step, held.accuracy, HELD_OUT_COLORS[held.name], dotted, True)
            for held in run.held_out
        ]
    return _with_legend(curves)


def _steps(samples: Emergence, beside: Emergence | None) -> Row:
    max_steps = int(np.flatnonzero(samples.reasoning_steps.sum(axis=0)).max(initial=1))
    heat = Heat(
        samples.step.astype(float),
        np.arange(max_steps + 1.0),
        _shares(samples.reasoning_steps)[: max_steps + 1],
        "reasoning steps",
    )
    x = samples.step.astype(float)
    curves = [
        EmergenceCurve("mean of all", x, samples.mean_steps, VERMILLION),
        EmergenceCurve("mean of well-formed", x, _per_compared(samples, "listed"), GREEN),
        EmergenceCurve("their true count", x, _per_compared(samples, "true"), GREY),
    ]
    if beside is not None:
        curves.append(EmergenceCurve("mean", beside.step.astype(float), beside.mean_steps, VERMILLION, True))
    title = f"Reasoning steps per completion{f' ({MOST_STEPS}: or more)' if max_steps == MOST_STEPS else ''}"
    return Row(title, _with_legend(curves), heat=heat, tall=1.7)


def _length(samples: Emergence, beside: Emergence | None) -> Row:
    last = int(np.flatnonzero(samples.tokens.sum(axis=0)).max(initial=0)) + 1
    middles = (np.arange(last) + 0.5) * samples.token_width
    heat = Heat(samples.step.astype(float), middles, _shares(samples.tokens)[:last], "tokens")
    curves = [EmergenceCurve("mean", samples.step.astype(float), samples.mean_tokens, VERMILLION)]
    if beside is not None:
        curves.append(EmergenceCurve("mean", beside.step.astype(float), beside.mean_tokens, VERMILLION, True))
    return Row("Length (tokens)", _with_legend(curves), heat=heat, tall=1.4)


def _answers(story: Story, samples: Emergence, beside: Emergence | None) -> list[EmergenceCurve]:
    x = samples.step.astype(float)
    curves = [EmergenceCurve("entropy of the answers", x, samples.answer_entropy, BLUE)]
    if allows(story.has, TRUE_COUNTS):
        curves.append(EmergenceCurve("entropy of the true counts", x, samples.truth_entropy, GREY))
    if beside is not None:
        curves.append(
            EmergenceCurve("entropy of the answers", beside.step.astype(float), beside.answer_entropy, BLUE, True)
        )
    return _with_legend(curves)


def _texts(story: Story, samples: Emergence, read: Texts) -> list[EmergenceCurve]:
    x = samples.step.astype(float)
    curves = [
        (EmergenceCurve("distinct", x, samples.share("distinct"), BLUE), ()),
        (EmergenceCurve("cut off", x, samples.share("truncated"), GREY), ()),
        (EmergenceCurve("several answers", x, samples.share("several"), PURPLE), (TAGS,)),
        (EmergenceCurve("too many steps", x, samples.share("over", "compared"), VERMILLION), (THINKING, TRUE_COUNTS)),
        (EmergenceCurve("last step agrees", read.step, read.ratio("agreeing", "stepped"), GREEN), (THINKING,)),
        (EmergenceCurve("answer first", read.step, read.ratio("early", "stepped"), ORANGE), (THINKING,)),
    ]
    return [curve for curve, needs in curves if allows(story.has, *needs)]


def _groups(samples: Emergence) -> list[EmergenceCurve]:
    shares = samples.liveness()
    occurring = [kind for kind in LIVELINESS if samples.groups[kind].any()]
    curves = [(*LIVELINESS[kind], shares[kind]) for kind in occurring]
    return [EmergenceCurve(name, samples.step.astype(float), share, color) for name, color, share in curves]


def _movers(story: Story, samples: Emergence) -> list[EmergenceCurve]:
    """Return the share of each reward component; one that works against the reward counts as 0."""
    weights = story.run.reward_weights
    parts = {name: np.maximum(share, 0) for name, share in samples.movers(weights).items() if weights.get(name)}
    total = np.sum(list(parts.values()), axis=0) if parts else np.zeros(0)
    x = samples.step.astype(float)
    return [
        EmergenceCurve(name, x, parts[name] / np.where(total > 0, total, np.nan), PALETTE[i % len(PALETTE)])
        for i, name in enumerate(weights)
        if name in parts
    ]


def _matches(read: Texts) -> list[EmergenceCurve]:
    if not any(each.matched for each in read.readings):
        return []
    return [
        EmergenceCurve(MATCHED[kind][0], read.step, read.ratio(kind, "matched"), MATCHED[kind][1]) for kind in MATCHES
    ]


def _with_legend(curves: list[EmergenceCurve]) -> list[EmergenceCurve]:
    """Mark the other run's curves in their names, for hover texts."""
    return [curve._replace(name=f"{curve.name}, other run") if curve.dotted else curve for curve in curves]


def _per_compared(samples: Emergence, part: str) -> Floats:
    return samples.share(part, "compared")


def _shares(table: Floats) -> Floats:
    """Turn (steps, values) counts into (values, steps) shares of each step."""
    total = table.sum(axis=1, keepdims=True)
    return np.asarray((table / np.maximum(total, 1)).T)
