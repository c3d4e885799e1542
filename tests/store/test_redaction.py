"""Secrets do not get into the database, whatever an error message or a configuration carries along."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine

from store.db.engine import Store, StoreError, database_url
from store.db.redaction import HIDDEN, redact, redacted_values
from store.db.states import JobState
from store.events import add_event, list_events
from store.jobs import end_job
from store.runs import describe_run, get_run
from tests.store import make
from trainer.spec.config import ConfigError
from trainer.spec.errors import TrainerError

TOKEN = "hf_" + "aB3" * 11
QUERY = "user=me&password=[redacted]&sslmode=require"
WORDS = "PRIVATE KEY"


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
        ("postgresql://me:p@ss@host/db", "postgresql://me:[redacted]@host/db"),
        ("postgresql://me:p/s:s@host/db", "postgresql://me:[redacted]@host/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("mongodb+srv://me:pa55@host/", "mongodb+srv://me:[redacted]@host/"),
        ("https://t0ken@git.example.org/a", "https://[redacted]@git.example.org/a"),
        ("https://me:pa55@host/p?token=t", "https://me:[redacted]@host/p?token=[redacted]"),
        ("ssh://git@example.org/a", "ssh://git@example.org/a"),
        ("postgresql://host/db?user=me&password=pa55&sslmode=require", f"postgresql://host/db?{QUERY}"),
        ("https://host/x?access_token=t&n=1#end", "https://host/x?access_token=[redacted]&n=1#end"),
        ("Server=h;Uid=me;Pwd=pa55;Port=1", "Server=h;Uid=me;Pwd=[redacted];Port=1"),
        ("Endpoint=sb://h/;AccountKey=abc==;x=1", "Endpoint=sb://h/;AccountKey=[redacted];x=1"),
        ("host=h user=me password=pa55 dbname=d", "host=h user=me password=[redacted] dbname=d"),
        ("export PGPASSWORD=pa55; psql", "export PGPASSWORD=[redacted]; psql"),
        ("MYSQL_PWD='pa 55' DB_PASS=x", "MYSQL_PWD='[redacted]' DB_PASS=[redacted]"),
        ('{"apikey": "abc", "n": 1}', '{"apikey": "[redacted]", "n": 1}'),
        ("{'hub_token': 'abc'}", "{'hub_token': '[redacted]'}"),
        ("train.py --hub-token abc --steps 5", "train.py --hub-token [redacted] --steps 5"),
        ("X-Api-Key: abc", "X-Api-Key: [redacted]"),
        ("Authorization: Basic bWU6cGE1NQ==", "Authorization: Basic [redacted]"),
        ("Cookie: a=b; c=d\nAccept: */*", "Cookie: [redacted]\nAccept: */*"),
        ("POST https://hooks.slack.com/services/T0/B0/x", "POST https://hooks.slack.com/services/[redacted]"),
        ("https://discord.com/api/webhooks/1/x", "https://discord.com/api/webhooks/[redacted]"),
        ("xoxb-" + "1" * 20 + " and glpat-" + "a" * 20, "[redacted] and [redacted]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_", "[redacted]"),
        (f"-----BEGIN RSA {WORDS}-----\nMIIE\n-----END RSA {WORDS}-----", "[redacted]"),
        ("pad_token: '<pad>', eos_token=</s>", "pad_token: '<pad>', eos_token=</s>"),
        ("PWD=/home/me OLDPWD=/tmp", "PWD=/home/me OLDPWD=/tmp"),
        ("max_tokens=5, key=3, forward_pass: 2, bypass=1", "max_tokens=5, key=3, forward_pass: 2, bypass=1"),
        ("5 basic attention heads; the token was long", "5 basic attention heads; the token was long"),
    ],
    ids=count(),  # pytest puts them into the environment, whose secrets are looked for
)
def test_what_is_taken_out(text: str, kept: str) -> None:
    assert redact(text) == kept


SECRET_VARIABLES = [
    *("HF_TOKEN", "MY_API_KEY", "VR1Z_WEBHOOK", "DB_PASSWORD", "PGPASSWORD", "MYSQL_PWD", "DBPASS", "SMTP_PASS"),
    *("OPENAIAPIKEY", "SLACK_WEBHOOK_URL", "AZURE_STORAGE_CONNECTION_STRING", "SENTRY_DSN", "AWS_SECRET_ACCESS_KEY"),
    *("GH_PAT_SECRET", "NPM_AUTH", "SESSION_COOKIE", "WANDB_API_KEY", "KEY", "SSH_PASSPHRASE", "vault_token"),
]


@pytest.mark.parametrize("name", SECRET_VARIABLES)
def test_the_value_of_a_secret_variable_is_taken_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "correct horse battery")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "certainly")
    assert redact("it was 'correct horse battery', certainly") == "it was '[redacted]', certainly"


def test_the_password_in_an_address_that_a_variable_holds_is_taken_out_however_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOMEWHERE", "postgresql://me:p%40ss%2Fword1@host/db?sslpassword=key%20pa55")
    for written in ("p@ss/word1", "p%40ss%2Fword1", "p%40ss/word1", "key pa55", "key+pa55", "key%20pa55"):
        assert redact(f"no user {written} here") == "no user [redacted] here"


def test_a_short_secret_hides_itself_but_no_part_of_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    monkeypatch.setenv("DB_PASS", "step")  # too short to be told from a word
    assert redact("hunter2, 'hunter2' at step 5 of hunter25") == "[redacted], '[redacted]' at step 5 of hunter25"


def test_a_field_that_names_a_secret_is_emptied() -> None:
    values = {"hub_token": "abc", "max_tokens": 5, "hub_token_file": "t", "api_key": ["a"], "n": None}
    kept = {"hub_token": "[redacted]", "max_tokens": 5, "hub_token_file": "t", "api_key": ["[redacted]"], "n": None}
    assert redacted_values({"recorded": values}) == {"recorded": kept}


def test_whatever_a_secret_field_holds_goes() -> None:
    values = {"credentials": {"user": "me", "n": [1, True, None]}, "db_password": 12345, "pad_token": "<pad>"}
    kept = {"credentials": {"user": HIDDEN, "n": [HIDDEN, True, None]}, "db_password": HIDDEN, "pad_token": "<pad>"}
    assert redacted_values(values) == kept


@pytest.mark.parametrize("kind", [StoreError, ConfigError, lambda text: TrainerError("bug", text)])
def test_no_sentence_of_an_error_holds_a_secret(kind: Callable[[str], Exception]) -> None:
    url = "postgresql://me:pa55@host/db?password=w0rd"
    assert str(kind(f"{url} is no URL.")) == "postgresql://me:[redacted]@host/db?password=[redacted] is no URL."


def test_where_the_database_is_is_said_without_its_passwords() -> None:
    url = "postgresql://host/db?user=me&password=pa55&sslpassword=w0rd"
    store = Store(url, create_engine("sqlite://"), Path())
    assert store.where == "postgresql://host/db?password=[redacted]&sslpassword=[redacted]&user=me"
    with pytest.raises(StoreError) as told:
        database_url("://x?password=pa55")
    assert "pa55" not in str(told.value)


def test_nothing_that_is_kept_of_a_run_holds_a_token(store: Store) -> None:
    run = make.run(store, config={"recorded": {"hub_token": "abc", "command": f"--token {TOKEN}"}})
    describe_run(store, run.id, environment={"remote": f"https://me:{TOKEN}@host/x.git"})
    job = make.running_job(store, run.id)
    end_job(store, job, JobState.FAILED, error=f"401 for {TOKEN}", traceback=f"get({TOKEN!r})")
    add_event(store, run.id, "failed", f"again {TOKEN}")
    found = get_run(store, run.id)
    assert "[redacted]" in str(found.job)
    assert TOKEN not in str((found, list_events(store, run.id)))
    assert found.config["recorded"]["hub_token"] == "[redacted]"


@given(st.text(max_size=200))
def test_any_text_is_redacted_and_nothing_is_left_to_redact(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "unit",
    [
        *("hf_", "a://", "a://b:", "Bearer ", "sk-", "a", "://:@", "token=", "--token ", "password:'", "a.b-", "eyJ"),
        *("https://a", "a.b=", "Cookie: ", "-----BEGIN PRIVATE KEY", "token='a", "api_", "key-", "é=", "a: ", "pass"),
    ],
    ids=count(),
)
def test_a_hostile_text_takes_no_time(unit: str) -> None:
    begin = time.process_time()
    redact(unit * (100_000 // len(unit)))
    assert time.process_time() - begin < 1
