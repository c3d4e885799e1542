"""Expand a matrix of arms, models, ranks, seeds and further settings into the runs of an experiment.

`trainer.launch.experiments` launches them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from itertools import product
from math import prod
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from trainer.spec.config import (
    DRAWN_DATASETS,
    TINY,
    TINY_BOARD,
    ConfigError,
    RunConfig,
    from_dict,
    preset,
    replaced,
)

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
"""Method of each arm, and its changes to the method's preset; the last three are controls."""
_REAL = ("smolvlm-256m", "smolvlm-500m", "qwen2-vl-2b")
MODELS = {TINY_BOARD: "demo", TINY: "shapes", **{name: name for name in _REAL}}
"""Prefix of the names of a model's GRPO and SFT presets, by model."""
MOST_RUNS = 100
OWN_FACTORS = {
    "seed": "seeds",
    "lora.rank": "ranks",
    "optimization.learning_rate": "learning rates",
    "model.id": "models",
    "method": "arms",
    "style": "arms",
}
"""Fields that cannot be varied as further settings, because a factor of the matrix varies them."""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """The factors of the experiment; a learning rate of None keeps the preset's."""

    arms: tuple[str, ...]
    ranks: tuple[int, ...] = (32,)
    seeds: tuple[int, ...] = (0,)
    models: tuple[str, ...] = (TINY,)
    rates: tuple[float | None, ...] = (None,)
    varied: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    """Further settings: dotted fields and their values; `rewards.NAME` is a weight."""
    benchmarks: tuple[str, ...] = DRAWN_DATASETS[:3]
    settings: tuple[tuple[str, Any], ...] = ()
    """Dotted fields that replace those of the presets in every run."""
    thinking: bool = False
    """Also run the CoT-faithfulness probe on every trained run that reasons, on its own dataset."""


class Planned(NamedTuple):
    arm: str
    config: RunConfig


DEMO_TABLES = Matrix(
    arms=("zero-shot CoT", "SFT CoT", "GRPO CoT"),
    ranks=(32, 64),
    models=(TINY_BOARD,),
    benchmarks=DRAWN_DATASETS[3:],
)
EVIDENCE = Matrix(
    arms=("zero-shot direct", "zero-shot CoT", "SFT direct", "SFT CoT", "GRPO direct", "GRPO CoT"),
    seeds=(0, 1, 2, 3, 4),
    models=(TINY_BOARD,),
    benchmarks=DRAWN_DATASETS[3:],
    thinking=True,
)
NAMED = {"demo-tables": DEMO_TABLES, "demo-evidence": EVIDENCE}


def plan_runs(matrix: Matrix) -> list[Planned]:
    """Return the runs of the matrix, each once; arms without training have one run per model. Raises ConfigError."""
    for field, _ in matrix.varied:
        if field in OWN_FACTORS:
            raise ConfigError(f"{field} is varied by the experiment's {OWN_FACTORS[field]}: list its values there.")
    if (count := _size(matrix)) > MOST_RUNS:
        raise ConfigError(f"The experiment would have {count} runs; at most {MOST_RUNS} are allowed. Remove values.")
    return list({run.config.model_dump_json(): run for run in _planned(matrix)}.values())


def _size(matrix: Matrix) -> int:
    trained = [arm for arm in matrix.arms if ARMS.get(arm, ("",))[0] != "none"]
    settings = prod(len(values) for _, values in matrix.varied)
    each = len(matrix.ranks) * len(matrix.rates) * len(matrix.seeds) * settings
    return len(matrix.models) * (len(trained) * each + len(matrix.arms) - len(trained))


def _planned(matrix: Matrix) -> Iterator[Planned]:
    names = [field for field, _ in matrix.varied]
    further = [dict(zip(names, values, strict=True)) for values in product(*(values for _, values in matrix.varied))]
    for model, arm, rank, rate in product(matrix.models, matrix.arms, matrix.ranks, matrix.rates):
        for settings, seed in product(further, matrix.seeds):
            yield Planned(arm, _config(matrix, model, arm, rank, rate, settings, seed))


def _config(
    matrix: Matrix, model: str, arm: str, rank: int, rate: float | None, further: dict[str, Any], seed: int
) -> RunConfig:
    if arm not in ARMS:
        raise ConfigError(f"Unknown arm {arm!r}. Choose from {', '.join(ARMS)}.")
    if model not in MODELS:
        raise ConfigError(f"No presets exist for the model {model!r}. Choose from {', '.join(MODELS)}.")
    method, changes = ARMS[arm]
    preset_name = f"{MODELS[model]}-{'sft' if method == 'sft' else 'grpo'}"
    values = preset(preset_name).model_dump(mode="json") | changes
    values["method"] = method
    values["name"] = name = f"{arm.lower().replace(' ', '-')}-{model}"
    settings = dict(matrix.settings)
    if method != "none":
        settings = (
            {"seed": seed, "lora.rank": rank}
            | ({"optimization.learning_rate": rate} if rate else {})
            | settings
            | further
        )
        parts = [f"-r{rank}", f"-lr{rate:g}" if rate else "", *_name_parts(matrix, further), f"-s{seed}"]
        settings = {"name": (name + "".join(parts))[:200]} | settings
    return replaced(from_dict(values), settings)


def _name_parts(matrix: Matrix, further: Mapping[str, Any]) -> list[str]:
    """Return the parts of a run's name for further settings, which only those with several values get."""
    several = {field for field, values in matrix.varied if len(values) > 1}
    return [f"-{field.rpartition('.')[2]}-{value}" for field, value in further.items() if field in several]


def matrix_json(matrix: Matrix) -> dict[str, Any]:
    """Return the matrix as JSON types."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(matrix).items()}


def from_stored(values: Mapping[str, Any]) -> Matrix:
    """Return the matrix that `matrix_json` wrote. Raises ConfigError for an experiment of another tool."""
    names = {field.name for field in fields(Matrix)}
    try:
        matrix = TypeAdapter(Matrix).validate_python(dict(values)) if set(values) <= names else None
    except ValidationError:
        matrix = None
    if matrix is None or not matrix.arms or _size(matrix) > MOST_RUNS:
        raise ConfigError("This experiment was recorded by another tool, so it cannot be extended. Launch a new one.")
    return matrix


def widen(matrix: Matrix, more: Matrix) -> Matrix:
    """Return the matrix extended by the arms, ranks, seeds, rates and further values of another.

    Raises ConfigError for a further setting that is not varied yet, because existing runs have no value of it.
    """
    varied = dict(matrix.varied)
    for field, values in more.varied:
        if field not in varied:
            raise ConfigError(f"This experiment does not vary {field}. It varies {', '.join(varied) or 'no field'}.")
        varied[field] = _union(varied[field], values)
    lists: dict[str, Any] = {
        name: _union(getattr(matrix, name), getattr(more, name)) for name in ("arms", "ranks", "seeds", "rates")
    }
    return replace(matrix, **lists, varied=tuple(varied.items()))


def _union(some: tuple[Any, ...], others: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the values of both without duplicates; a number equals the text of it."""
    texts = set(map(str, some))
    return (*some, *(each for each in others if str(each) not in texts))
