"""Read the reasoning traces of Quantity-23K: a JSONL file whose line i belongs to row i."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.datasets import files
from trainer.datasets.questions import count

FILE_NAME = "Quantity-Reasoning-VQA-23K-Reasoning-Trace.jsonl"
_ANSWER = re.compile("<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
_TAG = re.compile("</?(?:think|answer)>")


@dataclass(frozen=True)
class Traces:
    """`note` is a sentence on why there are no traces."""

    lines: tuple[dict[str, Any], ...] = ()
    note: str = ""

    def accepted(self, row: int, question: object, answer: object) -> str | None:
        """Return a row's trace if its `<answer>` equals the row's count."""
        line = self.lines[row] if self.lines else {}
        trace, truth = line.get("generated_cot"), count(answer)
        if not isinstance(trace, str) or truth is None:
            return None
        if line.get("question") not in (None, question):
            return None
        if line.get("answer") is not None and count(line["answer"]) != truth:
            return None
        answers = _ANSWER.findall(trace)
        return trace if answers and count(answers[-1]) == truth else None


def load(path: Path, rows: int) -> Traces:
    """Return the traces of a dataset with `rows` rows. Raises TrainerError if the file cannot be read."""
    if not path.is_file():
        return Traces(note=f"{path.name} does not exist, so no question has a reference.")
    lines = files.json_lines(path)
    if len(lines) != rows:
        counts = f"{len(lines)} lines for {rows} rows"
        return Traces(note=f"{path.name} has {counts} and cannot be joined, so no question has a reference.")
    return Traces(tuple(files.json_object(line) for line in lines))


def reasoning(trace: str) -> str:
    """Return the text between the tags, without emphasis marks."""
    body = trace[: trace.rfind("<answer>")] if "<answer>" in trace else trace
    _, opened, inner = body.rpartition("<think>")
    inner = (inner if opened else body).partition("</think>")[0]
    return _TAG.sub("", inner).replace("*", "").strip()
