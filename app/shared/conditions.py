"""Comparability of runs: the cost of their training, and whether their evaluations used the same conditions.

Conditions are the recorded prompt, pixels, decoding and rules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from store.db.rows import EvaluationRow, RunDetail, RunRow
from trainer.spec.prompt import INSTRUCTIONS

Floats = npt.NDArray[np.float64]

DECODING = {"max_tokens": "token limit", "temperature": "temperature", "forced_prefix": "forced prefix"}


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return the reasons why two evaluations cannot be compared; the style is none, since it is shown."""
    reasons = []
    if _template(first) != _template(second):
        reasons.append("different prompts")
    if first.get("pixels") != second.get("pixels"):
        reasons.append("different pixels")
    if bool(first.get("recorded")) != bool(second.get("recorded")):
        reasons.append("only one comes from a script")
    stated = [each.get("decoding") for each in (first, second)]
    if stated[0] != stated[1] and all(isinstance(each, str) for each in stated):
        reasons.append(f"decoding {stated[0]} vs {stated[1]}")
    decoding = [decoding_of(each) for each in (first, second)]
    for name, words in DECODING.items():
        values = [each.get(name) for each in decoding]
        if values[0] != values[1]:
            reasons.append(f"{words} {_word(values[0])} vs {_word(values[1])}")
    rules = [each.get("rules") or {} for each in (first, second)]
    # An evaluation by an earlier version has fewer rules or none, and is compared by those it has.
    for name in (name for name in rules[0] if name in rules[1] and rules[0][name] != rules[1][name]):
        reasons.append(f"{name.replace('_', ' ')} {_word(rules[0][name])} vs {_word(rules[1][name])}")
    if first.get("baseline") != second.get("baseline"):
        reasons.append("one is a baseline")
    return reasons


def decoding_of(conditions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the decoding options of an evaluation; empty for a script's, which are text at most."""
    decoding = conditions.get("decoding")
    return decoding if isinstance(decoding, Mapping) else {}


def benchmark_of(run: RunDetail | RunRow, evaluations: Sequence[EvaluationRow], kind: str) -> str:
    """Return the benchmark of a run's own evaluations: its dataset or, for a script, its most frequent benchmark."""
    counts = Counter(each.benchmark for each in evaluations if each.kind == kind and each.ended_at is not None)
    return run.dataset if run.dataset in counts or not counts else counts.most_common(1)[0][0]


def _template(conditions: Mapping[str, Any]) -> str:
    """Return the prompt without the instruction of its style."""
    style = conditions.get("style")
    text = str(conditions.get("prompt", ""))
    return text.replace(INSTRUCTIONS[style], "{instruction}") if style in INSTRUCTIONS else text


def _word(value: object) -> str:
    if isinstance(value, list):
        value = " ".join(map(str, value))
    return "none" if value in (None, "") else str(value)


def running_tokens(recorded: Floats) -> Floats:
    """Return the cumulative tokens; where the count falls, a resumed run has restarted it."""
    grown = np.diff(recorded, prepend=0.0)
    return np.cumsum(np.where(grown < 0, recorded, grown))


def examples_per_step(run: RunDetail) -> int | None:
    """Return the number of training examples (not completions) per update; None if the configuration has none."""
    batch = (run.config.get("optimization") or {}).get("batch_size")
    copies = (run.config.get("grpo") or {}).get("group_size", 1) if run.method == "grpo" else 1
    return batch // copies if batch and run.method != "none" else None
