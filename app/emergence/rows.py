"""Turn a run's story into the rows of its score. Pure functions."""

from __future__ import annotations

import numpy as np

from app.emergence.figures import Curve, Heat, Row
from app.emergence.reasoning import MATCHES
from app.emergence.story import Story, Texts
from app.shared.figures import BLUE, GREEN, GREY, ORANGE, PALETTE, PURPLE, SKY, VERMILLION, Floats, Mark
from store.completions.emergence import MOST_STEPS, Emergence, thinned
from store.trace import form_of

POINTS = 250
"""Entries along the axis; more steps are merged."""
FLAG_COLORS = {"format": BLUE, "steps": GREEN, "accuracy": ORANGE, "length": PURPLE}
HELD_OUT_COLORS = {"validation": VERMILLION, "probe": PURPLE}
GROUPS = {
    "accuracy": ("live: accuracy", BLUE),
    "style": ("live: style only", ORANGE),
    "wrong": ("dead: not right", VERMILLION),
    "right": ("dead: all right", GREY),
}
MATCHED = {
    "hit": ("hit", GREEN),
    "repeated": ("named again", PURPLE),
    "beside": ("not asked for", SKY),
    "invented": ("not there", VERMILLION),
    "missed": ("missed", GREY),
}


def rows(story: Story, read: Texts, other: Story | None) -> list[Row]:
    """Return the rows for one run, overlaid with those of the other run's curves that allow it."""
    found = thinned(story.found, POINTS)
    beside = None if other is None else thinned(other.found, POINTS)
    numbered = form_of(story.run.style, story.run.grammar) == "cot"
    made = [
        Row("Form, reasoning, accuracy", _outcome(story, found, other, beside), "share", tall=1.7),
        *([_steps(found, beside)] if numbered else []),
        _length(found, beside),
        Row("Answers (bits)", _answers(found, beside)),
        Row("Texts", _texts(found, read), "share"),
        Row("Groups", _groups(found), "stacked share"),
        Row("Why the policy moves", _movers(story, found), "stacked share"),
    ]
    matches = _matches(read)
    return [*made, Row("Steps and objects, a trace", matches, "stacked")] if matches else made


def flags(story: Story) -> list[Mark]:
    return [
        Mark(one.step, f"{one.title} · {one.step}", one.measured, FLAG_COLORS[one.kind]) for one in story.milestones
    ]


def _outcome(story: Story, found: Emergence, other: Story | None, beside: Emergence | None) -> list[Curve]:
    curves = []
    for run, each in ((story, found), (other, beside)):
        if run is None or each is None:
            continue
        dotted, x = run is not story, each.step.astype(float)
        curves += [
            Curve("well-formed", x, each.share("wellformed"), BLUE, dotted),
            Curve("numbered steps", x, each.share("stepped"), GREEN, dotted),
            Curve("right, sampled", x, each.share("right", "judged"), ORANGE, dotted),
        ]
        curves += [
            Curve(f"right, {held.name}", held.step, held.accuracy, HELD_OUT_COLORS[held.name], dotted, True)
            for held in run.held_out
        ]
    return _named(curves)


def _steps(found: Emergence, beside: Emergence | None) -> Row:
    most = int(np.flatnonzero(found.reasoning_steps.sum(axis=0)).max(initial=1))
    heat = Heat(
        found.step.astype(float), np.arange(most + 1.0), _shares(found.reasoning_steps)[: most + 1], "reasoning steps"
    )
    x = found.step.astype(float)
    curves = [
        Curve("mean of all", x, found.mean_steps, VERMILLION),
        Curve("mean of well-formed", x, _per(found, "listed"), GREEN),
        Curve("true count there", x, _per(found, "true"), GREY),
    ]
    if beside is not None:
        curves.append(Curve("mean", beside.step.astype(float), beside.mean_steps, VERMILLION, True))
    title = f"Reasoning steps a completion{f' ({MOST_STEPS}: or more)' if most == MOST_STEPS else ''}"
    return Row(title, _named(curves), heat=heat, tall=1.7)


def _length(found: Emergence, beside: Emergence | None) -> Row:
    last = int(np.flatnonzero(found.tokens.sum(axis=0)).max(initial=0)) + 1
    middles = (np.arange(last) + 0.5) * found.token_width
    heat = Heat(found.step.astype(float), middles, _shares(found.tokens)[:last], "tokens")
    curves = [Curve("mean", found.step.astype(float), found.mean_tokens, VERMILLION)]
    if beside is not None:
        curves.append(Curve("mean", beside.step.astype(float), beside.mean_tokens, VERMILLION, True))
    return Row("Length (tokens)", _named(curves), heat=heat, tall=1.4)


def _answers(found: Emergence, beside: Emergence | None) -> list[Curve]:
    x = found.step.astype(float)
    curves = [
        Curve("entropy of the answers", x, found.answer_entropy, BLUE),
        Curve("of the true counts", x, found.truth_entropy, GREY),
    ]
    if beside is not None:
        curves.append(Curve("entropy of the answers", beside.step.astype(float), beside.answer_entropy, BLUE, True))
    return _named(curves)


def _texts(found: Emergence, read: Texts) -> list[Curve]:
    x = found.step.astype(float)
    return [
        Curve("distinct", x, found.share("distinct"), BLUE),
        Curve("cut off", x, found.share("truncated"), GREY),
        Curve("several answers", x, found.share("several"), PURPLE),
        Curve("too many steps", x, found.share("over", "compared"), VERMILLION),
        Curve("last step agrees", read.step, read.ratio("agreeing", "stepped"), GREEN),
        Curve("answer first", read.step, read.ratio("early", "stepped"), ORANGE),
    ]


def _groups(found: Emergence) -> list[Curve]:
    shares = found.liveness()
    return [Curve(name, found.step.astype(float), shares[kind], color) for kind, (name, color) in GROUPS.items()]


def _movers(story: Story, found: Emergence) -> list[Curve]:
    """Return the movers' curves; a component that goes against the reward moves nothing and counts as 0."""
    weights = story.run.reward_weights
    parts = {name: np.maximum(share, 0) for name, share in found.movers(weights).items() if weights.get(name)}
    total = np.sum(list(parts.values()), axis=0) if parts else np.zeros(0)
    x = found.step.astype(float)
    return [
        Curve(name, x, parts[name] / np.where(total > 0, total, np.nan), PALETTE[i % len(PALETTE)])
        for i, name in enumerate(weights)
        if name in parts
    ]


def _matches(read: Texts) -> list[Curve]:
    if not any(each.matched for each in read.readings):
        return []
    return [Curve(MATCHED[kind][0], read.step, read.ratio(kind, "matched"), MATCHED[kind][1]) for kind in MATCHES]


def _named(curves: list[Curve]) -> list[Curve]:
    """Label the other run's curves as such, for hover texts."""
    return [curve._replace(name=f"{curve.name}, other run") if curve.dotted else curve for curve in curves]


def _per(found: Emergence, part: str) -> Floats:
    return found.share(part, "compared")


def _shares(table: Floats) -> Floats:
    """Turn (steps, values) counts into (values, steps) shares of each step."""
    total = table.sum(axis=1, keepdims=True)
    return np.asarray((table / np.maximum(total, 1)).T)
