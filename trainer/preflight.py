"""Is this configuration going to run? Checks without training, and the prompt exactly as the model will see it.

Run in a process of its own (`python -m trainer preflight --config FILE --json`): it needs torch.
"""

from __future__ import annotations

import base64
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModelForImageTextToText

from trainer import datasets, evaluate, generation, models, prompt
from trainer.config import ConfigError, RunConfig
from trainer.datasets.images import encode_png
from trainer.errors import TrainerError
from trainer.rewards import build

BYTES_PER_WEIGHT = {"nf4": 0.55, "int8": 1.05}
ADAM_BYTES = 16
"""fp32 weight, gradient and two moments of an adapter's parameter."""
LITTLE_DISK = 2 * 1024**3


@dataclass(frozen=True)
class Check:
    name: str
    level: Literal["ok", "warn", "fail"]
    sentence: str


def preflight(config: RunConfig, folder: Path) -> dict[str, Any]:
    """`checks`, `prompt`, `prompt_hash`, `image` (data URI), `image_tokens`, `prompt_tokens` and `memory` (bytes).

    What follows a failed check is left out; `folder` is where the run's output will go.
    """
    checks = [_disk(folder), _device(config)]
    report: dict[str, Any] = {}
    for step in (_rewards, _data_and_prompt, _memory):
        try:
            check, found = step(config)
        except (TrainerError, ConfigError) as error:
            check, found = Check(step.__name__.strip("_").replace("_", " "), "fail", str(error)), {}
        checks.append(check)
        report |= found
    return {"checks": [asdict(check) for check in checks], **report}


def _disk(folder: Path) -> Check:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        return Check(
            "disk", "fail", f"{existing} cannot be written to. Choose another database or change its permissions."
        )
    free = shutil.disk_usage(existing).free
    if free < LITTLE_DISK:
        return Check("disk", "warn", f"Only {free / 1024**3:.1f} GiB are free at {existing}; checkpoints may fill it.")
    return Check("disk", "ok", f"{free / 1024**3:.0f} GiB are free.")


def _device(config: RunConfig) -> Check:
    if torch.cuda.is_available():
        return Check("device", "ok", f"{torch.cuda.get_device_name()} with {models.dtype_of(config.model)}.")
    if config.model.id == "tiny":
        return Check("device", "ok", "No GPU; the embedded model is made for the CPU.")
    return Check("device", "warn", "No GPU was found: a step of this model will take minutes on the CPU.")


def _rewards(config: RunConfig) -> tuple[Check, dict[str, Any]]:
    rewards = build(config, lambda texts: torch.zeros(len(texts), 1).numpy())
    paid = ", ".join(f"{reward.name} × {reward.weight:g}" for reward in rewards)
    return Check("rewards", "ok", f"{paid}."), {}


def _data_and_prompt(config: RunConfig) -> tuple[Check, dict[str, Any]]:
    example = datasets.load(config.data.dataset, "train", 1, config.data.seed)[0]
    processor = models.load_processor(config.model)
    text = generation.render(processor, example, config.style, config.instruction)
    inputs = generation.encode(processor, [example], [text])
    length = inputs["input_ids"].shape[1]
    image_id = processor.tokenizer.convert_tokens_to_ids(getattr(processor, "image_token", "<image>"))
    found = {
        "prompt": text,
        "prompt_hash": prompt.fingerprint(
            text.replace(example.question, "{question}"), evaluate.pixel_settings(processor)
        ),
        "prompt_tokens": length,
        "image_tokens": int((inputs["input_ids"] == image_id).sum()),
        "image": "data:image/png;base64," + base64.b64encode(encode_png(example.images[0])).decode(),
    }
    return Check("data", "ok", f"{config.data.dataset} is readable; a prompt has {length} tokens."), found


def _memory(config: RunConfig) -> tuple[Check, dict[str, Any]]:
    """Weights and adapter only: activations depend on the batch and are not estimated."""
    try:
        described = AutoConfig.from_pretrained(models.location(config.model), revision=config.model.revision)
    except (OSError, ValueError) as error:
        raise TrainerError("model", f"Cannot read the model's configuration: {str(error).splitlines()[0]}") from error
    with init_empty_weights():
        model = AutoModelForImageTextToText.from_config(described)
    parameters = sum(p.numel() for p in model.parameters())
    per_weight = BYTES_PER_WEIGHT.get(
        config.model.quantization, 2 if models.dtype_of(config.model) == torch.bfloat16 else 4
    )
    adapter = _adapter_parameters(model, config.lora.rank)
    memory = {
        "parameters": parameters,
        "weights": int(parameters * per_weight),
        "adapter_parameters": adapter,
        "adapter_and_optimizer": adapter * ADAM_BYTES,
    }
    total = memory["weights"] + memory["adapter_and_optimizer"]
    available = torch.cuda.mem_get_info()[1] if torch.cuda.is_available() else None
    sentence = (
        f"{parameters / 1e6:,.1f} M parameters; weights, adapter and optimizer take {total / 1024**2:,.0f} MiB "
        "(activations come on top)."
    )
    return Check("memory", "fail" if available and total > available else "ok", sentence), {"memory": memory}


def _adapter_parameters(model: torch.nn.Module, rank: int) -> int:
    import re

    wanted = re.compile(models.LANGUAGE_PROJECTIONS)
    linear = [m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and wanted.fullmatch(name)]
    return sum(rank * (m.in_features + m.out_features) for m in linear)
