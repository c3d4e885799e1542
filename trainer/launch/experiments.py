"""Launch the runs of an experiment with their evaluations; pause, resume, stop and extend them together."""

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
from trainer.launch.pinning import pin_config
from trainer.spec import benchmark
from trainer.spec.config import ConfigError, RunConfig, from_dict
from trainer.spec.experiments import Matrix, Planned, from_stored, matrix_json, plan_runs, widen

BASE_SAMPLES = 8
"""Samples per example for arms without training, to compare their pass@k with the pass@1 of trained arms."""
PROBED = 200
"""Number of examples in a CoT-faithfulness probe, which answers each several times."""
INTERRUPTED = (JobState.STOPPED, JobState.KILLED, JobState.LOST)
"""States of jobs that did not fail by themselves, so that they can be repeated."""


def launch_experiment(store: Store, name: str, matrix: Matrix, *, launcher: str = Launcher.LOCAL) -> str:
    """Queue all runs and evaluations, and return the experiment's uid. Raises ConfigError before queuing anything.

    A training tests itself on its own dataset at its end; evaluations on the other benchmarks follow.
    """
    runs = _check_runs(store, plan_runs(matrix), matrix, launcher)
    experiment = create_experiment(store, name=name, matrix=matrix_json(matrix))
    _queue(store, experiment.id, runs, matrix, launcher)
    return experiment.uid


def extend_experiment(store: Store, uid: str, more: Matrix, *, launcher: str = Launcher.LOCAL) -> int:
    """Add the arms, ranks, seeds and values of another matrix, queue the missing runs, and return their number.

    Runs that were deleted, or that had not ended when the experiment was exported, are missing too. Raises ConfigError
    before queuing anything.
    """
    experiment = get_experiment(store, uid)
    wider = widen(from_stored(experiment.matrix), more)
    present = {_settings(from_dict(get_run(store, run_id).config)) for run_id in experiment.arms}
    new = [run for run in plan_runs(wider) if _settings(pin_config(store, run.config)) not in present]
    if not new:
        raise ConfigError(f"{experiment.name} already has all of these runs. Add a new seed or value.")
    _check_runs(store, new, wider, launcher)
    change_matrix(store, experiment.id, matrix_json(wider))
    _queue(store, experiment.id, new, wider, launcher)
    return len(new)


def _settings(config: RunConfig) -> str:
    """Return everything but the name, which lists a setting only while the matrix varies it."""
    return config.model_copy(update={"name": ""}).model_dump_json()


def stop_experiment(store: Store, uid: str, level: int = 1) -> int:
    """Remove an experiment's queued jobs from the queue, ask its running jobs to stop, and return the number of both.

    Level 1 is a pause: each job finishes its step and saves, and `resume_experiment` continues from there.
    """
    jobs = ask_all_to_stop(store, list(get_experiment(store, uid).arms), level)
    for job in jobs:
        if get_job(store, job.uid).state in OPEN:
            launch.stop(store, job, level)
    return len(jobs)


def resume_experiment(store: Store, uid: str) -> int:
    """Queue stopped jobs again, a run's training before its evaluations, and return their number.

    Runs with an open job and jobs that failed by themselves are left out.
    """
    experiment = get_experiment(store, uid)
    again = interrupted_jobs(_jobs(store, experiment))
    launchers = {job.run_id: launch.launcher_of(store, job.run_id) for job in again}
    for launcher in set(launchers.values()):
        launch.check(store, launcher)
    not_resumable = {
        job.run_id for job in again if job.kind == "train" and not _can_resume(store, job, launchers[job.run_id])
    }
    left = [job for job in again if job.run_id not in not_resumable]
    for job in left:
        if job.kind == "train":
            launch.add_resume(store, job.run_id, launcher=launchers[job.run_id])
        else:
            add_job(store, job.run_id, job.kind, job.arguments, launcher=launchers[job.run_id])
    for launcher in {launchers[job.run_id] for job in left}:
        launch.notify_launcher(store, launcher)
    return len(left)


def _can_resume(store: Store, job: JobRow, launcher: str) -> bool:
    return folders.why_not_resumed(store, get_run(store, job.run_id), launcher) is None


def interrupted_jobs(jobs: Sequence[JobRow]) -> list[JobRow]:
    """Return the jobs that were stopped or killed and not repeated since, by run, with trainings first.

    Runs with an open job are left out.
    """
    busy = {job.run_id for job in jobs if job.state in OPEN}
    latest: dict[tuple[int, str, str], JobRow] = {}
    for job in sorted(jobs, key=lambda job: job.id):
        arguments = "" if job.kind == "train" else json.dumps(job.arguments, sort_keys=True)
        latest[job.run_id, job.kind, arguments] = job
    latest_interrupted = [job for job in latest.values() if job.state in INTERRUPTED and job.run_id not in busy]
    return sorted(latest_interrupted, key=lambda job: (job.run_id, job.kind != "train", job.id))


def _jobs(store: Store, experiment: ExperimentRow) -> list[JobRow]:
    return [job for job in list_jobs(store) if job.run_id in experiment.arms]


def _check_runs(store: Store, runs: list[Planned], matrix: Matrix, launcher: str) -> list[Planned]:
    """Return the runs. Raises ConfigError if one of them, or of its evaluations, cannot be started."""
    for run, name in product(runs, matrix.benchmarks):
        benchmark.find(run.config, {"benchmark": name})
    launch.check(store, launcher)
    return runs


def _queue(store: Store, experiment_id: int, runs: list[Planned], matrix: Matrix, launcher: str) -> None:
    for arm, config in runs:
        trains = config.method != "none"
        dataset = config.data.dataset
        sampled = {} if trains else {"samples": BASE_SAMPLES}
        first = {} if trains else {"benchmark": dataset, **sampled}
        run, _ = launch.create(store, config, arguments=first, launcher=launcher)
        add_to_experiment(store, experiment_id, run.id, arm)
        for benchmark_name in matrix.benchmarks:
            if benchmark_name != dataset:
                later = {"benchmark": benchmark_name, "checkpoint": "best", **sampled}
                add_job(store, run.id, "evaluate", later, launcher=launcher)
        if matrix.thinking and trains and config.style == "cot":
            probe = {"benchmark": dataset, "checkpoint": "best", "limit": PROBED, "thinking": True}
            add_job(store, run.id, "evaluate", probe, launcher=launcher)
    launch.notify_launcher(store, launcher)
