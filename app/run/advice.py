"""Explain why a job ended early: the kind of fault, its usual cause, what to change, and the relevant log lines.

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
    """What to do, most likely remedy first; configuration fields are named by path."""


ADVICE = {
    "out_of_memory": Advice(
        "Out of memory",
        "Weights, activations and generated tokens did not fit into memory together.",
        (
            "optimization.accumulation: double it; the update stays the same",
            "optimization.gradient_checkpointing: slower, but needs much less memory",
            "model.quantization: nf4 stores the frozen weights in a quarter of the space",
            "max_tokens, model.longest_edge or model.max_pixels: use shorter texts or smaller images",
            "optimization.retry_on_oom: doubles the accumulation automatically",
        ),
    ),
    "data": Advice(
        "Data",
        "The dataset could not be read, or does not hold what this run needs.",
        ("data.path: set it to the folder with the files", "the Datasets page: see what exists and what was skipped"),
    ),
    "model": Advice(
        "Model",
        "The base model or the adapter could not be loaded, or they do not match.",
        (
            "model.id and model.revision: check them",
            "model.adapter, lora.rank and lora.alpha: use the adapter's own rank and alpha",
        ),
    ),
    "config": Advice(
        "Configuration",
        "The configuration is invalid or cannot be run here.",
        (
            "the field in the message: correct it",
            "Preflight on the Launch page: it finds such errors before you launch",
        ),
    ),
    "disk": Advice(
        "Disk",
        "A file could not be written or no longer exists.",
        (
            "free disk space where the run writes, then resume it",
            "check the permissions of its folder",
            "--db: use another location",
        ),
    ),
    "dependency": Advice(
        "Missing package",
        "A package that this run needs is missing or has the wrong version.",
        ("run make install", "then resume the run"),
    ),
    "database": Advice(
        "Database",
        "The database did not respond, or refused a write.",
        (
            "check its disk and permissions",
            "check whether another program keeps it locked",
            "then resume the run",
        ),
    ),
    "reward": Advice(
        "Reward",
        "Your reward function raised an error, or returned something other than rewards.",
        (
            "fix the function at the line in the message",
            "then resume the run",
            "Preflight: it calls the function once",
        ),
    ),
    "bug": Advice(
        "Bug",
        "An unexpected exception in this program or in a library.",
        (
            "see the last frames of the traceback for where it happened",
            "resume the run, in case the fault was transient",
        ),
    ),
    "killed": Advice(
        "Killed",
        "A signal from outside ended the process before it could react.",
        (
            "resume the run: it continues from its last checkpoint",
            "check the system log (dmesg) for whether memory ran out",
        ),
    ),
    "lost": Advice(
        "Lost",
        "The process no longer exists, and how it ended is unknown.",
        ("resume the run: it continues from its last checkpoint", "read the end of its log"),
    ),
}
LAST_LINES = 12
_FRAME = re.compile(r'^\s*File "(?P<path>[^"]+)", line \d+')
_LIBRARY = re.compile(r"site-packages|dist-packages|/lib/python3|<frozen ")


def of(job: JobRow) -> Advice | None:
    """Return the advice for a failed job; None for one that was stopped or is still running."""
    return ADVICE.get(job.error_kind or "") or ADVICE.get(job.state)


def relevant_lines(text: str) -> str:
    """Return a traceback's exception and its frames outside libraries; without a traceback, the last lines."""
    _, marker, traceback = text.rpartition("Traceback (most recent call last):\n")
    if not marker:
        return "\n".join(text.strip().splitlines()[-LAST_LINES:])
    lines, is_ours = [], True
    for line in traceback.rstrip().splitlines():
        if frame := _FRAME.match(line):
            is_ours = not _LIBRARY.search(frame["path"])
        elif not line[:1].isspace():
            is_ours = True
        if is_ours:
            lines.append(line)
    return "\n".join(lines[-2 * LAST_LINES :])


def exit_status(job: JobRow) -> str:
    """Return `exit code 1` or `signal 9`; an empty text if the exit status is unknown."""
    if job.exit_code is None:
        return ""
    return f"signal {-job.exit_code}" if job.exit_code < 0 else f"exit code {job.exit_code}"
