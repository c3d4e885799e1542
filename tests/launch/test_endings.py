"""What is said of a process that died without a word."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from app.shared import status
from store.db.rows import JobRow
from trainer.launch import endings, identity

NO_LOG = ""
TRACEBACK = "loading\nTraceback (most recent call last):\n  File 'x', line 1\n    boom()\nValueError: bad number.\nbye"


def raised(line: str) -> str:
    return f"Traceback (most recent call last):\n  File 'x', line 1\n    boom()\n{line}\n"


def job(**columns: Any) -> JobRow:
    me = identity.current()
    fields = dict.fromkeys(JobRow._fields) | {
        "stop_requested": 0,
        "arguments": {},
        "uid": "abc",
        "pid": 1,
        "boot_id": me.boot_id,
    }
    return JobRow(**{**fields, **columns})


@pytest.mark.parametrize(
    ("columns", "exit_code", "log", "state", "words"),
    [
        ({}, 3, NO_LOG, "failed", "ended with exit code 3 without an error message; see the log."),
        ({}, 7, TRACEBACK, "failed", "ended with exit code 7: ValueError: bad number."),
        ({}, 0, NO_LOG, "failed", "ended with exit code 0"),
        ({}, 1, raised("torch.OutOfMemoryError: CUDA out of memory."), "out_of_memory", "optimization.accumulation"),
        ({}, None, raised("OSError: [Errno 28] No space left on device: 'x'"), "failed", "Free space"),
        ({}, -9, NO_LOG, "killed", "signal 9 (SIGKILL). If nobody did that, the machine ran out of memory"),
        ({}, -15, NO_LOG, "killed", "signal 15 (SIGTERM). Resume the run."),
        ({}, -11, NO_LOG, "killed", "Crashed in a library with signal 11 (SIGSEGV)"),
        ({}, None, NO_LOG, "lost", "died without an error message"),
        ({}, None, TRACEBACK, "failed", "The process ended: ValueError: bad number."),
        ({}, 74, NO_LOG, "failed", "Free space, then resume the run."),
        ({"arguments": {"recorded": True}}, None, NO_LOG, "killed", "python -m store sync FOLDER"),
        ({"arguments": {"recorded": True}, "boot_id": "before"}, None, NO_LOG, "lost", "python -m store sync FOLDER"),
        ({"pid": None}, None, NO_LOG, "lost", "never started"),
        ({"pid": None}, 1, TRACEBACK, "failed", "exit code 1: ValueError"),
        ({"boot_id": "before"}, None, TRACEBACK, "lost", "The machine was restarted"),
        ({"stop_requested": 3}, -9, NO_LOG, "killed", "Killed on request"),
        ({"stop_requested": 3}, None, NO_LOG, "killed", "Killed on request"),
        ({"stop_requested": 3}, 1, NO_LOG, "failed", "exit code 1"),
        ({"stop_requested": 2}, -15, NO_LOG, "stopped", "Stopped on request"),
        ({"stop_requested": 2}, None, NO_LOG, "stopped", "Stopped on request"),
        ({"stop_requested": 1}, 143, NO_LOG, "stopped", "Stopped on request"),
        ({"stop_requested": 1}, -9, NO_LOG, "killed", "Killed by signal 9"),
        ({"stop_requested": 1}, None, NO_LOG, "lost", "died without an error message"),
    ],
)
def test_the_state_and_the_reason(
    columns: dict[str, Any], exit_code: int | None, log: str, state: str, words: str
) -> None:
    ending = endings.judge(job(**columns), exit_code, log)
    assert ending.state == state
    assert words in ending.error


OURS, NOBODYS = 0, 2**22 + 1
"""A test's parameters are the same in every process: the number of this one is put in when the test runs."""


@pytest.mark.parametrize(
    ("arguments", "pid", "is_gone"),
    [({"recorded": True}, OURS, False), ({"recorded": True}, NOBODYS, True), ({}, OURS, True)],
)
def test_a_script_whose_system_does_not_say_when_it_began_lives_as_long_as_its_number(
    arguments: dict[str, Any], pid: int, is_gone: bool
) -> None:
    recorded = job(arguments=arguments, pid=pid or os.getpid(), host=identity.host(), pid_started=None)
    assert endings.is_gone(recorded) == is_gone


def test_the_log_of_a_job_is_its_own_part_without_colours_and_overwritten_lines(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("=== job old ===\nearlier\n=== job abc ===\n\x1b[31mred\x1b[0m\n10 %\r99 %\n\n")
    assert endings.log_tail(log, "abc") == "red\n99 %"
    assert endings.log_tail(tmp_path / "none.txt", "abc") == ""


def test_of_a_long_log_only_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("=== job abc ===\n" + "".join(f"line {i} é\n" for i in range(100_000)))
    lines = endings.log_tail(log, "abc").splitlines()
    assert len(lines) == endings.LOG_LINES and lines[-1] == "line 99999 é"


@pytest.mark.parametrize(
    ("log", "last"),
    [
        ("", None),
        ("all well", None),
        (TRACEBACK, "ValueError: bad number"),
        (TRACEBACK + "\n" + TRACEBACK.replace("bad number", "worse"), "ValueError: worse"),
        ("Traceback (most recent call last):\n", None),
    ],
)
def test_the_last_exception_of_a_log(log: str, last: str | None) -> None:
    assert endings.last_exception(log) == last


def test_every_way_to_end_is_told_apart() -> None:
    ways = {
        "stopped on request": ({"stop_requested": 2}, -15, NO_LOG),
        "killed by signal 9": ({}, -9, NO_LOG),
        "killed by signal 11": ({}, -11, NO_LOG),
        "out of memory": ({}, 1, raised("MemoryError")),
        "an exception": ({}, 1, TRACEBACK),
        "no reason at all": ({}, 0, NO_LOG),
        "nobody saw it": ({}, None, NO_LOG),
        "a reboot": ({"boot_id": "before"}, None, NO_LOG),
    }
    endings_ = {way: endings.judge(job(**columns), code, log) for way, (columns, code, log) in ways.items()}
    assert len({ending.error for ending in endings_.values()}) == len(ways)
    states = {ending.state for ending in endings_.values()}
    assert states == {"stopped", "killed", "out_of_memory", "failed", "lost"}
    assert len({status.look(state)[:2] for state in (*states, "finished", "running")}) == len(states) + 2


def test_a_log_that_cannot_be_read_hides_no_ending(tmp_path: Path) -> None:
    assert endings.log_tail(tmp_path, "abc") == ""
