"""Faults of recorded scripts: their journal and the database agree in the end, each record once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from app.recording import recorder
from scripts import browsing
from store.completions.rows import iter_completions
from store.db.engine import Store, open_store
from store.events import list_events
from store.jobs import list_jobs
from store.metrics import read_series
from store.recording import folders, token
from store.recording.records import LINES
from store.runs import find_run, list_runs
from tests.faults.scene import SHOWN_SECONDS

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 1.5
"""Seconds after its first step at which a script, or the dashboard, is killed at the latest."""
SCRIPT = """
import time
import vr1z
from PIL import Image

run = vr1z.start("theirs", folder="journals")
for step in range(1, 100_000):
    picture = Image.new("RGB", (8, 8), (step % 256, step // 256, 0))
    run.group(step, f"What is picture {step}?", [picture], [f"one {step}", f"two {step}"], rewards={"r": [1.0, 0.0]})
    run.log(step, {"loss": 1 / step})
    time.sleep(0.1)
"""


class Place:
    """A dashboard that can be killed and started again at its address, and scripts that record into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store: Store = open_store(str(folder / "data" / "runs.db"))
        self.port = browsing._free_port()
        self.server = self.serve()
        url = f"http://127.0.0.1:{self.port}"
        (folder / "vr1z.py").write_text(recorder(url, str(token.path_of(self.store))), encoding="utf-8")
        (folder / "theirs.py").write_text(SCRIPT, encoding="utf-8")

    def serve(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "app", "--db", self.store.url, "--port", str(self.port)]
        token.token_of(self.store)
        with (self.folder / "server.log").open("ab") as log:
            server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        deadline = time.monotonic() + browsing.START_SECONDS
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/health", timeout=2).close()
                return server
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the dashboard did not start")

    def script(self) -> subprocess.Popen[bytes]:
        """Start a script, and wait until its journal has a step."""
        before = len(self.journals())
        with (self.folder / "theirs.log").open("ab") as log:
            script = subprocess.Popen([sys.executable, "theirs.py"], cwd=self.folder, stdout=log, stderr=log)
        deadline = time.monotonic() + browsing.START_SECONDS
        while time.monotonic() < deadline:
            if len(self.journals()) > before and any(self.has_begun(path) for path in self.journals()[-1:]):
                return script
            assert script.poll() is None, "see theirs.log"
            time.sleep(0.02)
        raise AssertionError("the script did not begin")

    def journals(self) -> list[Path]:
        return sorted(self.folder.glob(f"journals/*/{LINES}"), key=lambda path: path.stat().st_ctime)

    def has_begun(self, path: Path) -> bool:
        return b'"type": "step"' in path.read_bytes()

    def end(self) -> None:
        self.server.kill()
        self.server.wait()
        self.store.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def killed(folder: Path, times: int) -> str:
    """Kills script, dashboard or both at random moments, then takes in what was not delivered."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder)
    waiting = 0.0
    try:
        for turn in range(times):
            script = place.script()
            time.sleep(random.uniform(0, LONGEST))
            if turn % 3:
                kill(place.server)
            if turn % 3 == 1:  # the dashboard alone: the script goes on, and delivers to the next one
                place.server = place.serve()
                time.sleep(random.uniform(0, LONGEST))
            kill(script)
            if turn % 3 == 2:
                place.server = place.serve()
            waiting = max(waiting, shown_as_killed(place))
        late = sum(taken.new for taken in folders.sync(place.store, [folder]))
        records, completions = agree(place)
        return (
            f"{records:,} records of {len(place.journals())} journals, with {completions:,} completions, are in the "
            f"database once each, {late:,} of them by `store sync`; shown as killed after {waiting:.1f} s at most"
        )
    finally:
        place.end()


def shown_as_killed(place: Place) -> float:
    """Return the seconds until no job is shown as running whose script is gone."""
    begun = time.monotonic()
    while open_jobs := list_jobs(place.store, open_only=True):
        assert time.monotonic() - begun < SHOWN_SECONDS, open_jobs
        time.sleep(0.05)
    assert {job.state for job in list_jobs(place.store)} <= {"killed"}
    return time.monotonic() - begun


def agree(place: Place) -> tuple[int, int]:
    """Compare each journal with the database; return the number of records and of completions."""
    records = completions = 0
    for path in place.journals():
        told = [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        records += len(told)
        assert [each["seq"] for each in told] == list(range(len(told)))
        run = find_run(place.store, told[0]["uid"])
        expected = [each["text"] for record in told for each in record.get("completions", ())]
        assert sorted(row.text for row in iter_completions(place.store, run.id)) == sorted(expected)
        completions += len(expected)
        losses: dict[int, Any] = {r["step"]: r["metrics"]["loss"] for r in told if r.get("metrics")}
        curve = read_series(place.store, run.id, ["loss"], points=10**6)["loss"]
        assert dict(zip(curve.step.tolist(), curve.value.tolist(), strict=True)) == losses
        kinds = [event.kind for event in list_events(place.store, run.id)]
        assert kinds.count("started") == 1 and not {"recording_failed"} & set(kinds)
    assert len(list_runs(place.store)) == len(place.journals())
    return records, completions
