"""Launch all runs of an experiment's matrix with their evaluations; pause, resume, stop and extend them as one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product

from store.db.engine import Store
from store.db.rows import ExperimentRow, JobRow
from store.db.states import OPEN, JobState, Launcher
from store.experiments import add_to_experiment, change_matrix, create_experiment, get_experiment
from store.jobs import add_job, ask_all_to_stop, get_job, list_jobs
from store.runs import get_run
from trainer import launch
from trainer.launch import folders
from trainer.spec import benchmark
from trainer.spec.config import ConfigError
from trainer.spec.experiments import Matrix, Planned, from_stored, planned, stored, widened

BASE_SAMPLES = 8
"""Samples of an arm that trains nothing, on every benchmark, for its pass@k beside the others' pass@1."""
PROBED = 200
"""Examples of a CoT-faithfulness probe, which answers each of them several times."""
INTERRUPTED = (JobState.STOPPED, JobState.KILLED, JobState.LOST)
"""How a job ended that did not fail by itself: repeating it makes sense."""


def launch_experiment(store: Store, name: str, matrix: Matrix, *, launcher: str = Launcher.LOCAL) -> str:
    """Queue every run with its evaluations; return the experiment's uid. Raises ConfigError before queuing anything.

    A run that trains is tested on its own dataset at its end; evaluations on the other benchmarks follow.
    """
    runs = _checked(store, planned(matrix), matrix, launcher)
    experiment = create_experiment(store, name=name, matrix=stored(matrix))
    _queue(store, experiment.id, runs, matrix, launcher)
    return experiment.uid


def extend_experiment(store: Store, uid: str, more: Matrix, *, launcher: str = Launcher.LOCAL) -> int:
    """Add the arms, ranks, seeds and values of another matrix; queue the runs that are new, and return their number.

    Raises ConfigError before queuing anything.
    """
    experiment = get_experiment(store, uid)
    old = from_stored(experiment.matrix)
    wider = widened(old, more)
    known = {run.config.model_dump_json() for run in planned(old)}
    new = [run for run in planned(wider) if run.config.model_dump_json() not in known]
    if not new:
        raise ConfigError(f"{experiment.name} has all of these runs: name a seed or a value that is new.")
    _checked(store, new, wider, launcher)
    change_matrix(store, experiment.id, stored(wider))
    _queue(store, experiment.id, new, wider, launcher)
    return len(new)


def stop_experiment(store: Store, uid: str, level: int = 1) -> int:
    """Take all queued jobs of an experiment out of the queue and ask those at work to stop; return their number.

    Level 1 lets each finish its step and save, so that `resume_experiment` goes on from there: that is a pause.
    """
    asked = ask_all_to_stop(store, list(get_experiment(store, uid).arms), level)
    for job in asked:
        if get_job(store, job.uid).state in OPEN:
            launch.stop(store, job, level)
    return len(asked)


def resume_experiment(store: Store, uid: str) -> int:
    """Queue again what was stopped, a run's training before its evaluations; return the number of jobs.

    Runs that still have an open job are left out. What failed by itself is, too.
    """
    experiment = get_experiment(store, uid)
    again = interrupted(_jobs(store, experiment))
    launchers = {job.run_id: launch.launcher_of(store, job.run_id) for job in again}
    for launcher in set(launchers.values()):
        launch.check(store, launcher)
    lost = {job.run_id for job in again if job.kind == "train" and not _can_resume(store, job, launchers[job.run_id])}
    left = [job for job in again if job.run_id not in lost]
    for job in left:
        if job.kind == "train":
            launch.add_resume(store, job.run_id, launcher=launchers[job.run_id])
        else:
            add_job(store, job.run_id, job.kind, job.arguments, launcher=launchers[job.run_id])
    for launcher in {launchers[job.run_id] for job in left}:
        launch.tell(store, launcher)
    return len(left)


def _can_resume(store: Store, job: JobRow, launcher: str) -> bool:
    return folders.why_not_resumed(store, get_run(store, job.run_id), launcher) is None


def interrupted(jobs: Sequence[JobRow]) -> list[JobRow]:
    """Return the jobs that were stopped or killed and not repeated since, by run, a training first.

    Those of runs with an open job are left out.
    """
    busy = {job.run_id for job in jobs if job.state in OPEN}
    latest: dict[tuple[int, str, str], JobRow] = {}
    for job in sorted(jobs, key=lambda job: job.id):
        what = "" if job.kind == "train" else json.dumps(job.arguments, sort_keys=True)
        latest[job.run_id, job.kind, what] = job
    found = [job for job in latest.values() if job.state in INTERRUPTED and job.run_id not in busy]
    return sorted(found, key=lambda job: (job.run_id, job.kind != "train", job.id))


def _jobs(store: Store, experiment: ExperimentRow) -> list[JobRow]:
    return [job for job in list_jobs(store) if job.run_id in experiment.arms]


def _checked(store: Store, runs: list[Planned], matrix: Matrix, launcher: str) -> list[Planned]:
    """Return the runs. Raises ConfigError if one of them, or of its evaluations, cannot be started."""
    for run, asked in product(runs, matrix.benchmarks):
        benchmark.find(run.config, {"benchmark": asked})
    launch.check(store, launcher)
    return runs


def _queue(store: Store, experiment_id: int, runs: list[Planned], matrix: Matrix, launcher: str) -> None:
    for arm, config in runs:
        trains = config.method != "none"
        own = config.data.dataset
        sampled = {} if trains else {"samples": BASE_SAMPLES}
        first = {} if trains else {"benchmark": own, **sampled}
        made, _ = launch.create(store, config, arguments=first, launcher=launcher)
        add_to_experiment(store, experiment_id, made.id, arm)
        for asked in matrix.benchmarks:
            if asked != own:
                later = {"benchmark": asked, "checkpoint": "best", **sampled}
                add_job(store, made.id, "evaluate", later, launcher=launcher)
        if matrix.thinking and trains and config.style == "cot":
            probe = {"benchmark": own, "checkpoint": "best", "limit": PROBED, "thinking": True}
            add_job(store, made.id, "evaluate", probe, launcher=launcher)
    launch.tell(store, launcher)
