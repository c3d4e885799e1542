"""Benchmarks that an evaluation can answer: `DATASET` or `DATASET:DIFFICULTY`. Torch-free; reads no files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from trainer.spec.config import DATASETS, DRAWN_DATASETS, EMBEDDED, TINY, DataConfig, RunConfig, from_dict

DIFFICULTIES = ("simple", "complex", "hard")
FILTERED = ("tallyqa", "tallyqa-test")
"""Datasets that mark questions as simple or complex."""
NAMES = (*DATASETS, *(f"{dataset}:{difficulty}" for dataset in FILTERED for difficulty in ("simple", "complex")))
"""All benchmarks, in the order in which they are shown."""


class Benchmark(NamedTuple):
    """A dataset to evaluate on; with `difficulty`, only its questions of that difficulty."""

    name: str
    data: DataConfig
    difficulty: str | None


def find(config: RunConfig, arguments: dict[str, Any]) -> Benchmark:
    """Return the benchmark named by a job's arguments; the run's own dataset by default. Raises ConfigError."""
    name, path = arguments.get("benchmark") or config.data.dataset, arguments.get("path")
    dataset, difficulty = split(name)
    if path is None and dataset == config.data.dataset:
        return Benchmark(name, config.data, difficulty)
    values = {"dataset": dataset, "path": path, "seed": config.data.seed, "test_examples": config.data.test_examples}
    return Benchmark(name, from_dict({"method": "none", "data": values}).data, difficulty)


def drawn_datasets(models: Iterable[str]) -> tuple[str, ...]:
    """Return the drawn datasets of the worlds that these models know. For real models, that is the first world."""
    worlds = {EMBEDDED.get(model, EMBEDDED[TINY]) for model in models}
    return tuple(name for name in DRAWN_DATASETS if name.partition("-")[0] in worlds)


def split(name: str) -> tuple[str, str | None]:
    """Split a benchmark's name into dataset and difficulty."""
    dataset, _, difficulty = name.rpartition(":")
    is_filtered = difficulty in DIFFICULTIES and not dataset.endswith(".py")
    return (dataset, difficulty) if is_filtered else (name, None)
