"""Explain why a job ended early: the kind of fault, its usual cause, what to change, the telling lines of the log.

Pure functions of rows; the kinds are those of `trainer.spec.errors`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from store.db.rows import JobRow


class Advice(NamedTuple):
    label: str
    cause: str
    knobs: tuple[str, ...]
    """What to do, likeliest remedy first; configuration fields are named by their path."""


ADVICE = {
    "out_of_memory": Advice(
        "Out of memory",
        "Weights, activations and the texts being generated did not fit together.",
        (
            "optimization.accumulation: double it; the update stays the same",
            "optimization.gradient_checkpointing: slower, and much less memory",
            "model.quantization: nf4 holds the frozen weights in a quarter of the space",
            "max_tokens, model.longest_edge or model.max_pixels: shorter texts, smaller pictures",
            "optimization.retry_on_oom: does the first by itself",
        ),
    ),
    "data": Advice(
        "Data",
        "The dataset could not be read, or does not hold what this run needs.",
        ("data.path: the folder that holds the files", "the Datasets page: what is there and what was skipped"),
    ),
    "model": Advice(
        "Model",
        "The base model or the adapter could not be loaded, or the two do not fit together.",
        ("model.id and model.revision", "model.adapter, lora.rank and lora.alpha: an adapter keeps its shape"),
    ),
    "config": Advice(
        "Configuration",
        "The configuration asks for something impossible.",
        ("the field that the message names", "Preflight on the Launch page, which finds this before a run does"),
    ),
    "disk": Advice(
        "Disk",
        "Something could not be written or is no longer there.",
        ("free space where the run writes, then resume it", "the permissions of its folder", "--db: another place"),
    ),
    "dependency": Advice(
        "Missing package",
        "A package that this run needs is missing or of another version.",
        ("make install", "then resume the run"),
    ),
    "database": Advice(
        "Database",
        "The database did not answer, or refused a write.",
        ("its disk and its permissions", "another program that keeps it locked", "then resume the run"),
    ),
    "reward": Advice(
        "Reward",
        "Your reward function failed, or returned something that is not a reward.",
        ("the function and line that the message names", "then resume the run", "Preflight, which calls it once"),
    ),
    "bug": Advice(
        "Bug",
        "An unexpected exception, in this program or in a library.",
        ("the traceback: its last frames show where it happened", "resume the run, in case it was a passing fault"),
    ),
    "killed": Advice(
        "Killed",
        "A signal ended the process from outside, before it could react.",
        (
            "resume the run: it continues from its last checkpoint",
            "the system's log (dmesg), which says whether memory ran out",
        ),
    ),
    "lost": Advice(
        "Lost",
        "The process is gone, and how it ended is unknown.",
        ("resume the run: it continues from its last checkpoint", "the end of its log"),
    ),
}
LAST_LINES = 12
_FRAME = re.compile(r'^\s*File "(?P<path>[^"]+)", line \d+')
_LIBRARY = re.compile(r"site-packages|dist-packages|/lib/python3|<frozen ")


def of(job: JobRow) -> Advice | None:
    """Return the advice for a failed job; None for one that was stopped or is still running."""
    return ADVICE.get(job.error_kind or "") or ADVICE.get(job.state)


def telling_lines(text: str) -> str:
    """Return, of a traceback, the exception and the frames outside libraries; of any other log, the last lines."""
    _, found, traceback = text.rpartition("Traceback (most recent call last):\n")
    if not found:
        return "\n".join(text.strip().splitlines()[-LAST_LINES:])
    kept, is_ours = [], True
    for line in traceback.rstrip().splitlines():
        if frame := _FRAME.match(line):
            is_ours = not _LIBRARY.search(frame["path"])
        elif not line[:1].isspace():
            is_ours = True
        if is_ours:
            kept.append(line)
    return "\n".join(kept[-2 * LAST_LINES :])


def how_it_ended(job: JobRow) -> str:
    """Return `exit code 1`, `signal 9`, or an empty text if nobody could collect it."""
    if job.exit_code is None:
        return ""
    return f"signal {-job.exit_code}" if job.exit_code < 0 else f"exit code {job.exit_code}"
