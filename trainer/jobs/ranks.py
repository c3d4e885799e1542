"""Run one training job on several processes of a host, one per GPU: start these ranks, wait, and report how they ended.

The job's own process stays the one in the database: it sends heartbeats, handles signals and closes the job. It starts
the ranks with `accelerate launch`, whose environment TRL reads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from store.db.engine import URL_VARIABLE, Store
from trainer.spec.errors import Stopped, TrainerError, classify

OUTCOMES = "VR1Z_OUTCOMES"
"""Environment variable of a rank with the folder to which it writes why it failed."""
GRACE_SECONDS = 10.0
LAUNCH = (
    *("accelerate.commands.launch", "--multi_gpu", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"),
    *("--main_process_ip=127.0.0.1", "--main_process_port=0"),
)
"""Overrides a user's own defaults. `multi_gpu` is right for CPUs as well: it selects torch's launcher."""
PEER_SIGNS = ("connection closed by peer", "connection reset by peer", "broken pipe", "timed out waiting")
"""Error messages of ranks that fail because another rank has ended."""
ROOT = Path(__file__).resolve().parents[2]
ONE_HOST = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
"""Ranks on one host communicate over its loopback interface only."""


def is_rank() -> bool:
    return OUTCOMES in os.environ


def is_first() -> bool:
    """Return whether this process is the one that writes, the first rank or the only process."""
    return os.environ.get("RANK", "0") == "0"


def run(store: Store, job_uid: str, count: int) -> None:
    """Start the ranks of a job and wait for them. Raises Stopped, or TrainerError with the reason of a failure.

    When this process ends, it ends them; if it is killed, the process that closes its job does.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", *LAUNCH, f"--num_processes={count}", "-m", "trainer", "rank", job_uid]
        environment = ONE_HOST | os.environ | {OUTCOMES: folder, "OMP_NUM_THREADS": _threads(count)}
        environment[URL_VARIABLE] = store.url
        # In a session of their own: Ctrl-C in a terminal reaches only the job, which lets all ranks finish their step.
        process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
        try:
            code = process.wait()
        finally:
            _end(process)
        _raise_outcome(Path(folder), code, count)


def work(act: Callable[[], None]) -> int:
    """Run a rank's work, record how it failed, and return the exit code."""
    try:
        act()
    except Stopped:
        # Exit with an error, so that ranks that wait for this one are ended.
        return _say(stopped=True)
    except BaseException as error:
        traceback.print_exc()
        kind, sentence = classify(error)
        return _say(kind=kind, sentence=sentence, for_a_peer=any(sign in str(error).lower() for sign in PEER_SIGNS))
    return 0


def _say(**outcome: Any) -> int:
    path = Path(os.environ[OUTCOMES], f"{os.environ['RANK']}.json")
    path.write_text(json.dumps(outcome | {"at": time.time()}), encoding="utf-8")
    return 1


def _raise_outcome(folder: Path, code: int, count: int) -> None:
    outcomes = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    # One failure causes others; the first tells the reason.
    causes = sorted(
        (outcome for outcome in outcomes if not outcome.get("for_a_peer")), key=lambda outcome: outcome["at"]
    )
    if causes and causes[0].get("stopped"):
        raise Stopped
    if causes:
        raise TrainerError(causes[0]["kind"], causes[0]["sentence"])
    if code:
        failure = f"One of the {count} processes ended without an error message"
        raise TrainerError("bug", f"{failure}, perhaps killed or out of memory. See the log, then resume the run.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the launcher and the ranks, each of which has its own session."""
    if process.poll() is not None:
        return
    ranks = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
    for member in [process, *ranks]:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


def _threads(count: int) -> str:
    """Return a rank's number of threads: as configured, or else its share of the processors."""
    return os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // count))
