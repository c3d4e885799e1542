"""Loading a base model with its processor, and the adapter's shape. Knows nothing of datasets, rewards or databases.

Everything that runs on a 2-billion-parameter model runs on the embedded one through these functions:
only the model id differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from transformers import AutoModelForImageTextToText, AutoProcessor, BitsAndBytesConfig

from trainer.config import TINY, LoraConfig, ModelConfig
from trainer.errors import TrainerError

TINY_FOLDER = Path(__file__).parent / "tiny" / "base"
LANGUAGE_PROJECTIONS = r".*\b(text_model|language_model)\b.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""By path, not by suffix: SmolVLM's vision tower has projections of the same names."""


@dataclass(frozen=True)
class Base:
    """A frozen base model and its processor (left padding), both ready for TRL."""

    model: Any
    processor: Any
    revision: str | None


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_of(config: ModelConfig) -> torch.dtype:
    if config.dtype == "auto":
        return torch.bfloat16 if device().type == "cuda" else torch.float32
    return torch.bfloat16 if config.dtype == "bfloat16" else torch.float32


def location(config: ModelConfig) -> str:
    """Folder or hub id to load from."""
    return str(TINY_FOLDER) if config.id == TINY else config.id


def load_processor(config: ModelConfig) -> Any:
    """The model's own processor with the run's pixel settings; pads on the left.

    Raises TrainerError (kind `model`) when the id names nothing that can be loaded.
    """
    sizes: dict[str, Any] = {}
    if config.longest_edge is not None:
        sizes["size"] = {"longest_edge": config.longest_edge}
    if config.min_pixels is not None:
        sizes["min_pixels"] = config.min_pixels
    if config.max_pixels is not None:
        sizes["max_pixels"] = config.max_pixels
    try:
        processor = AutoProcessor.from_pretrained(location(config), revision=config.revision, **sizes)
    except (OSError, ValueError) as error:
        raise TrainerError("model", _not_loadable(config, error)) from error
    processor.tokenizer.padding_side = "left"
    return processor


def load_base(config: ModelConfig) -> Base:
    """Weights from safetensors only, quantized if asked, on the GPU where there is one.

    Raises TrainerError (kind `model`) when the id names nothing that can be loaded.
    """
    processor = load_processor(config)
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            location(config),
            revision=config.revision,
            dtype=dtype_of(config),
            quantization_config=quantization(config),
            use_safetensors=True,
            device_map={"": device()} if config.quantization != "none" else None,
        )
    except (OSError, ValueError) as error:
        raise TrainerError("model", _not_loadable(config, error)) from error
    if config.quantization == "none":
        model = model.to(device())
    return Base(model, processor, getattr(model.config, "_commit_hash", None))


def _not_loadable(config: ModelConfig, error: Exception) -> str:
    first_line = str(error).strip().split("\n")[0]
    return (
        f"Cannot load the model {config.id!r}: {first_line} "
        "Give `tiny`, a folder that holds an image-text-to-text model, or a hub id that this machine can reach."
    )


def quantization(config: ModelConfig) -> BitsAndBytesConfig | None:
    if config.quantization == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype_of(config),
        )
    return BitsAndBytesConfig(load_in_8bit=True) if config.quantization == "int8" else None


def adapter(config: LoraConfig) -> PeftLoraConfig:
    """LoRA on the language model's projections; the vision tower stays frozen."""
    return PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha or 2 * config.rank,
        lora_dropout=config.dropout,
        target_modules=LANGUAGE_PROJECTIONS,
        task_type="CAUSAL_LM",
    )
