"""Faults of copies: a run that is in two databases, and weights that are in one folder only."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from scripts import browsing
from store.care import backup, transfer
from store.completions.rows import iter_completions
from store.db.connection import StoreError
from store.db.engine import URL_VARIABLE
from store.db.rows import JobRow
from store.jobs import add_job, get_job
from tests.faults.scene import LONG, PATIENCE, Scene, answers, scene
from trainer import launch

FURTHER = 3
"""Steps that a resumed run takes before it is stopped again."""


def restored(folder: Path, times: int) -> str:
    """Restores a backup of a stopped run elsewhere, and resumes the run there and where it was."""
    for number in range(times):
        there = folder / str(number) / "there"
        with scene(folder / str(number) / "here") as here:
            job = stopped_run(here)
            before = contents(output(here, job))
            backup.backup(here.store, folder / str(number) / "backup")
            backup.restore(folder / str(number) / "backup", f"sqlite:///{there}/runs.db")
            with scene(there) as copy:
                goes_on(copy, job)
                assert output(copy, job).is_relative_to(there)
            assert contents(output(here, job)) == before, "the original's folder was touched"
            goes_on(here, job)
    return "the copy went on in a folder of its own; no file of the original's changed, and it went on too"


def imported(folder: Path, times: int) -> str:
    """Imports a run that another database exported, and tries to resume it from code, command line and queue."""
    for number in range(times):
        file = folder / str(number) / "run.zip"
        with scene(folder / str(number) / "there") as there:
            job = stopped_run(there)
            transfer.export_runs(there.store, [job.run_id], file)
        with scene(folder / str(number) / "here") as here:
            (run,) = transfer.import_runs(here.store, file)
            before = len(list(iter_completions(here.store, run.id)))
            said = refusal(here, run.id)
            command = [sys.executable, "-m", "trainer", "run", "--resume", run.uid]
            environment = os.environ | {URL_VARIABLE: here.store.url}
            tried = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
            assert (tried.returncode, tried.stderr.strip()) == (2, f"error: {said}")
            queued = get_job(here.store, add_job(here.store, run.id, "train", {"resume": True}).uid)
            launch.ensure_worker(here.store)
            assert here.until(queued, "failed").error == said
            assert len(list(iter_completions(here.store, run.id))) == before > 0
            here.is_whole()
    return "refused in one sentence each time; all its completions stayed"


def refusal(here: Scene, run_id: int) -> str:
    try:
        launch.resume(here.store, run_id)
    except StoreError as error:
        assert "has no checkpoint on this machine" in str(error), error
        return str(error)
    raise AssertionError("a run without a checkpoint was queued")


def replaced(folder: Path, times: int) -> str:
    """Puts a backup in the place of the database, and later the database back in its place."""
    for number in range(times):
        with scene(folder / str(number)) as here:
            job = stopped_run(here)
            mine = output(here, job)
            backup.backup(here.store, folder / f"{number}-backup")
        before = contents(mine)
        path = folder / str(number) / "runs.db"
        move(path, path.with_name("away.db"))
        backup.restore(folder / f"{number}-backup", f"sqlite:///{path}")
        with scene(folder / str(number)) as here, browsing.serving(here.store.url, folder / "server.log") as server:
            assert answers(server)
            goes_on(here, job)
            assert output(here, job) != mine
        assert contents(mine) == before, "the folder of the database that was moved away was touched"
        move(path, path.with_name("restored.db"))
        move(path.with_name("away.db"), path)
        with scene(folder / str(number)) as here:
            goes_on(here, job)
            assert output(here, job) == mine
    return "the run went on in a folder of its own; with the first database back in its place, in the first folder"


def move(database: Path, target: Path) -> None:
    """A database with its log, which a process that was killed leaves behind."""
    for end in ("", "-wal", "-shm"):
        file = Path(f"{database}{end}")
        if file.exists():
            file.replace(f"{target}{end}")


def stopped_run(here: Scene) -> JobRow:
    """A run that was stopped at a checkpoint."""
    job = here.start(LONG)
    here.until_trains(job)
    here.stopped(job)
    return job


def goes_on(here: Scene, job: JobRow) -> None:
    """Resumes a run that is known here by the same uid, and stops it in order."""
    run = here.run(job)
    again = here.resume(job)
    here.until_step(again, run.step + FURTHER)
    here.stopped(again)


def output(here: Scene, job: JobRow) -> Path:
    return Path(str(here.run(job).output_dir))


def contents(folder: Path) -> dict[str, str]:
    """Every file and its hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
