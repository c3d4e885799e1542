"""Tiny real runs of the embedded model, in this very process and on a real database file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store.db.engine import Store, open_store
from store.db.rows import RunDetail
from store.jobs import get_job
from store.runs import get_run
from tests.training import tiny_architectures
from tests.training.tiny_models import WRITERS
from trainer import launch
from trainer.jobs.job import execute
from trainer.spec import config

SMALL = {
    "optimization.steps": "3",
    "optimization.batch_size": "16",
    "optimization.warmup_steps": "1",
    "evaluation.probe_every": "2",
    "evaluation.probe_examples": "3",
    "evaluation.probe_samples": "2",
    "evaluation.val_every": "2",
    "evaluation.encoder": "''",
    "data.train_examples": "24",
    "data.val_examples": "6",
    "data.test_examples": "6",
    "max_tokens": "40",
}

Train = Callable[..., RunDetail]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random models of real architectures, by name."""
    writers = WRITERS | tiny_architectures.SHARING | tiny_architectures.STEPPING_ASIDE
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in writers.items()}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path / 'runs.db'}")


@pytest.fixture
def train(store: Store) -> Train:
    """Trains a preset made small, with further settings, to its end; returns the run."""

    def run(preset: str, settings: dict[str, Any] | None = None) -> RunDetail:
        small = config.override(config.preset(preset), SMALL | (settings or {}))
        made, job = launch.create(store, small)
        execute(store, get_job(store, job.uid))
        return get_run(store, made.id)

    return run
