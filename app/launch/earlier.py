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
LOOKED_AT, TELLING = 200, 20
"""Newest runs of the same method, model and dataset to look at; number of those with equal settings to use."""


def seconds_per_step(config: RunConfig) -> float | None:
    """Return the median over the newest earlier runs with the same model and settings; None without any."""
    alike = {"method": config.method, "model": config.model.id, "dataset": config.data.dataset}
    wanted = _shape(config.model_dump(mode="json"))
    found = data.list_configurations(**alike, newest=LOOKED_AT)
    same = [id for id, earlier in found.items() if _shape(earlier) == wanted][:TELLING]
    paces = [row.seconds_per_step for row in data.list_runs(ids=same) if row.broken is None]
    known = [pace for pace in paces if pace is not None]
    return median(known) if known else None


def in_words(pace: float, config: RunConfig) -> str:
    whole = format.duration(pace * config.optimization.steps)
    return f"Takes about {whole}: earlier runs with these settings took {format.seconds(pace)} per update (median)."


def _shape(config: dict[str, Any]) -> list[Any]:
    sections = {section: config.get(section) or {} for section, _ in SHAPE}
    return [config.get("max_tokens"), *(sections[section].get(name) for section, names in SHAPE for name in names)]
