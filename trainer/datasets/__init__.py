"""Counting datasets: named lists of examples. Knows nothing of models or prompts."""

from __future__ import annotations

from trainer.config import DataConfig
from trainer.datasets import shapes
from trainer.datasets.example import Example
from trainer.errors import TrainerError


def load(dataset: str, split: str, n: int, seed: int) -> list[Example]:
    """`n` examples of a split, the same for the same arguments.

    Raises TrainerError (kind `data`) for an unknown dataset.
    """
    family, _, difficulty = dataset.partition("-")
    if family != "shapes" or difficulty not in shapes.DIFFICULTIES:
        known = ", ".join(f"shapes-{d}" for d in shapes.DIFFICULTIES)
        raise TrainerError("data", f"Unknown dataset {dataset!r}: choose one of {known}.")
    return shapes.examples(difficulty, split, n, seed)


def load_split(config: DataConfig, split: str) -> list[Example]:
    """The examples of a run's split."""
    n = {"train": config.train_examples, "val": config.val_examples, "test": config.test_examples}[split]
    return load(config.dataset, split, n, config.seed)
