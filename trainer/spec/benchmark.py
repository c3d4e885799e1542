"""What an evaluation is asked to answer: `DATASET` or `DATASET:DIFFICULTY`. Torch-free; reads no files."""

from __future__ import annotations

from typing import Any, NamedTuple

from trainer.spec.config import DATASETS, DataConfig, RunConfig, from_dict

DIFFICULTIES = ("simple", "complex", "hard")
FILTERED = ("tallyqa", "tallyqa-test")
"""Sets that say which of their questions are simple."""
NAMES = (*DATASETS, *(f"{dataset}:{difficulty}" for dataset in FILTERED for difficulty in ("simple", "complex")))
"""What can be answered, in the order of the screens."""


class Benchmark(NamedTuple):
    """Data to answer; `difficulty` keeps those questions only that the set calls so."""

    name: str
    data: DataConfig
    difficulty: str | None


def find(config: RunConfig, arguments: dict[str, Any]) -> Benchmark:
    """Return the benchmark that a job's arguments name, by default the run's own dataset. Raises ConfigError."""
    name, path = arguments.get("benchmark") or config.data.dataset, arguments.get("path")
    dataset, difficulty = split(name)
    if path is None and dataset == config.data.dataset:
        return Benchmark(name, config.data, difficulty)
    values = {"dataset": dataset, "path": path, "seed": config.data.seed, "test_examples": config.data.test_examples}
    return Benchmark(name, from_dict({"method": "none", "data": values}).data, difficulty)


def split(name: str) -> tuple[str, str | None]:
    """Dataset and difficulty of a benchmark's name."""
    dataset, _, difficulty = name.rpartition(":")
    is_filtered = difficulty in DIFFICULTIES and not dataset.endswith(".py")
    return (dataset, difficulty) if is_filtered else (name, None)
