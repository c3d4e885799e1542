"""The server: what it answers, what it refuses, how it starts."""

from __future__ import annotations

import gc
import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

import app.__main__ as command
from app import recorded, server
from scripts import browsing
from store.db.engine import MEDIA_VARIABLE, Store, open_store
from store.examples import add_examples, get_examples
from store.jobs import list_jobs
from store.media import files
from store.media.rows import media_path
from store.runs import list_run_heads
from tests import seeded
from tests.store import make
from trainer.launch.supervision import Supervisor

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browsing.Server]:
    folder = tmp_path_factory.mktemp("server")
    store = open_store(str(folder / "runs.db"))
    seeded.examples(store, "train", 1)
    with browsing.serving(store.url, folder / "server.log", jobs_end=True) as started:
        yield started


def get(running: browsing.Server, path: str, host: str | None = None) -> http.client.HTTPResponse:
    where = urllib.parse.urlsplit(running.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def test_health(running: browsing.Server) -> None:
    answer = get(running, "/api/health")
    assert (answer.status, answer.body) == (200, b'{"status":"ok"}')  # type: ignore[attr-defined]


def test_what_pages_import_is_kept_from_the_garbage_collector() -> None:
    try:
        server.prepare()
        assert "app.shared.live_chart" in sys.modules and gc.get_freeze_count() > 50_000
    finally:
        gc.unfreeze()


def test_the_first_page_answers_to_its_name(running: browsing.Server) -> None:
    answer = get(running, "/runs?tag=demo")
    assert answer.status == 307
    assert urllib.parse.urljoin("/runs", answer.headers["Location"]) == "/?tag=demo"


def test_an_image_is_served_by_its_hash_and_cannot_act(running: browsing.Server) -> None:
    store = open_store(running.database, readonly=True)
    answer = get(running, f"/api/media/{get_examples(store, [1])[1].images[0]}")
    assert answer.status == 200
    assert answer.body.startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert "immutable" in answer.headers["Cache-Control"]


@pytest.mark.parametrize(
    "name",
    [
        "0" * 64,
        "0" * 63,
        "g" * 64,
        "A" * 64 + "A",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "0" * 64 + "%00",
        "0" * 63 + "%0a",
    ],
)
def test_other_names_are_not_found(running: browsing.Server, name: str) -> None:
    answer = get(running, f"/api/media/{name}")
    assert answer.status in (400, 404)
    assert b"root:" not in answer.body  # type: ignore[attr-defined]


def test_the_chart_library_comes_from_here(running: browsing.Server) -> None:
    answer = get(running, "/api/plotly.min.js")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert b"plotly.js" in answer.body[:200]  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["/", "/api/health", "/_stcore/health"])
def test_a_foreign_host_name_is_refused(running: browsing.Server, path: str) -> None:
    assert get(running, path, host="attacker.example").status == 400
    assert get(running, path, host="localhost").status == 200


def test_only_the_loopback_address_listens(running: browsing.Server) -> None:
    port = urllib.parse.urlsplit(running.url).port
    with socket.socket(socket.AF_INET6) as probe:
        assert probe.connect_ex(("::1", port)) != 0


def test_a_port_in_use_is_one_sentence(running: browsing.Server, tmp_path: Path) -> None:
    port = str(urllib.parse.urlsplit(running.url).port)
    arguments = ["--port", port, "--db", str(tmp_path / "other.db")]
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "--port" in done.stderr
    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "0"], "choose one from 1 to 65535"),
        (["--host", "no.such.host.invalid"], "is not an address of this machine"),
        (["--db", "nonsense://x"], "nonsense"),
    ],
)
def test_a_bad_start_is_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "build", lambda *_, **__: pytest.fail("it started"))
    assert command.main(["--port", str(free_port()), *arguments]) == 2
    stderr = capsys.readouterr().err
    assert words in stderr
    assert stderr.count("\n") == 1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Started:
    """Stands for the app and keeps the settings that it was started with."""

    settings: dict[str, object]

    def run(self, config: dict[str, object]) -> None:
        self.settings = config


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Started:
    stand_in = Started()
    monkeypatch.setattr(server, "build", lambda *_, **__: stand_in)
    monkeypatch.setenv("VR1Z_DATABASE_URL", str(tmp_path / "runs.db"))
    return stand_in


def test_another_address_is_refused_without_sign_in(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--port", str(free_port()), "--host", "0.0.0.0"]) == 2
    assert "use an SSH tunnel, or require sign-in" in capsys.readouterr().err
    assert not hasattr(started, "settings")


def test_the_default_is_guarded_and_silent(started: Started, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--port", str(free_port())]) == 0
    assert capsys.readouterr().err == ""
    assert started.settings["server.address"] == "127.0.0.1"
    assert "localhost" in started.settings["server.allowedHosts"]  # type: ignore[operator]
    assert started.settings["browser.gatherUsageStats"] is False


def test_the_demo_is_prepared_beside_the_server_and_ends_with_it(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    make.run(store, "mine")  # so that nothing trains
    children: list[psutil.Process] = []

    def run(**_: object) -> None:
        children.extend(child for child in psutil.Process().children() if "app.demo" in child.cmdline())
        deadline = time.monotonic() + 240
        while not recorded.recorded_runs(list_run_heads(store)) and time.monotonic() < deadline:
            time.sleep(0.05)

    monkeypatch.setattr(started, "run", run)
    assert command.main(["--port", str(free_port()), "--demo"]) == 0
    assert recorded.recorded_runs(list_run_heads(store))
    assert children and not any(child.is_running() for child in children)
    assert list_jobs(store, open_only=True) == []


def test_looking_after_the_jobs_survives_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[int] = []
    stopped = threading.Event()

    def look(supervisor: object) -> list[str]:
        calls.append(len(calls))
        if len(calls) == 1:
            raise OSError("disk on fire")
        stopped.set()
        return ["The process of shapes-grpo is gone."]

    monkeypatch.setattr(Supervisor, "look", look)
    monkeypatch.setattr(server, "RECONCILE_EVERY", 0.01)
    server._reconcile(open_store(str(tmp_path / "runs.db")), stopped)
    assert calls == [0, 1]


def test_a_server_for_screenshots_leaves_other_processes_of_its_database_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'live.db'}"
    environment = os.environ | {"VR1Z_DATABASE_URL": url}
    job = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=environment)
    try:
        with browsing.serving(url, tmp_path / "server.log"):
            pass
        assert job.poll() is None
    finally:
        job.kill()
        job.wait()


def test_the_server_asks_the_url_for_what_the_database_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MEDIA_VARIABLE, f"file://{tmp_path}/afar")
    store = open_store(str(tmp_path / "runs.db"))
    (example,) = add_examples(store, [make.example()])
    sha256 = get_examples(store, [example])[example].images[0]
    stray = files.save(store.media, make.image("blue")).sha256
    shutil.rmtree(tmp_path / "runs-media-cache")
    assert asked(store, sha256).path == media_path(store, sha256)
    files.path_of(tmp_path / "afar", sha256).write_bytes(b"rot")
    shutil.rmtree(tmp_path / "runs-media-cache")
    for name, says in ((sha256, "is damaged"), (stray, "No image has this hash"), ("../../etc", "No image")):
        with pytest.raises(HTTPException, match=says):
            asked(store, name)
    store.close()


def asked(store: Store, sha256: str) -> FileResponse:
    [route] = [route for route in server.routes(store) if route.path.startswith("/api/media/")]
    response = route.endpoint(Request({"type": "http", "path_params": {"sha256": sha256}}))
    assert isinstance(response, FileResponse) and response.media_type == "image/png"
    return response


def test_a_database_that_is_replaced_under_the_server_is_noticed(
    seeded_store: Store, empty_store_file: Path, open_page: Callable[..., AppTest], tmp_path: Path
) -> None:
    app = open_page("runs")
    client = TestClient(Starlette(routes=server.routes(seeded_store)))
    assert client.get("/api/health").json() == {"status": "ok"}
    os.replace(empty_store_file, tmp_path / "data/runs.db")
    app.run()
    assert app.error[0].value == "The database is not usable." and "Restart this program" in app.text[0].value
    assert not app.dataframe
    assert (client.get("/api/health").status_code, client.get("/api/health").json()) == (503, {"status": "restart"})
    assert "Restart" in client.get("/api/completions.jsonl").text


@pytest.fixture
def empty_store_file(tmp_path: Path) -> Path:
    open_store(str(tmp_path / "other.db")).close()
    return tmp_path / "other.db"
