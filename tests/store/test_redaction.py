"""Secrets do not get into the database, whatever an error message or a configuration carries along."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import read, write
from store.engine import Store
from store.redaction import redacted, redacted_values
from store.schema import JobState
from tests.store import make

TOKEN = "hf_" + "aB3" * 11


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (f"401 for {TOKEN}.", "401 for [redacted]."),
        (f"Authorization: Bearer {'x' * 30}", "Authorization: Bearer [redacted]"),
        ("postgresql+psycopg://me:pa55@host/db is down", "postgresql+psycopg://me:[redacted]@host/db is down"),
        ("key sk-" + "a" * 30, "key [redacted]"),
        ("gave ghp_" + "a" * 36 + " away", "gave [redacted] away"),
        ("at step 12: <think>1. red</think>", "at step 12: <think>1. red</think>"),
        ("see https://example.org:8080/a@b", "see https://example.org:8080/a@b"),
        ("hf_model is no token", "hf_model is no token"),
    ],
)
def test_what_is_taken_out(text: str, kept: str) -> None:
    assert redacted(text) == kept


@pytest.mark.parametrize("name", ["HF_TOKEN", "MY_API_KEY", "VR1Z_WEBHOOK", "DB_PASSWORD"])
def test_the_value_of_a_secret_variable_is_taken_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "correct horse battery")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "certainly")
    assert redacted("it was 'correct horse battery', certainly") == "it was '[redacted]', certainly"


def test_a_field_that_names_a_secret_is_emptied() -> None:
    values = {"hub_token": "abc", "max_tokens": 5, "hub_token_file": "t", "api_key": ["a"], "n": None}
    kept = {"hub_token": "[redacted]", "max_tokens": 5, "hub_token_file": "t", "api_key": ["[redacted]"], "n": None}
    assert redacted_values({"recorded": values}) == {"recorded": kept}


def test_nothing_that_is_kept_of_a_run_holds_a_token(store: Store) -> None:
    run = make.run(store, config={"recorded": {"hub_token": "abc", "command": f"--token {TOKEN}"}})
    write.describe_run(store, run.id, environment={"remote": f"https://me:{TOKEN}@host/x.git"})
    job = make.running_job(store, run.id)
    write.end_job(store, job, JobState.FAILED, error=f"401 for {TOKEN}", traceback=f"get({TOKEN!r})")
    write.add_event(store, run.id, "failed", f"again {TOKEN}")
    found = read.run(store, run.id)
    assert "[redacted]" in str(found.job)
    assert TOKEN not in str((found, read.events(store, run.id)))
    assert found.config["recorded"]["hub_token"] == "[redacted]"


@given(st.text(max_size=200))
def test_any_text_is_redacted_and_nothing_is_left_to_redact(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)


@pytest.mark.parametrize("unit", ["hf_", "a://", "a://b:", "Bearer ", "sk-", "a", "://:@"])
def test_a_hostile_text_takes_no_time(unit: str) -> None:
    begin = time.process_time()
    redacted(unit * (100_000 // len(unit)))
    assert time.process_time() - begin < 1
