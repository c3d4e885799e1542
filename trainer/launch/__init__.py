"""Launch, resume, evaluate, embed and stop runs. Requests are stored in the database, and workers and jobs act on them.

All state is in the database, with its transitions in `store.jobs`, so that any process can be restarted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from store.db import ownership, private
from store.db.engine import Store, StoreError
from store.db.rows import JobRef, JobRow, RunRef
from store.db.states import OPEN, JobState, Launcher
from store.events import add_event
from store.jobs import add_job, ask_stop, end_job, get_job, list_jobs
from store.runs import create_run, get_run
from trainer.launch import cluster, endings, folders, identity, local, pinning
from trainer.launch.identity import Identity
from trainer.launch.supervision import worker_lives
from trainer.spec.config import ConfigError, RunConfig

DEATH_SECONDS = 5.0
"""Seconds to wait for a killed process to end."""
MOST_HERE = 3
NO_TRAINER = "The trainer is not installed here: run `make install`, or start jobs on a machine that has it."


class Job(Protocol):
    @property
    def uid(self) -> str: ...


def submit(store: Store, config: RunConfig, *, parent_id: int | None = None, launcher: str = Launcher.LOCAL) -> RunRef:
    """Create a run with a queued job, and make sure that a launcher starts it. Raises ConfigError."""
    run, _ = create(store, config, parent_id=parent_id, launcher=launcher)
    notify_launcher(store, launcher)
    return run


def resume(store: Store, run_id: int) -> JobRef:
    """Queue a job that continues a run from its last checkpoint. Raises StoreError if the run has an open job."""
    launcher = launcher_of(store, run_id)
    check(store, launcher)
    job = add_resume(store, run_id, launcher=launcher)
    notify_launcher(store, launcher)
    return job


def evaluate(store: Store, run_id: int, arguments: dict[str, Any]) -> JobRef:
    """Queue one evaluation of a run.

    `arguments` may have checkpoint (best, last, final or a step; 0 is the model that the run starts from), benchmark,
    path, split, limit, samples (K per example), baseline (blind, shuffled, majority), thinking (only run the
    CoT-faithfulness probe) and forced_prefix.
    """
    return _queue(store, run_id, "evaluate", arguments)


def embed(store: Store, run_ids: Sequence[int], encoder: str) -> list[JobRef]:
    """Queue an embedding job for each run that has no open one; see `trainer.evaluate.embedding_job`."""
    check(store, Launcher.LOCAL)
    jobs = add_embeddings(store, run_ids, encoder)
    if jobs:
        ensure_worker(store)
    return jobs


def add_embeddings(store: Store, run_ids: Sequence[int], encoder: str) -> list[JobRef]:
    """Like `embed`, but without notifying a launcher."""
    busy = {
        job.run_id
        for job in list_jobs(store, open_only=True)
        if job.kind == "embed" and job.arguments.get("encoder") == encoder
    }
    return [add_job(store, id, "embed", {"encoder": encoder}) for id in run_ids if id not in busy]


def measure_tokens(store: Store, run_id: int, completion_id: int) -> JobRef:
    """Queue a job that measures a completion's tokens with the nearest checkpoint of its run."""
    return _queue(store, run_id, "tokens", {"completion": completion_id})


def _queue(store: Store, run_id: int, kind: str, arguments: dict[str, Any]) -> JobRef:
    launcher = launcher_of(store, run_id)
    check(store, launcher)
    job = add_job(store, run_id, kind, arguments, launcher=launcher)
    notify_launcher(store, launcher)
    return job


def launcher_of(store: Store, run_id: int) -> str:
    """Return the launcher for a run's later jobs: the cluster it began on if one is configured, else this host."""
    first = next(iter(sorted(list_jobs(store, run_id=run_id), key=lambda job: job.id)), None)
    return Launcher.RAY if first and first.launcher == Launcher.RAY and cluster.address() else Launcher.LOCAL


def create(
    store: Store,
    config: RunConfig,
    *,
    parent_id: int | None = None,
    arguments: dict[str, Any] | None = None,
    launcher: str = Launcher.LOCAL,
) -> tuple[RunRef, JobRef]:
    """Create a run with its output folder and a queued job, without notifying a launcher. Raises ConfigError."""
    check(store, launcher)
    config = pinning.pin_config(store, config)
    _make_folder(local.data_folder(store) / ownership.RUN_FOLDERS)
    trains = config.method != "none"
    run = create_run(
        store,
        name=config.title,
        method=config.method,
        style=config.style,
        model=config.model.id,
        dataset=config.data.dataset,
        config=config.model_dump(mode="json"),
        reward_weights={reward.label: reward.weight for reward in config.paid},
        lora_rank=config.lora.rank if trains else None,
        quantization=None if config.model.quantization == "none" else config.model.quantization,
        seed=config.seed,
        max_steps=config.optimization.steps if trains else None,
        parent_id=parent_id,
    )
    output = folders.own_folder(store, run.id)
    if config.model.adapter is not None:
        pinning.keep_adapter(store, run, config.model.adapter, output)
    job_arguments = _processes(config.model_dump()) | (arguments or {})
    return run, add_job(store, run.id, "train" if trains else "evaluate", job_arguments, launcher=launcher)


def add_resume(store: Store, run_id: int, *, launcher: str = Launcher.LOCAL) -> JobRef:
    """Queue a job that continues a run from its last checkpoint, without notifying a launcher. Raises StoreError."""
    run = get_run(store, run_id)
    if list_jobs(store, run_id=run_id, open_only=True):
        raise StoreError(f"{run.name} has a job that has not ended. Stop the job, or wait for it.")
    if (reason := folders.why_not_resumed(store, run, launcher)) is not None:
        raise StoreError(reason)
    arguments = {"resume": True, **_accumulation(store, run_id), **_processes(run.config)}
    return add_job(store, run_id, "train", arguments, launcher=launcher)


def _processes(config: dict[str, Any]) -> dict[str, Any]:
    """Return the number of devices that a training needs, if more than one."""
    count = int(config.get("optimization", {}).get("processes", 1))
    return {"processes": count} if count > 1 and config.get("method") != "none" else {}


def _accumulation(store: Store, run_id: int) -> dict[str, Any]:
    """Return the accumulation set by an earlier retry, if any."""
    accumulations = [
        job.arguments["accumulation"] for job in list_jobs(store, run_id=run_id) if "accumulation" in job.arguments
    ]
    return {"accumulation": max(accumulations)} if accumulations else {}


def retry_with_less_memory(store: Store, job: JobRow) -> JobRef | None:
    """After a training ran out of memory, queue it again with doubled accumulation if the run has `retry_on_oom`.

    Return None if it does not, or if a forward pass already has a single sequence.
    """
    config = get_run(store, job.run_id).config
    optimization = config.get("optimization", {})
    if job.kind != "train" or not optimization.get("retry_on_oom"):
        return None
    doubled = 2 * int(job.arguments.get("accumulation", optimization["accumulation"]))
    if optimization["batch_size"] % (doubled * int(optimization.get("processes", 1))):
        return None
    add_event(store, job.run_id, "retry", f"Out of memory: continuing with accumulation {doubled}.", job_id=job.id)
    arguments = {"resume": True, "accumulation": doubled, **_processes(config)}
    return add_job(store, job.run_id, "train", arguments, launcher=job.launcher)


def check(store: Store, launcher: str) -> None:
    """Check that a launcher can start jobs of this database. Raises ConfigError."""
    if launcher == Launcher.RAY:
        cluster.check(store)
    elif find_spec("torch") is None:
        raise ConfigError(NO_TRAINER)


def notify_launcher(store: Store, launcher: str) -> None:
    """Make sure that a launcher is running and sees newly queued jobs. Raises OSError if it cannot be started."""
    if launcher == Launcher.RAY:
        cluster.start_watcher(store)
    else:
        ensure_worker(store)


def ensure_worker(store: Store) -> None:
    """Start this host's worker unless one is running. Starting two is harmless, because a lock admits only one."""
    if not worker_lives(store):
        local.start_worker(store)


def stop(store: Store, job: Job, level: int = 1) -> str:
    """Ask a job to stop and return what was done. Level 1 finishes the step and saves, 2 ends it now, 3 kills it.

    Level 4 closes the job of a host that no longer answers; it is not needed for this host, whose jobs can be checked.
    """
    row = get_job(store, job.uid)
    if row.state not in OPEN:
        return "The job has already ended."
    level = min(level, strongest_stop(row.host))
    ask_stop(store, row.id, level)
    row = get_job(store, job.uid)
    if row.launcher == Launcher.RAY:
        cluster.start_watcher(store)  # the watcher passes the request on to Ray
    if row.state not in OPEN:
        return "The job was removed from the queue."
    if row.launcher == Launcher.RAY and level <= MOST_HERE:
        return "The job finishes its step and saves." if level == 1 else "The job was asked to end, also through Ray."
    if row.host != identity.host():
        if level <= MOST_HERE:
            return f"The job runs on {row.host}. The request was stored and is handled there."
        end_job(store, row.id, JobState.LOST, error=f"Given up because {row.host} did not answer.")
        return "The job was given up. If its process is still running, it ends at its next step."
    process = endings.process_of(row)
    if process is None and level < MOST_HERE and worker_lives(store):
        return "The job is starting and will stop right after."
    if process is not None:
        _signal(process, row.uid, level)
    closed = endings.close(store, row.uid)
    if closed:
        return closed[0]
    return "The job finishes its step and saves." if level == 1 else "The job was asked to end."


def strongest_stop(host: str | None) -> int:
    """Return the highest stop level for jobs of a host."""
    return MOST_HERE if host in (None, identity.host()) else MOST_HERE + 1


def _signal(process: Identity, job_uid: str, level: int) -> None:
    if level == 2:
        local.terminate(process)
    elif level >= 3:
        local.kill(process, job_uid)
        deadline = time.monotonic() + DEATH_SECONDS
        while identity.is_alive(process) and time.monotonic() < deadline:
            time.sleep(0.02)


def _make_folder(folder: Path) -> None:
    try:
        private.make_folder(folder)
    except OSError as error:
        reason = error.strerror
    else:
        if os.access(folder, os.W_OK):
            return
        reason = "Permission denied"
    raise ConfigError(f"Cannot write to {folder} ({reason}). Change its permissions, or choose another --db.")
