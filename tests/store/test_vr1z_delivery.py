"""Folders that cannot be written, and dashboards that take little, answer oddly, or are others than before."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from store.completions.rows import list_groups
from store.db.engine import Store
from store.runs import get_run, list_runs
from tests.scripts_elsewhere import NOBODY, picture
from tests.store.test_vr1z import loss, lost, said
from trainer.record import vr1z
from trainer.record.direct import Database


class Narrow(Database):
    """Behind a server that takes few bytes at once, as nginx takes a megabyte unless it is told otherwise."""

    sizes: ClassVar[list[int]] = []

    def put(self, uid: str, first: int, lines: Sequence[bytes], *others: Any, **named: Any) -> vr1z.DeliveryReply:
        self.sizes.append(sum(map(len, lines)))
        if self.sizes[-1] > 1000 and len(lines) > 1:
            raise vr1z.InvalidRequest("413")
        return super().put(uid, first, lines, *others, **named)


def test_a_server_that_takes_little_at_once_gets_it_in_parts(store: Store, tmp_path: Path) -> None:
    dashboard = Narrow(store.url)
    run = vr1z.Run("mine", folder=tmp_path, dashboard=dashboard)
    with run._courier.journal._lock:  # so that all of it is there at the first delivery
        thread = threading.Thread(target=lambda: [run.log(step, {"loss": 1.0}) for step in range(1, 60)])
        thread.start()
    thread.join()
    assert run._courier.wait(120)
    run.finish()
    run.close()
    (row,) = list_runs(store)
    assert (row.step, row.status) == (59, "finished") and run._courier.refusal is None
    assert max(dashboard.sizes) > 1000
    dashboard._opened().close()


def test_a_folder_that_cannot_be_written_keeps_nothing_from_the_dashboard(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    dashboard = Database(store.url)
    run = vr1z.Run("mine", folder=tmp_path / "file", dashboard=dashboard)
    with caplog.at_level(logging.WARNING, "vr1z"):
        run.group(1, "Q?", [picture(3)], ["a"])
        run.finish()
        assert run._courier.wait(120)
    (row,) = list_runs(store)
    assert row.status == "finished" and [each.text for each in said(store, get_run(store, row.id))] == ["a"]
    (group,) = list_groups(store, row.id, 1)
    assert group.example is not None and len(group.example.images) == 1
    run.close()
    dashboard._opened().close()
    assert sum("cannot be written" in entry.message for entry in caplog.records) == 1


def test_with_neither_folder_nor_dashboard_the_end_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(vr1z, "END_SECONDS", 0.2)
    monkeypatch.setenv("VR1Z_TOKEN", "t" * 40)
    (tmp_path / "file").write_text("in the way")
    run = vr1z.Run("mine", folder=tmp_path / "file", dashboard=vr1z.Dashboard(NOBODY))
    with caplog.at_level(logging.WARNING, "vr1z"):
        loss(run)
        run.finish()
        waited: list[float] = []
        monkeypatch.setattr(run._courier, "wait", waited.append)
        run.close()
    assert not waited
    told = [entry.message for entry in caplog.records]
    assert any("the last records of the run are lost" in each for each in told) and not any(
        "store sync" in each for each in told
    )


class Stubborn(Database):
    """Takes nothing, and says so again and again."""

    asked = 0

    def put(self, *_: Any, **__: Any) -> vr1z.DeliveryReply:
        self.asked += 1
        return vr1z.DeliveryReply(0, 0, "r", ("0" * 64,))


def test_a_dashboard_that_does_not_get_on_is_not_asked_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vr1z, "END_SECONDS", 0.5)
    dashboard = Stubborn()
    run = vr1z.Run("mine", folder=tmp_path, dashboard=dashboard)
    loss(run)
    run.finish()
    run.close()
    assert 0 < dashboard.asked < 20


def test_another_database_at_the_same_address_gets_all_of_it(tmp_path: Path) -> None:
    """As where a dashboard is started anew with an empty database, or with an older backup."""
    database = Database(str(tmp_path / "first.db"))
    run = vr1z.Run("mine", folder=tmp_path, dashboard=database)
    run.group(1, "Q?", [picture(3)], ["a"])
    assert run._courier.wait(60)
    database._opened().close()
    database._store, database._db = None, str(tmp_path / "second.db")
    run.group(2, "Q?", [picture(3)], ["b"])
    run.finish()
    assert run._courier.wait(120)
    run.close()
    store = database._opened()
    (row,) = list_runs(store)
    assert row.step == 2 and [each.text for each in said(store, get_run(store, row.id))] == ["a"]
    assert lost(store, get_run(store, row.id)) == []
    store.close()


def test_an_address_needs_no_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VR1Z_URL", "box:8501/")
    assert vr1z.Dashboard().page("u") == "http://box:8501/run?run=u"


@pytest.mark.parametrize(
    ("code", "body", "told"),
    [
        (200, b"<html>a router</html>", "answers, but not like a Vision-R1-Zero dashboard"),
        (200, b"[]", "is not a Vision-R1-Zero dashboard: set VR1Z_URL to its address"),
        (404, b"Not Found", "does not accept records (404): set VR1Z_URL to the dashboard's address"),
        (401, b"This is not the token of this dashboard.", "This is not the token of this dashboard."),
        (503, b"The database is busy.", "The database is busy."),
        (302, b"", "answers 302"),
        (500, b"<html>oops</html>", "answers 500"),
    ],
)
def test_whatever_answers_is_told_in_a_sentence(
    code: int, body: bytes, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(code)
            self.send_header("Location", "/sign-in")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    monkeypatch.setenv("VR1Z_TOKEN", "t" * 40)
    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        dashboard = vr1z.Dashboard(f"http://127.0.0.1:{server.server_port}")
        with pytest.raises((vr1z.Unreachable, vr1z.Refused)) as error:
            dashboard.put("u", 0, [b"{}\n"])
        thread.join()
    assert told in str(error.value)
