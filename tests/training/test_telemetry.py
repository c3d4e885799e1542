"""Nothing phones home: whatever these processes do, no library of theirs looks a name up or connects elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import browsing
from store.db.engine import open_store
from tests import seeded
from tests.training.conftest import SMALL
from trainer.jobs import telemetry

ROOT = Path(__file__).resolve().parents[2]
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "CI", *telemetry.OFF)
LISTENER = """
import os, sys

def listen(event, arguments):
    if event not in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        return
    where = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
    host = where[0] if isinstance(where, tuple) else where
    is_unix = event == "socket.connect" and not isinstance(where, tuple)
    if not is_unix and host not in ("127.0.0.1", "::1", "localhost", "0.0.0.0", None):
        with open(os.environ["HEARD"], "a") as heard:
            print(event, where, file=heard)
        raise OSError(f"{event} of {where} in a test")

sys.addaudithook(listen)
"""
COMMANDS = """
import os, sys
from trainer.__main__ import main
run = ["run", "--preset", "shapes-grpo", *sys.argv[1:]]
assert main(run) == 0
assert main(["eval", "--run", "shapes-grpo", "--limit", "2"]) == 0
assert main(["embed", "--all"]) == 0
assert "trl" in sys.modules and "huggingface_hub" in sys.modules
from huggingface_hub.utils import build_hf_headers, send_telemetry
build_hf_headers()
send_telemetry("test")
if thread := getattr(sys.modules["huggingface_hub.utils._telemetry"], "_TELEMETRY_THREAD", None):
    thread.join(5)
"""
PAGES = """
from streamlit.testing.v1 import AppTest
for page in ("runs", "launch"):
    at = AppTest.from_file("app/main.py", default_timeout=120).run()
    assert not at.switch_page(f"../pages/{page}.py").run().exception
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A shell that is online and has asked for nothing; whoever looks elsewhere is heard and fails."""
    (tmp_path / "listener").mkdir()
    (tmp_path / "listener/sitecustomize.py").write_text(LISTENER)
    database = {"VR1Z_DATABASE_URL": f"sqlite:///{tmp_path}/data/runs.db", "HF_HOME": str(tmp_path / "hub")}
    told = {"PYTHONPATH": f"{tmp_path}/listener{os.pathsep}{ROOT}", "HEARD": str(tmp_path / "heard")}
    return {name: value for name, value in os.environ.items() if name not in OFFLINE} | database | told


def heard(environment: dict[str, str]) -> str:
    path = Path(environment["HEARD"])
    return path.read_text() if path.exists() else ""


def python(code: str, environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]


@pytest.mark.training
def test_training_evaluation_and_embedding_ask_nobody(environment: dict[str, str]) -> None:
    small = SMALL | {"optimization.steps": "1", "evaluation.probe_every": "1"}
    python(COMMANDS, environment, *(part for name, value in small.items() for part in ("--set", f"{name}={value}")))
    assert heard(environment) == ""


def test_the_dashboard_asks_nobody(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(environment["VR1Z_DATABASE_URL"])
    seeded.examples(store, "train", 1)
    python(PAGES, environment)
    for name in OFFLINE:
        monkeypatch.delenv(name, raising=False)
    for name in ("PYTHONPATH", "HEARD", "HF_HOME"):
        monkeypatch.setenv(name, environment[name])
    with browsing.serving(store.url, tmp_path / "server.log", jobs_end=True):
        pass
    assert heard(environment) == ""


def test_who_looks_elsewhere_is_heard(environment: dict[str, str]) -> None:
    """The proof that the tests above can fail: the hub's library, without our word."""
    code = "from huggingface_hub.utils import build_hf_headers; build_hf_headers()"
    python(code, environment)
    assert "huggingface.co" in heard(environment)


def test_who_asks_for_telemetry_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "0")
    monkeypatch.delenv("VLLM_NO_USAGE_STATS", raising=False)
    telemetry.keep_off()
    assert (os.environ["HF_HUB_DISABLE_TELEMETRY"], os.environ["VLLM_NO_USAGE_STATS"]) == ("0", "1")
    monkeypatch.delenv("VLLM_NO_USAGE_STATS")
