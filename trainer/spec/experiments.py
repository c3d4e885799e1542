"""A matrix of arms, ranks, seeds, models and learning rates, and the runs that it makes.

`trainer.launch.experiments` launches them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from trainer.spec.config import ConfigError, RunConfig, from_dict, preset

_FORMAT_ONLY = [
    {"name": "format", "weight": 1.0},
    {"name": "accuracy", "weight": 0.0},
    {"name": "steps", "weight": 0.0},
]
_COIN = [{"name": "random", "weight": 1.0}, *(part | {"weight": 0.0} for part in _FORMAT_ONLY)]
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "zero-shot direct": ("none", {"style": "direct"}),
    "zero-shot CoT": ("none", {}),
    "SFT direct": ("sft", {"style": "direct"}),
    "SFT CoT": ("sft", {}),
    "GRPO direct": ("grpo", {"style": "direct"}),
    "GRPO CoT": ("grpo", {}),
    "GRPO format only": ("grpo", {"rewards": _FORMAT_ONLY}),
    "GRPO random reward": ("grpo", {"rewards": _COIN}),
    "SFT on rejection samples": ("sft", {"imitate": "rejection samples"}),
}
"""Method of each arm, and what differs from the method's preset; the last three are controls."""
MODELS = {"tiny": "demo", **{name: name for name in ("smolvlm-256m", "smolvlm-500m", "qwen2-vl-2b")}}
"""Model to what the names of its presets for GRPO and SFT begin with."""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """The factors of the experiment; a learning rate of None is the preset's own."""

    arms: tuple[str, ...]
    ranks: tuple[int, ...] = (32,)
    seeds: tuple[int, ...] = (0,)
    models: tuple[str, ...] = ("tiny",)
    rates: tuple[float | None, ...] = (None,)
    benchmarks: tuple[str, ...] = ("shapes-simple", "shapes-complex", "shapes-hard")
    settings: tuple[tuple[str, Any], ...] = ()
    """Dotted fields that replace those of every preset."""


class Planned(NamedTuple):
    arm: str
    config: RunConfig


DEMO_TABLES = Matrix(arms=("zero-shot CoT", "SFT CoT", "GRPO CoT"), ranks=(32, 64))
NAMED = {"demo-tables": DEMO_TABLES}


def planned(matrix: Matrix) -> list[Planned]:
    """Return every run of the matrix once; arms without training have one a model. Raises ConfigError."""
    return list({run.config.model_dump_json(): run for run in _planned(matrix)}.values())


def _planned(matrix: Matrix) -> Iterator[Planned]:
    for model, arm, rank, rate, seed in product(matrix.models, matrix.arms, matrix.ranks, matrix.rates, matrix.seeds):
        yield Planned(arm, _config(matrix, model, arm, rank, rate, seed))


def _config(matrix: Matrix, model: str, arm: str, rank: int, rate: float | None, seed: int) -> RunConfig:
    if arm not in ARMS:
        raise ConfigError(f"There is no arm {arm!r}. Choose among {', '.join(ARMS)}.")
    if model not in MODELS:
        raise ConfigError(f"There are no presets for the model {model!r}. Choose among {', '.join(MODELS)}.")
    method, changes = ARMS[arm]
    values = preset(f"{MODELS[model]}-{'sft' if method == 'sft' else 'grpo'}").model_dump(mode="json") | changes
    values["method"] = method
    name = f"{arm.lower().replace(' ', '-')}-{model}"
    if method != "none":
        name += f"-r{rank}" + (f"-lr{rate:g}" if rate else "") + f"-s{seed}"
        values["seed"] = seed
        values["lora"] = values["lora"] | {"rank": rank}
        values["optimization"] = values["optimization"] | ({"learning_rate": rate} if rate else {})
    values["name"] = name
    for field, value in matrix.settings:
        section, _, key = field.rpartition(".")
        (values[section] if section else values)[key] = value
    return from_dict(values)
