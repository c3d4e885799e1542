"""Presets: the demo's on the embedded model, and starting points for real models on one GPU of 16 to 24 GB.

The latter are based on what comparable projects publish.
"""

from __future__ import annotations

from typing import Any

VISUAL_WORDS = (
    *("red", "green", "blue", "yellow", "circle", "square", "triangle", "star"),
    *("top", "middle", "bottom", "left", "center", "right", "small", "large"),
)
"""Default words of the keyword reward."""
_TRIAD = [{"name": "format", "weight": 2.0}, {"name": "accuracy", "weight": 2.0}, {"name": "steps", "weight": 0.25}]
_TUNED: dict[str, Any] = {
    "rewards": _TRIAD,
    "optimization": {"steps": 200, "learning_rate": 1e-3, "schedule": "cosine", "warmup_steps": 3},
    "grpo": {"scale": "batch"},
    "evaluation": {"probe_every": 10, "val_every": 100},
}
_IMITATED: dict[str, Any] = {
    "method": "sft",
    "rewards": _TRIAD,
    "data": {"train_examples": 6000},
    "optimization": {"learning_rate": 4e-3, "batch_size": 32, "schedule": "linear", "warmup_steps": 20},
}
_UNPAID_STEPS = [*_TRIAD[:2], {"name": "steps", "weight": 0.0}]
_COLLAPSE: dict[str, Any] = {
    "rewards": [
        {"name": "format", "weight": 1.0},
        {"name": "accuracy", "weight": 0.5},
        {"name": "steps", "weight": 4.0},
    ],
    "optimization": {"steps": 200, "learning_rate": 1.3e-3},
    "grpo": {"beta": 0.0},
}
_BOARD: dict[str, Any] = {
    "model": {"id": "tiny-board"},
    "data": {"dataset": "board-simple", "train_examples": 6000},
    "max_tokens": 136,
    "visual_words": (*VISUAL_WORDS, "upper", "lower", "far"),
}
_BOARD_SFT: dict[str, Any] = (
    _IMITATED
    | _BOARD
    | {"optimization": _IMITATED["optimization"] | {"steps": 300}}
    | {"evaluation": {"probe_every": 50, "val_every": 150}}
)
_DIRECT = {"style": "direct"}
_DEMOS: dict[str, dict[str, Any]] = {
    "demo-grpo": _TUNED | _BOARD,
    "demo-sft": _BOARD_SFT,
    "demo-grpo-direct": _TUNED | _BOARD | _DIRECT,
    "demo-sft-direct": _BOARD_SFT | _DIRECT,
    "demo-grpo-no-steps": _TUNED | _BOARD | {"rewards": _UNPAID_STEPS},
    "demo-collapse": _TUNED | _BOARD | _COLLAPSE,
}
DEMOS = {name: values | {"name": name} for name, values in _DEMOS.items()}
DEMO_HELP: dict[str, str] = {
    "demo-grpo": "Reasoning from reward alone, on images that cannot be counted at a glance.",
    "demo-sft": "Imitation of annotated reasoning, on images that cannot be counted at a glance.",
    "demo-grpo-direct": "Like demo-grpo, but answering directly, without thinking.",
    "demo-sft-direct": "Like demo-sft, but answering directly, without thinking.",
    "demo-grpo-no-steps": "Like demo-grpo, but without a reward for numbered steps.",
    "demo-collapse": "Steps are rewarded too much, without a KL term: watch padding replace accuracy.",
}

_SHAPES: dict[str, dict[str, Any]] = {
    "shapes-grpo": _TUNED,
    "shapes-sft": _IMITATED
    | {"optimization": _IMITATED["optimization"] | {"steps": 600}}
    | {"evaluation": {"probe_every": 50, "val_every": 300}},
    "shapes-grpo-no-steps": _TUNED | {"rewards": _UNPAID_STEPS},
    "shapes-collapse": _TUNED | _COLLAPSE,
}
SHAPES = {name: values | {"name": name} for name, values in _SHAPES.items()}
SHAPES_HELP: dict[str, str] = {
    "shapes-grpo": "Reasoning from reward alone in the smaller world, which can be counted at a glance.",
    "shapes-sft": "Imitation of annotated reasoning in the smaller world.",
    "shapes-grpo-no-steps": "Like shapes-grpo, but without a reward for numbered steps.",
    "shapes-collapse": "Like demo-collapse, in the smaller world.",
}

_DATA = {"dataset": "shapes-simple", "train_examples": 5000, "val_examples": 200, "test_examples": 1000}
_EVALUATION = {"probe_every": 25, "val_every": 50, "batch_size": 32}
_GRPO: dict[str, Any] = {
    "method": "grpo",
    "max_tokens": 256,
    "data": _DATA,
    "lora": {"rank": 32},
    "grpo": {"group_size": 8, "temperature": 1.0, "beta": 0.02},
    "evaluation": _EVALUATION,
}
_SFT: dict[str, Any] = {
    "method": "sft",
    "max_tokens": 256,
    "data": _DATA,
    "lora": {"rank": 32},
    "evaluation": _EVALUATION,
}
_SMALL = {"id": "HuggingFaceTB/SmolVLM-256M-Instruct", "longest_edge": 512}
_MIDDLE = {"id": "HuggingFaceTB/SmolVLM-500M-Instruct", "longest_edge": 512}
_LARGE = {"id": "Qwen/Qwen2-VL-2B-Instruct", "quantization": "nf4", "max_pixels": 401408}
_LARGE_25 = {"id": "Qwen/Qwen2.5-VL-3B-Instruct", "quantization": "nf4", "max_pixels": 401408}
_LARGE_3 = {"id": "Qwen/Qwen3-VL-2B-Instruct", "quantization": "nf4", "max_pixels": 401408}
_UNQUANTIZED = _LARGE | {"quantization": "none"}


def _updates(batch: int, accumulation: int, rate: float, **others: Any) -> dict[str, Any]:
    return {"steps": 500, "batch_size": batch, "accumulation": accumulation, "learning_rate": rate, **others}


_IMITATION = {"schedule": "linear", "warmup_steps": 20}
_CHECKPOINTED = {"gradient_checkpointing": True, **_IMITATION}
_PRESETS: dict[str, dict[str, Any]] = {
    "smolvlm-256m-grpo": _GRPO | {"model": _SMALL, "optimization": _updates(64, 4, 1e-5)},
    "smolvlm-256m-sft": _SFT | {"model": _SMALL, "optimization": _updates(32, 2, 1e-4, **_IMITATION)},
    "smolvlm-500m-grpo": _GRPO | {"model": _MIDDLE, "optimization": _updates(64, 8, 1e-5)},
    "smolvlm-500m-sft": _SFT | {"model": _MIDDLE, "optimization": _updates(32, 4, 1e-4, **_IMITATION)},
    "qwen2-vl-2b-grpo": _GRPO | {"model": _LARGE, "optimization": _updates(32, 8, 1e-5, max_grad_norm=0.5)},
    "qwen2-vl-2b-sft": _SFT | {"model": _LARGE, "optimization": _updates(16, 4, 5e-5, **_CHECKPOINTED)},
    "qwen2-vl-2b-bf16-grpo": _GRPO | {"model": _UNQUANTIZED, "optimization": _updates(32, 8, 1e-5, max_grad_norm=0.5)},
    "qwen2-vl-2b-bf16-sft": _SFT | {"model": _UNQUANTIZED, "optimization": _updates(16, 4, 5e-5, **_CHECKPOINTED)},
    "qwen2.5-vl-3b-grpo": _GRPO | {"model": _LARGE_25, "optimization": _updates(32, 8, 1e-5, max_grad_norm=0.5)},
    "qwen2.5-vl-3b-sft": _SFT | {"model": _LARGE_25, "optimization": _updates(16, 4, 5e-5, **_CHECKPOINTED)},
    "qwen3-vl-2b-grpo": _GRPO | {"model": _LARGE_3, "optimization": _updates(32, 8, 1e-5, max_grad_norm=0.5)},
    "qwen3-vl-2b-sft": _SFT | {"model": _LARGE_3, "optimization": _updates(16, 4, 5e-5, **_CHECKPOINTED)},
}
PRESETS = {name: values | {"name": name} for name, values in _PRESETS.items()}
HELP = {
    "smolvlm-256m-grpo": "SmolVLM 256M from reward alone; one 512-pixel tile per image.",
    "smolvlm-256m-sft": "SmolVLM 256M imitates the references.",
    "smolvlm-500m-grpo": "SmolVLM 500M from reward alone; one 512-pixel tile per image.",
    "smolvlm-500m-sft": "SmolVLM 500M imitates the references.",
    "qwen2-vl-2b-grpo": "Qwen2-VL 2B in 4-bit from reward alone; at most 512 image tokens.",
    "qwen2-vl-2b-sft": "Qwen2-VL 2B in 4-bit imitates the references.",
    "qwen2-vl-2b-bf16-grpo": "Qwen2-VL 2B unquantized from reward alone; needs a GPU with 24 GB.",
    "qwen2-vl-2b-bf16-sft": "Qwen2-VL 2B unquantized imitates the references; needs a GPU with 24 GB.",
    "qwen2.5-vl-3b-grpo": "Qwen2.5-VL 3B in 4-bit from reward alone; at most 512 image tokens.",
    "qwen2.5-vl-3b-sft": "Qwen2.5-VL 3B in 4-bit imitates the references.",
    "qwen3-vl-2b-grpo": "Qwen3-VL 2B in 4-bit from reward alone; at most 392 image tokens.",
    "qwen3-vl-2b-sft": "Qwen3-VL 2B in 4-bit imitates the references.",
}
