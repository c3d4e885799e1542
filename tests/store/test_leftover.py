"""What killed scripts left behind: the dashboard of their machine, or the next script there, takes it in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from store.completions.rows import iter_completions
from store.db.engine import Store
from store.db.states import JobState
from store.jobs import end_job, list_jobs
from store.recording import leftover, records
from store.recording.intake import take
from store.recording.leftover import JournalSweep
from store.recording.records import IMAGES, LINES, PREFIX, End
from store.runs import delete_run, get_run, list_runs, resolve_run
from tests.store.test_recording import HASH, PICTURE, PROCESS, RECORDS, UID, lines
from trainer.launch import endings, identity
from trainer.record import vr1z
from trainer.record.direct import Database

HERE = str(PROCESS["host"])
KILLED = """
import os, sys
import vr1z
run = vr1z.start("first", folder=sys.argv[1], url="http://127.0.0.1:9")
run.log(1, {"loss": 0.5})
run.group(1, "How many?", None, ["2", "3"], rewards={"right": [1.0, 0.0]})
run._courier.wait_for_disk(10)
os._exit(9)
"""


def journal(place: Path, written: list[bytes], *, age: float = 3600.0) -> Path:
    folder = place / f"{PREFIX}{UID}"
    (folder / IMAGES).mkdir(parents=True)
    (folder / IMAGES / HASH).write_bytes(PICTURE)
    path = folder / LINES
    path.write_bytes(b"".join(line + b"\n" for line in written))
    os.utime(path, (time.time() - age,) * 2)
    return folder


def told(folder: Path) -> list[bytes]:
    return lines([{**RECORDS[0], "folder": str(folder)}, *RECORDS[1:]])


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is swept."""
    monkeypatch.setenv(leftover.VARIABLE, str(tmp_path / "swept"))
    return tmp_path / "swept"


def test_a_journal_that_nobody_delivered_is_taken_in_once(store: Store, place: Path) -> None:
    folder = journal(place, lines())
    sweep = JournalSweep(store, HERE)
    (taken,) = sweep.look()
    assert taken.new == len(RECORDS) and str(len(RECORDS)) in leftover.summarize_results([taken])[0]
    assert sweep.look() == [] and JournalSweep(store, HERE).look() == []
    assert get_run(store, resolve_run(store, "mine")).status == "finished" and list_runs(store)[0].step == 2
    (folder / LINES).write_bytes((folder / LINES).read_bytes() + b'{"seq": 99, "type": "event"')
    assert sweep.look() == [], "a line without its end is none"


def test_what_is_being_written_is_left_to_its_script(store: Store, place: Path) -> None:
    journal(place, lines(), age=1.0)
    assert JournalSweep(store, HERE).look() == [] and list_runs(store) == []


def test_the_rest_of_a_killed_script_is_taken_from_where_it_lies(store: Store, tmp_path: Path) -> None:
    folder = journal(tmp_path / "elsewhere", told(tmp_path / "elsewhere" / f"{PREFIX}{UID}"), age=0.0)
    written = (folder / LINES).read_bytes().splitlines()
    take(store, UID, 0, written[:1], is_alive=False)
    assert JournalSweep(store, HERE).look() == [], "its script may be alive"
    (job,) = list_jobs(store)
    end_job(store, job.id, JobState.KILLED, error="gone")
    assert JournalSweep(store, "another machine").look() == []
    (taken,) = JournalSweep(store, HERE).look()
    assert taken.new == len(RECORDS) - 1 and taken.problem is None
    run = get_run(store, resolve_run(store, UID))
    assert run.status == "finished", "what the script says of its end is truer"
    assert len(list(iter_completions(store, run.id))) == 4


def test_a_script_that_ended_while_nobody_listened_is_not_called_killed(store: Store, tmp_path: Path) -> None:
    folder = journal(tmp_path / "elsewhere", told(tmp_path / "elsewhere" / f"{PREFIX}{UID}"))
    written = (folder / LINES).read_bytes().splitlines()
    here = json.loads(written[0])
    here["process"] = {"host": identity.host(), "boot_id": identity.boot_id(), "pid": 2**22 + 1, "started": 1.0}
    take(store, UID, 0, [json.dumps(here).encode()])
    (job,) = list_jobs(store)
    assert leftover.last_word(store, job) == End(state="finished", at=8.0)
    (sentence,) = endings.close_gone(store)
    assert "finished, according to its journal" in sentence
    (job,) = list_jobs(store)
    assert (job.state, job.error, job.exit_code, job.ended_at) == ("finished", None, 0, 8.0)
    (taken,) = JournalSweep(store, identity.host()).look()
    assert taken.new == len(RECORDS) - 1 and list_jobs(store)[0].state == "finished"


def test_a_journal_that_does_not_end_with_its_end_says_nothing_of_it(store: Store, tmp_path: Path) -> None:
    folder = journal(tmp_path / "elsewhere", told(tmp_path / "elsewhere" / f"{PREFIX}{UID}")[:-1])
    take(store, UID, 0, (folder / LINES).read_bytes().splitlines()[:1])
    (job,) = list_jobs(store)
    assert leftover.last_word(store, job) is None
    (folder / LINES).unlink()
    assert leftover.last_word(store, job) is None


@pytest.mark.parametrize("fault", ["link", "name", "relative", "uid"])
def test_a_journal_is_not_believed_where_it_says_it_lies(store: Store, tmp_path: Path, fault: str) -> None:
    true = tmp_path / "elsewhere" / f"{PREFIX}{UID}"
    said = {"name": true.parent, "relative": Path("elsewhere") / true.name}.get(fault, true)
    written = told(said)
    folder = journal(tmp_path / "elsewhere", written)
    take(store, UID, 0, written[:1], is_alive=False)
    end_job(store, list_jobs(store)[0].id, JobState.KILLED, error="gone")
    if fault == "link":
        (folder / LINES).rename(tmp_path / "target")
        (folder / LINES).symlink_to(tmp_path / "target")
    if fault == "uid":
        (folder / LINES).write_bytes(b"\n".join(lines([{**RECORDS[0], "uid": "another0"}, *RECORDS[1:]])) + b"\n")
    found = JournalSweep(store, HERE).look()
    assert [taken.new for taken in found] == ([0] if fault == "uid" else [])
    assert list_runs(store)[0].step == 0


def test_a_deleted_run_does_not_come_back_and_is_not_complained_about(store: Store, place: Path) -> None:
    journal(place, lines())
    JournalSweep(store, HERE).look()
    delete_run(store, resolve_run(store, "mine"))
    assert JournalSweep(store, HERE).look() == [] and list_runs(store) == []


@pytest.mark.parametrize("number", [0, 1, 12345])
def test_the_last_number_is_that_of_the_last_whole_line(number: int, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"seq": 0}\n' + b'{"seq": %d, "text": "%s"}\n' % (number, b"x" * 200_000) + b'{"seq": 7')
    assert records.last_number(path) == vr1z._last_number(path) == number
    path.write_bytes(b'{"seq": 3')
    assert records.last_number(path) is None and vr1z._last_number(path) == -1


HERE_NOW = vr1z._process()


@pytest.mark.parametrize(
    ("process", "age", "is_delivered"),
    [
        ({"host": "another"}, 3600, True),
        ({"host": "another"}, 1, False),
        ({"namespace": "pid:[1]"}, 3600, True),
        ({"namespace": "pid:[1]"}, 1, False),
        ({"boot_id": "before"}, 1, True),
        ({}, 3600, False),
        ({"started": 1.0}, 1, True),
        ({"pid": 2**22 + 1}, 1, True),
    ],
    ids=str,
)
def test_a_journal_is_delivered_by_others_once_its_script_is_gone(
    process: dict[str, Any], age: float, is_delivered: bool, tmp_path: Path
) -> None:
    journal(tmp_path, lines([{**RECORDS[0], "process": HERE_NOW | process}, *RECORDS[1:]]), age=age)
    database = Database(str(tmp_path / "runs.db"))
    vr1z.deliver_left(tmp_path, "own", database)
    assert [run.step for run in list_runs(database._opened())] == ([2] if is_delivered else [])


def test_a_script_in_another_container_of_this_machine_is_not_called_killed(store: Store) -> None:
    gone = HERE_NOW | {"pid": 2**22 + 1, "started": 1.0}
    for uid, namespace in (("here", HERE_NOW["namespace"]), ("inside", "pid:[1]"), ("older", None)):
        begin = {**RECORDS[0], "uid": uid, "process": gone | {"namespace": namespace}}
        take(store, uid, 0, lines([begin]))
    endings.close_gone(store)
    assert {run.uid: run.status for run in list_runs(store)} == {
        "here": "killed",
        "inside": "running",
        "older": "killed",
    }
    assert {run.host for run in list_runs(store) if run.uid == "inside"} == {f"{identity.host()} (another container)"}


def test_the_next_script_in_the_folder_delivers_what_a_killed_one_left(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(vr1z.__file__).parent), "VR1Z_TOKEN": "t" * 40}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], env=environment, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 9 and len(list(tmp_path.glob(f"{PREFIX}*/{LINES}"))) == 1
    database = Database(str(tmp_path / "runs.db"))
    second = vr1z.Run("second", folder=tmp_path, dashboard=database)
    second.begin()
    second.greet()
    end = time.monotonic() + 60
    while not (store := database._opened()) or {run.name: run.step for run in list_runs(store)}.get("first") != 1:
        assert time.monotonic() < end, list_runs(store)
        time.sleep(0.05)
    first = get_run(store, resolve_run(store, "first"))
    assert len(list(iter_completions(store, first.id))) == 2
    (job,) = list_jobs(store, run_id=first.id)
    assert job.heartbeat == 2, "one for each part of a step, and no other sign of life"
    second.finish()
    assert {run.name for run in list_runs(store)} == {"first", "second"}
