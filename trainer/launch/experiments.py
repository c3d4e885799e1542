"""Launch every run of an experiment's matrix, with its evaluations."""

from __future__ import annotations

from itertools import product
from typing import Any

from store.db.engine import Store
from store.db.states import Launcher
from store.experiments import add_to_experiment, create_experiment
from store.jobs import add_job
from trainer import launch
from trainer.spec import benchmark
from trainer.spec.experiments import Matrix, planned

BASE_SAMPLES = 8
"""Samples of an arm that trains nothing, on every benchmark, for its pass@k beside the others' pass@1."""


def launch_experiment(store: Store, name: str, matrix: Matrix, *, launcher: str = Launcher.LOCAL) -> str:
    """Queue every run with its evaluations; return the experiment's uid. Raises ConfigError before queuing anything.

    A run that trains is tested on its own dataset at its end; evaluations on the other benchmarks follow.
    """
    runs = planned(matrix)
    for run, asked in product(runs, matrix.benchmarks):
        benchmark.find(run.config, {"benchmark": asked})
    launch.check(store, launcher)
    experiment = create_experiment(store, name=name, matrix=_stored(matrix))
    for arm, config in runs:
        trains = config.method != "none"
        own = config.data.dataset
        sampled = {} if trains else {"samples": BASE_SAMPLES}
        first = {} if trains else {"benchmark": own, **sampled}
        made, _ = launch.create(store, config, arguments=first, launcher=launcher)
        add_to_experiment(store, experiment.id, made.id, arm)
        for asked in matrix.benchmarks:
            if asked != own:
                later = {"benchmark": asked, "checkpoint": "best", **sampled}
                add_job(store, made.id, "evaluate", later, launcher=launcher)
    launch.tell(store, launcher)
    return experiment.uid


def _stored(matrix: Matrix) -> dict[str, Any]:
    return {key: list(value) for key, value in vars(matrix).items()}
