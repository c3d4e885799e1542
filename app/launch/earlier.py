"""Estimate how long a new run's updates will take, from earlier runs with the same settings."""

from __future__ import annotations

from statistics import median
from typing import Any

from app.shared import data, format
from store.db.rows import RunRow
from trainer.spec.config import RunConfig

SHAPE = (
    ("optimization", ("batch_size", "accumulation", "gradient_checkpointing")),
    ("grpo", ("group_size",)),
    ("model", ("quantization", "dtype", "longest_edge", "min_pixels", "max_pixels")),
)
"""Fields beside those of a run's row that decide how long an update takes."""


def seconds_per_step(config: RunConfig) -> float | None:
    """The median over earlier runs of the same model and settings in the database."""
    data.reader()
    alike = [row for row in data.list_sound_runs() if row.seconds_per_step is not None and _is_alike(row, config)]
    wanted = config.model_dump(mode="json")
    same = [row for row in alike if _shape(data.get_run(row.id).config) == _shape(wanted)]
    return median([float(row.seconds_per_step or 0) for row in same]) if same else None


def in_words(pace: float, config: RunConfig) -> str:
    whole = format.duration(pace * config.optimization.steps)
    return f"About {whole}: earlier runs of these settings took {format.seconds(pace)} an update (median)."


def _is_alike(row: RunRow, config: RunConfig) -> bool:
    return (row.method, row.model, row.dataset) == (config.method, config.model.id, config.data.dataset)


def _shape(config: dict[str, Any]) -> list[Any]:
    parts = [config.get(section, {}).get(name) for section, names in SHAPE for name in names]
    return [config.get("max_tokens"), *parts]
