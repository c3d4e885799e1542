"""What the parts of a page need from a run, and the line that says what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import streamlit as st

from app.shared import format
from store.contents import Answers, Contents
from store.db.rows import RunDetail, RunRow
from store.recording.records import RECORDED
from store.trace import Form


class Need(NamedTuple):
    """A fact that a part of a page needs, and the clause that says that a run lacks it."""

    is_met: Callable[[Contents], bool]
    reason: str


FORM = Need(lambda has: has.form != "none", "its texts have no required format")
THINKING = Need(lambda has: has.form == "cot", "its texts have no think tags")
TAGS = Need(lambda has: has.form in ("cot", "direct"), "its texts have no answer tags")
JUDGED = Need(lambda has: has.answers.judged, "none of its answers was judged right or wrong")
COUNTED = Need(lambda has: has.answers.counted, "no answer could be read as a count")
REWARDS = Need(lambda has: has.answers.rewarded, "no rewards were recorded")
LENGTHS = Need(lambda has: has.answers.lengths, "no token counts were recorded")
GROUPS = Need(lambda has: has.answers.groups, "no groups of completions were recorded")
TRUE_COUNTS = Need(lambda has: has.answers.true_counts, "no question has a count as its gold answer")
COMPLETIONS = Need(lambda has: has.sampled.any, "no training completions were recorded")
EVALUATIONS = Need(lambda has: has.evaluated.any, "no evaluation was recorded")
JUDGED_EVALUATIONS = Need(lambda has: has.evaluated.judged, "none of its evaluations was judged")
REFERENCES = Need(lambda has: has.answers.references, "no question has reference reasoning")

FORMS: tuple[Form, ...] = ("none", "boxed", "direct", "cot")
"""Formats of texts, loosest first."""
Parts = Mapping[str, tuple[Need, ...]]
"""Parts of a page by name, each with its needs."""


def is_script(run: RunRow | RunDetail) -> bool:
    """Return whether the run was recorded by a script other than our trainer."""
    return run.dataset == RECORDED


def allows(contents: Contents, *needs: Need) -> bool:
    return all(need.is_met(contents) for need in needs)


def missing_parts(contents: Contents, parts: Parts) -> dict[str, list[str]]:
    """Return the parts that cannot be shown, by the first reason."""
    parts_by_reason: dict[str, list[str]] = {}
    for part, needs in parts.items():
        missing = next((need for need in needs if not need.is_met(contents)), None)
        if missing is not None:
            parts_by_reason.setdefault(missing.reason, []).append(part)
    return parts_by_reason


def missing_sentence(contents: Contents, parts: Parts, verb: str = "Not shown") -> str | None:
    """Return `Not shown: accuracy, groups (no rewards were recorded); …`; None if nothing is missing."""
    reasons = [f"{', '.join(names)} ({reason})" for reason, names in missing_parts(contents, parts).items()]
    return f"{verb}: {'; '.join(reasons)}." if reasons else None


def common_contents(run_contents: Sequence[Contents]) -> Contents:
    """Return what all of the runs have; texts are read by the loosest of their formats."""
    form = min((contents.form for contents in run_contents), key=FORMS.index)

    def shared(answers: Sequence[Answers]) -> Answers:
        return Answers(*(all(facts) for facts in zip(*answers, strict=True)))

    return Contents(
        form,
        shared([contents.sampled for contents in run_contents]),
        shared([contents.evaluated for contents in run_contents]),
    )


def show_missing(contents: Contents, parts: Parts, verb: str = "Not shown") -> None:
    """Show what is missing, if anything is."""
    if text := missing_sentence(contents, parts, verb):
        st.caption(format.literal(text))
