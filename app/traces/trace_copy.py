"""Export one trace as Markdown, with its text shown literally, and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict

from app.shared import format
from store.db.rows import StoredCompletion, StoredExample, StoredPrediction

Row = StoredCompletion | StoredPrediction
_TICKS = re.compile("`+")


def markdown(row: Row, example: StoredExample | None, run_name: str, link: str) -> str:
    """Return a heading, facts about the answer, and the text in a code block that it cannot close."""
    kind = "Completion" if isinstance(row, StoredCompletion) else "Prediction"
    facts = {
        "run": format.literal(run_name),
        "step": str(row.step),
        "true count": "unknown" if row.truth is None else str(row.truth),
        "answer": "none" if row.answer is None else str(row.answer),
        "reward": format.number(row.reward),
        "components": ", ".join(
            f"{format.literal(name)} {format.number(value)}" for name, value in row.rewards.items()
        ),
    }
    if isinstance(row, StoredCompletion):
        facts["advantage"] = format.number(row.advantage)
    lines = [f"### [{kind} {row.id}]({link})", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]
    if example:
        lines += ["Question:", "", fenced(example.question), ""]
    return "\n".join([*lines, "Text:", "", fenced(row.text), ""])


def fenced(text: str) -> str:
    """Return the text as a code block whose fence is longer than any in it."""
    fence = "`" * max(3, 1 + max((len(ticks) for ticks in _TICKS.findall(text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


def as_json(row: Row, example: StoredExample | None, run_uid: str) -> str:
    """Return all stored data of the trace, with its question and the hashes of its images."""
    about: Mapping[str, object] = {
        "run": run_uid,
        "question": example.question if example else None,
        "images": list(example.images) if example else [],
        "gold": example.gold if example else None,
        "prompt": example.prompt if example else None,
        "columns": example.columns if example else None,
    }
    return json.dumps({**about, **asdict(row)}, ensure_ascii=False, indent=1)
