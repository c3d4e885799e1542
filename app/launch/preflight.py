"""Ask the trainer, in a separate process, whether a config would run here."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import streamlit as st
import yaml

from app.shared import format
from store.db.redaction import redact
from trainer.spec.config import RunConfig

ROOT = Path(__file__).resolve().parents[2]
IMAGE_WIDTH = 220
"""Pixels on the screen."""
TIME_LIMIT = 60
"""Time limit of a preflight, in seconds."""
MEASURING_LIMIT = 600
"""Time limit of a preflight with one real update, in seconds."""
SIGNS = {"ok": ":material/check_circle:", "warn": ":material/warning:", "fail": ":material/error:"}
COLORS: dict[str, Literal["green", "orange", "red"]] = {"ok": "green", "warn": "orange", "fail": "red"}


class Check(NamedTuple):
    """`level` is ok, warn or fail."""

    name: str
    level: str
    sentence: str


class Memory(NamedTuple):
    """The estimated peak in bytes; `parts` add up to it."""

    peak: int
    available: int
    parts: dict[str, int]


class Report(NamedTuple):
    """The result of a preflight; `prompt` as the tokenizer renders it, `image` an encoded image of the example."""

    checks: tuple[Check, ...]
    prompt: str | None = None
    image: bytes | None = None
    memory: Memory | None = None


def run_preflight(
    config: RunConfig, *, measure: bool = False, command: tuple[str, ...] = (sys.executable, "-m", "trainer")
) -> Report:
    """Run `python -m trainer preflight`, with one real update if `measure`; any failure becomes a failed check."""
    limit = MEASURING_LIMIT if measure else TIME_LIMIT
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yaml")
        path.write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
        arguments = [*command, "preflight", "--config", str(path), "--json", *(["--calibrate"] if measure else [])]
        try:
            done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return _failed(
                f"The preflight took more than {limit} s: the machine is busy or the model large; try again."
            )
    return read_report(done.stdout, done.stderr)


def read_report(output: str, errors: str) -> Report:
    """Return the report in a preflight's output, or a failed check with the last line of its errors."""
    try:
        report = json.loads(output)
        checks = tuple(Check(str(c["name"]), str(c["level"]), str(c["sentence"])) for c in report["checks"])
        image = base64.b64decode(str(report["image"]).partition(",")[2]) if report.get("image") else None
        memory = _memory(report["memory"]) if report.get("memory") else None
    except (ValueError, KeyError, TypeError, AttributeError):
        last = redact((errors.strip().splitlines() or ["it printed no error"])[-1])
        return _failed(f"The trainer could not check this: {last}")
    return Report(checks, report.get("prompt"), image, memory)


def _memory(memory: dict[str, Any]) -> Memory:
    parts = {str(name): int(value) for name, value in memory["parts"].items()}
    return Memory(int(memory["peak"]), int(memory["available"]), parts)


def can_measure(report: Report) -> bool:
    """Return whether timing a real update makes sense: no check failed, and the run fits its device."""
    levels = {check.name: check.level for check in report.checks}
    return levels.get("device") == "ok" and "fail" not in levels.values() and "pace" not in levels


def _failed(sentence: str) -> Report:
    return Report((Check("preflight", "fail", sentence),))


def show_report(report: Report) -> None:
    """Show checks as a list, memory as a bar, and an example's image with its prompt as the tokenizer renders it."""
    for check in report.checks:
        level = check.level if check.level in SIGNS else "warn"
        with st.container(horizontal=True, wrap=False, gap="small"):
            st.badge(level, icon=SIGNS[level], color=COLORS[level])
            st.caption(format.literal(f"{check.name}: {check.sentence}"), width="stretch")
    if report.memory:
        show_memory(report.memory)
    if report.image:
        st.image(report.image, width=IMAGE_WIDTH, alt="Image of one training example")
    if report.prompt:
        with st.expander("Prompt as the model sees it"):
            st.code(report.prompt, language=None, wrap_lines=True)


def show_memory(memory: Memory) -> None:
    """Show the estimated peak as a share of the free memory, and its parts, largest first."""
    share = memory.peak / max(memory.available, 1)
    of = f"{format.memory(memory.peak)} of {format.memory(memory.available)} available"
    st.progress(min(share, 1.0), text=format.literal(f"Estimated peak memory: {of}"))
    parts = sorted(memory.parts.items(), key=lambda part: -part[1])
    st.caption(format.literal(", ".join(f"{name} {format.memory(value)}" for name, value in parts)))
