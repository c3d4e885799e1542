"""Estimate how long a new run's updates will take, from earlier runs with the same settings."""

from __future__ import annotations

from statistics import median
from typing import Any

from app.shared import data, format
from trainer.spec.config import RunConfig

SHAPE = (
    ("optimization", ("batch_size", "accumulation", "gradient_checkpointing")),
    ("grpo", ("group_size",)),
    ("model", ("quantization", "dtype", "longest_edge", "min_pixels", "max_pixels")),
)
"""Fields, besides the columns of a run's row, that determine how long an update takes."""
MAX_CONFIGURATIONS, PACE_RUNS = 200, 20
"""Newest runs of the same method, model and dataset to look at; number of those with equal settings to use."""


def seconds_per_step(config: RunConfig) -> float | None:
    """Return the median over the newest earlier runs with the same model and settings; None without any."""
    same_run = {"method": config.method, "model": config.model.id, "dataset": config.data.dataset}
    shape = _shape(config.model_dump(mode="json"))
    configurations = data.list_configurations(**same_run, newest=MAX_CONFIGURATIONS)
    same = [id for id, earlier in configurations.items() if _shape(earlier) == shape][:PACE_RUNS]
    paces = [row.seconds_per_step for row in data.list_runs(ids=same) if row.broken is None]
    known_paces = [pace for pace in paces if pace is not None]
    return median(known_paces) if known_paces else None


def in_words(pace: float, config: RunConfig) -> str:
    whole = format.duration(pace * config.optimization.steps)
    return f"Takes about {whole}: earlier runs with these settings took {format.seconds(pace)} per update (median)."


def _shape(config: dict[str, Any]) -> list[Any]:
    sections = {section: config.get(section) or {} for section, _ in SHAPE}
    return [config.get("max_tokens"), *(sections[section].get(name) for section, names in SHAPE for name in names)]
