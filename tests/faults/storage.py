"""Faults of disks, files and clocks; what needs a file system of its own is mounted, which only root may."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts import browsing
from store.db.connection import StoreError
from store.jobs import add_job, ask_stop, get_job
from store.metrics import read_clock
from store.runs import create_run, list_runs
from tests.faults.scene import LONG, PATIENCE, SHOWN_SECONDS, answers, eventually, scene
from trainer.launch import identity

DISK = "48m"
JUMP = """
import time
from pathlib import Path

_real, _offset = time.time, Path(__file__).with_name("offset")
time.time = lambda: _real() + float(_offset.read_text())
"""
"""A sitecustomize: the clock of each process is wrong by the seconds in a file beside it."""
DAY = 86_400


class NotPossible(Exception):
    """This machine does not permit the fault."""


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A small file system in memory. Raises NotPossible."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "faults", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        raise NotPossible(f"mounting a file system: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, mode: str) -> None:
    """As soon as the processes that were killed have let go of their files."""
    command = ["mount", "-o", f"remount,{mode}", str(folder)]
    eventually(lambda: subprocess.run(command, capture_output=True).returncode == 0, SHOWN_SECONDS, "remounted")


def full(folder: Path, times: int) -> str:
    """Fills the disk under a training until it ends, then frees it."""
    endings = set()
    for number in range(times):
        with (
            disk(folder / str(number)) as small,
            scene(small) as here,
            browsing.serving(here.store.url, folder / "server.log") as server,
        ):
            job = here.start(60)
            here.until_step(job, 2)
            fill(small / "ballast")
            pid = int(here.job(job).pid or 0)
            eventually(lambda gone=pid: identity.start_time(gone) is None, PATIENCE, "the end of the training")
            here.is_whole()
            assert answers(server)
            (small / "ballast").unlink()
            ended = here.until(job, "failed", seconds=SHOWN_SECONDS)
            assert ended.error_kind in ("disk", "database"), ended.error
            endings.add(str(ended.error_kind))
            here.finished(here.resume(job))
            assert here.has_all_steps(job) == 60
            here.is_whole()
    return f"failed ({', '.join(sorted(endings))}) with the advice to free space; resumed and finished after that"


def fill(ballast: Path) -> None:
    """Writes until there is no room for another page."""
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def read_only(folder: Path, times: int) -> str:
    """Makes the file system of a database read-only and tries to use it."""
    said = ""
    for number in range(times):
        with disk(folder / str(number)) as small:
            with scene(small) as here:
                here.finished(here.start(2))
            remount(small, "ro")
            for command in (["app", "--port", "18765"], ["trainer", "run", "--preset", "shapes-grpo"]):
                tried = subprocess.run(
                    [sys.executable, "-m", *command, "--db", str(small / "runs.db")],
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                )
                said = tried.stderr.strip()
                assert tried.returncode == 2 and "cannot be written" in said and len(said.splitlines()) == 1, said
            remount(small, "rw")
            with scene(small) as here:
                here.is_whole()
                assert len(list_runs(here.store)) == 1
    return "dashboard and trainer refuse in one sentence, that it cannot be written; nothing was changed"


def deleted_folder(folder: Path, times: int) -> str:
    """Deletes a run's output folder while it trains, and once more while it is stopped."""
    for number in range(times):
        with scene(folder / str(number)) as here:
            job = here.start(40)
            here.until_step(job, 12)
            shutil.rmtree(here.store.media.parent / "runs" / job.run_uid)
            here.finished(job)
            here.has_all_steps(job)
            job, waiting = here.start(LONG), here.start(1)
            here.until_step(job, 12)
            os.kill(int(here.job(job).pid or 0), signal.SIGKILL)
            here.until(job, "killed", seconds=SHOWN_SECONDS)
            shutil.rmtree(here.store.media.parent / "runs" / job.run_uid)
            with suppress(StoreError):
                raise AssertionError(f"{here.resume(job)} has no checkpoint to go on from")
            again = get_job(here.store, add_job(here.store, job.run_id, "train", {"resume": True}).uid)
            again = here.until(again, "failed")
            assert again.error_kind == "disk" and "does not exist. Launch a new run." in str(again.error)
            here.finished(waiting)
            here.is_whole()
    return (
        "a training run makes it anew and finishes; a resume is refused with the advice to launch anew; "
        "the queue goes on"
    )


def jumping_clock(folder: Path, times: int) -> str:
    """Lets the clock of dashboard, queue and trainer jump a day ahead and then two days back."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(JUMP)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(folder)
    try:
        for number in range(times):
            jump(folder, 0)
            with scene(folder / str(number)) as here, browsing.serving(here.store.url, folder / "server.log"):
                job = here.start(LONG)
                here.until_trains(job)
                for seconds in (DAY, -DAY):
                    jump(folder, seconds)
                    assert here.until_step(job, here.run(job).step + 5).state == "running"
                at = read_clock(here.store, job.run_id).at
                assert max(at) - min(at) > DAY, "the clock did not jump"
                pace = list_runs(here.store)[0].seconds_per_step
                assert pace is not None and 0 < pace < 60
                here.stopped(job)
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    return "training went on with all steps and obeyed a stop; its pace stayed that of most steps"


def jump(folder: Path, seconds: int) -> None:
    new = folder / "new"
    new.write_text(str(seconds))
    new.replace(folder / "offset")


def broken_row(folder: Path, times: int) -> str:
    """Puts rows into the queue that cannot be carried out, with a good one behind them."""
    with scene(folder) as here:
        for _ in range(times):
            run = create_run(
                here.store,
                name="broken",
                method="grpo",
                style="cot",
                model="tiny",
                dataset="shapes-simple",
                config={"lora": {"rank": -1}},
                reward_weights={},
            )
            broken = [add_job(here.store, run.id, kind, {}) for kind in ("train", "unheard of")]
            stuck = add_job(here.store, run.id, "train", {})
            good = here.start(1)
            here.finished(good)
            for reference in broken:
                row = get_job(here.store, reference.uid)
                assert row.state == "failed" and row.error_kind == "config", row.error
            ask_stop(here.store, stuck.id)
    return "each failed with the field or word that is wrong; the next job started"
