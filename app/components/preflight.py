"""Asks the trainer, in a process of its own, whether a config would run here. Knows nothing of torch or databases."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal, NamedTuple

import streamlit as st
import yaml

from app import format
from trainer.config import RunConfig

ROOT = Path(__file__).resolve().parents[2]
TIME_LIMIT = 60
"""Seconds that a preflight may take."""
SIGNS = {"ok": ":material/check_circle:", "warn": ":material/warning:", "fail": ":material/error:"}
COLORS: dict[str, Literal["green", "orange", "red"]] = {"ok": "green", "warn": "orange", "fail": "red"}


class Check(NamedTuple):
    """`level` is ok, warn or fail."""

    name: str
    level: str
    sentence: str


class Report(NamedTuple):
    """What a preflight found; `prompt` as the tokenizer writes it."""

    checks: tuple[Check, ...]
    prompt: str | None = None


def run_preflight(config: RunConfig, *, command: tuple[str, ...] = (sys.executable, "-m", "trainer")) -> Report:
    """Runs `python -m trainer preflight`; whatever goes wrong becomes a failed check."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
        arguments = [*command, "preflight", "--config", str(path), "--json"]
        try:
            done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=TIME_LIMIT)
        except subprocess.TimeoutExpired:
            return _failed(
                f"It took longer than {TIME_LIMIT} s and was ended. The machine is busy, or the model is large."
            )
    return read_report(done.stdout, done.stderr)


def read_report(output: str, errors: str) -> Report:
    """The report in a preflight's output, or a failed check with the last line that it said."""
    try:
        found = json.loads(output)
        checks = tuple(Check(str(c["name"]), str(c["level"]), str(c["sentence"])) for c in found["checks"])
    except (ValueError, KeyError, TypeError):
        last = (errors.strip().splitlines() or ["it said nothing"])[-1]
        return _failed(f"The trainer could not check this: {last}")
    return Report(checks, found.get("prompt"))


def _failed(sentence: str) -> Report:
    return Report((Check("preflight", "fail", sentence),))


def show_report(report: Report) -> None:
    """The checks as a list, the prompt as the tokenizer writes it."""
    for check in report.checks:
        level = check.level if check.level in SIGNS else "warn"
        with st.container(horizontal=True, wrap=False, gap="small"):
            st.badge(level, icon=SIGNS[level], color=COLORS[level])
            st.caption(format.literal(f"{check.name}: {check.sentence}"), width="stretch")
    if report.prompt:
        with st.expander("Prompt as the model reads it"):
            st.code(report.prompt, language=None, wrap_lines=True)
