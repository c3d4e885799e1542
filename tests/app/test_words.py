"""Numbers, times, states and logs in words."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from app.run import logs
from app.shared import format, status
from store.db.rows import RunRow
from store.recording.records import RECORDED


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0, "0"),
        (12345.6, "12,346"),
        (0.6123, "0.612"),
        (3e-4, "3.00e-4"),
        (-2.5, "-2.50"),
        (1e9, "1,000,000,000"),
    ],
)
def test_numbers_have_sensible_digits(value: float | None, text: str) -> None:
    assert format.number(value) == text


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ([0.9875, 0.894, 1.01, None], "%.3f"),
        ([12.5, 3.0], "%.2f"),
        ([12345.6, math.nan], "%.0f"),
        ([3e-4, 1e-5], "%.3g"),
        ([0.0, math.inf], "%.3f"),
        ([], "%.3f"),
    ],
)
def test_the_numbers_of_a_column_have_the_same_decimals(values: list[float | None], form: str) -> None:
    assert format.aligned_format(values) == form


def test_one_thing_is_singular() -> None:
    assert [format.pluralize(n, "run") for n in (0, 1, 2, 1234)] == ["0 runs", "1 run", "2 runs", "1,234 runs"]


@pytest.mark.parametrize(
    ("text", "is_number"),
    [
        ("", True),
        ("–", True),
        ("< 0.001", True),
        ("98.0 % (96.1–99.0)", True),
        ("−27.0 (−31.8 to −22.2)", True),
        ("+3.76", True),
        ("32 / 64", True),
        ("GRPO CoT", False),
        ("- a list", False),
    ],
)
def test_cells_with_numbers_are_known(text: str, is_number: bool) -> None:
    assert format.is_number(text) is is_number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.2, "0 s"),
        (42, "42 s"),
        (158, "2 min 38 s"),
        (120, "2 min"),
        (11100, "3 h 5 min"),
        (3605, "1 h"),
        (370800, "4 d 7 h"),
    ],
)
def test_durations_have_two_units(value: float | None, text: str) -> None:
    assert format.duration(value) == text


def test_times_ages_and_intervals() -> None:
    assert [format.seconds(value) for value in (0.32, 1.44, 75.2, None)] == ["320 ms", "1.4 s", "75 s", "–"]
    assert [format.age(at, 100.0) for at in (99.5, 96.0, None)] == ["just now", "4 s ago", "never"]
    assert format.interval(0.612, 0.58, 0.64) == "0.61 (0.58–0.64)"
    assert format.interval(0.612, None, None) == "0.61"


def test_literal_text_has_no_markdown_left() -> None:
    for linked in ("http://a.b", "HTTPS://a.b", "www.a.b", "a@b.c"):
        inert = format.literal(linked).replace("\\", "")
        assert linked not in inert and inert.replace(format.NO_LINK, "") == linked
    assert format.literal("a\nb ![x](y) :red[z] $1$") == r"a b \!\[x\]\(y\) \:red\[z\] \$1\$"


RUN = RunRow(
    id=1,
    uid="u",
    name="n",
    method="grpo",
    style="cot",
    model="tiny",
    dataset="d",
    lora_rank=32,
    quantization=None,
    seed=0,
    step=87,
    max_steps=200,
    created_at=0.0,
    parent_id=None,
    status="running",
    job_id=1,
    job_uid="j",
    job_kind="train",
    host="h",
    activity="generating",
    spoke_at=100.0,
    heartbeat=3,
    started_at=10.0,
    ended_at=None,
    error=None,
    seconds_per_step=1.4,
)


def test_a_live_run_in_a_sentence() -> None:
    sentence = status.sentence(RUN, 104.0, last_step_at=100.0)
    assert sentence == "running · last step 4 s ago (typical 1.4 s) · generating"
    assert status.seconds_left(RUN) == pytest.approx(113 * 1.4)
    assert status.steps(RUN) == "step 87 of 200"


def test_a_silent_run_is_called_silent_once_it_is_far_slower_than_usual() -> None:
    assert status.silence(RUN, 270.0) is None
    assert "silent for 3 min 10 s" in str(status.silence(RUN, 290.0))
    assert status.silence(replace(RUN, seconds_per_step=30.0), 290.0) is None
    assert status.silence(replace(RUN, status="finished"), 999.0) is None


def test_a_script_is_silent_since_it_was_last_heard_of_wherever_it_runs() -> None:
    script = replace(RUN, dataset=RECORDED)
    assert status.silence(script, 150.0, still=900.0) is None and status.look_now(script, 150.0).label == "running"
    assert status.silence(script, 290.0) == "silent since 1970-01-01 00:01 UTC (3 min 10 s)"
    assert status.look_now(script, 290.0) == status.SILENT
    over = replace(script, status="finished")
    assert status.silence(over, 290.0) is None and status.look_now(over, 290.0).label == "finished"


def test_a_run_that_is_over_says_when_and_after_how_long() -> None:
    over = replace(RUN, status="failed", ended_at=70.0, activity=None)
    assert status.sentence(over, 130.0) == "failed 1 min ago after 1 min"
    assert status.seconds_left(over) is None


def test_an_evaluation_has_no_steps_left() -> None:
    assert status.seconds_left(replace(RUN, job_kind="evaluate")) is None
    assert status.seconds_left(replace(RUN, step=200)) is None


def test_a_run_without_a_job_is_imported() -> None:
    foreign = replace(RUN, status=None, max_steps=None, ended_at=None)
    assert status.look(foreign.status).label == "imported"
    assert status.progress(foreign) is None


def test_logs_lose_colours_and_overwritten_text() -> None:
    text = "\x1b[32mgreen\x1b[0m\r\n 10%\r 20%\r\nlink \x1b]8;;http://x\x07here\x00\n"
    assert logs.terminal_text(text) == "green\n 20%\nlink here\n"


def test_a_long_log_ends_with_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("".join(f"line {number}\n" for number in range(1000)), encoding="utf-8")
    tail = logs.tail(path, limit=100)
    assert tail is not None
    assert tail.startswith("line 9")
    assert tail.endswith("line 999\n")
    assert logs.tail(tmp_path / "none.txt") is None


@pytest.mark.parametrize("end", ["", "\n", "\n \n"])
def test_a_long_log_of_one_line_is_not_empty(tmp_path: Path, end: str) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"first\n" + "é".encode() * 1000 + b" the end" + end.encode())
    tail = logs.tail(path, limit=101)
    assert tail is not None and tail.startswith("(…)") and tail.strip().endswith("é the end")
