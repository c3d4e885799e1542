"""Load a base model with its processor, and define the adapter's shape.

A model with 2 billion parameters and the embedded one use the same functions; only the model id differs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    BitsAndBytesConfig,
)
from transformers.models.auto import PROCESSOR_MAPPING

from trainer.models import chat_template, hub
from trainer.patches import decoding_loop, pixels, prefix_sharing, quantized
from trainer.patches.processors import image_only
from trainer.spec import paths
from trainer.spec.config import TINY, TINY_BOARD, LoraConfig, ModelConfig
from trainer.spec.errors import TrainerError

ROOT = Path(__file__).parents[2]
TINY_FOLDER = ROOT / "trainer" / "tiny" / "base"
_EMBEDDED = {TINY: TINY_FOLDER, TINY_BOARD: TINY_FOLDER.with_name("board")}
LANGUAGE_PROJECTIONS = r".*\b(text_model|language_model)\b.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""By path, not by suffix, because the vision towers of SmolVLM and Qwen2.5-VL have projections of the same names."""
VISION_PROJECTIONS = (
    r".*\b(vision_model|vision_tower|visual)\b.*\.(layers?|blocks)\.\d+\..*\b"
    r"(q_proj|k_proj|v_proj|o_proj|out_proj|qkv|proj|projection_layer|fc1|fc2|linear_fc1|linear_fc2|gate_proj|up_proj|down_proj)"
)
"""Linear layers within the blocks of a vision tower, not its patch embedding or what leads to the language model."""
NOT_QUANTIZED = (r"(?!.*\b(text_model|language_model)\b).*", "lm_head")
"""Modules that are not quantized: 4-bit vision towers misread images, and TRL reads the head's weight."""


@dataclass(frozen=True)
class Base:
    """A frozen base model and its processor (with left padding), ready for TRL."""

    model: Any
    processor: Any
    revision: str | None
    """The loaded hub commit; None for a folder."""


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_of(config: ModelConfig) -> torch.dtype:
    if config.dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[config.dtype]
    if device().type != "cuda":
        return torch.float32
    # Where bfloat16 is only emulated, float16 is many times faster.
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def location(config: ModelConfig) -> str:
    """Return the folder or hub id to load from."""
    return str(_EMBEDDED.get(config.id, config.id))


def public_name(config: ModelConfig) -> str:
    """Return what others call the base model: an embedded model's own name, a hub id, or the name of a local folder."""
    return Path(config.id).name if config.id not in _EMBEDDED and paths.is_dir(config.id) else config.id


def public_location(config: ModelConfig) -> str:
    """Return where others load the base from: for an embedded model its path in this project, or else its name."""
    found = _EMBEDDED.get(config.id)
    return public_name(config) if found is None else found.relative_to(ROOT).as_posix()


def architecture(config: ModelConfig) -> Any:
    """Return the model's own configuration.

    Raises TrainerError if the model does not exist, or if it is not an image-text-to-text model.
    """
    try:
        model_config = AutoConfig.from_pretrained(location(config), revision=config.revision, trust_remote_code=False)
    except hub.LOADING_FAILURES as error:
        raise hub.failure(config, error) from error
    if type(model_config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise TrainerError(
            "model",
            f"{config.id!r} is a {model_config.model_type} model, which cannot read images. Choose "
            "an image-text-to-text model.",
        )
    return model_config


def commit_of(architecture: Any) -> str | None:
    """Return the hub commit of a configuration, or None for a folder."""
    return getattr(architecture, "_commit_hash", None)


def load_processor(config: ModelConfig) -> Any:
    """Return the model's processor for images and text, with the run's pixel settings; it pads on the left.

    Raises TrainerError if it cannot be loaded, lacks a pixel setting, or has an unsupported chat template.
    """
    model_config = architecture(config)
    kind = (
        image_only(PROCESSOR_MAPPING[type(model_config)]) if type(model_config) in PROCESSOR_MAPPING else AutoProcessor
    )
    revision = commit_of(model_config) or config.revision
    try:
        processor = kind.from_pretrained(location(config), revision=revision, trust_remote_code=False)
    except hub.LOADING_FAILURES as error:
        raise hub.failure(config, error) from error
    if not hasattr(processor, "image_processor"):
        raise TrainerError("model", f"{config.id!r} has no image processor: its preprocessor_config.json is missing.")
    set_pixels(processor.image_processor, config)
    chat_template.read(processor, repr(config.id))
    processor.tokenizer.padding_side = "left"
    return processor


def set_pixels(image_processor: Any, config: ModelConfig) -> None:
    """Apply the run's pixel settings to an image processor. Raises TrainerError for a setting that it does not have.

    Qwen2-VL stores its smallest and largest area in pixels under the names of edges.
    """
    if (config.longest_edge, config.min_pixels, config.max_pixels) == (None, None, None):
        return
    by_area = "min_pixels" in image_processor.valid_kwargs.__annotations__
    size = {name: value for name, value in dict(image_processor.size).items() if value is not None}
    if config.longest_edge is not None:
        if by_area or "longest_edge" not in size:
            raise _unknown(config, "longest_edge", "min_pixels and max_pixels" if by_area else "no pixel setting")
        size["longest_edge"] = config.longest_edge
    for name, edge in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        value = getattr(config, name)
        if value is None:
            continue
        if not by_area:
            raise _unknown(config, name, "longest_edge" if "longest_edge" in size else "no pixel setting")
        size[edge] = value
    if by_area and size["shortest_edge"] > size["longest_edge"]:
        raise TrainerError(
            "config",
            f"The smallest image area, {size['shortest_edge']} pixels, exceeds the largest, {size['longest_edge']}. "
            "Set model.min_pixels and model.max_pixels.",
        )
    image_processor.size = size


def _unknown(config: ModelConfig, name: str, problem: str) -> TrainerError:
    return TrainerError("config", f"The processor of {config.id!r} has {problem}. Leave model.{name} empty.")


def load_base(config: ModelConfig) -> Base:
    """Load weights from safetensors only, quantized if configured, to the GPU if there is one.

    Raises TrainerError if the model cannot be loaded or adapted.
    """
    if config.quantization != "none" and find_spec("bitsandbytes") is None:
        raise TrainerError("dependency", "Quantization needs bitsandbytes. Install it, or set model.quantization=none.")
    processor = load_processor(config)
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            location(config),
            revision=config.revision,
            dtype=dtype_of(config),
            quantization_config=quantization(config),
            use_safetensors=True,
            trust_remote_code=False,
            device_map={"": device()} if config.quantization != "none" else None,
        )
    except hub.LOADING_FAILURES as error:
        raise hub.failure(config, error) from error
    chosen = projections(model)
    if not chosen:
        raise TrainerError(
            "model",
            f"{config.id!r} ({model.config.model_type}) has no projections in `text_model` or `language_model` for "
            "an adapter. Choose a model of another architecture.",
        )
    if config.quantization == "none":
        model = model.to(device())
    if config.quantization == "nf4":
        quantized.keep_packing(chosen.values())
    model.requires_grad_(False)
    prefix_sharing.install(model)
    decoding_loop.install(model)
    pixels.install(processor.image_processor)
    return Base(model, processor, commit_of(model.config))


def quantization(config: ModelConfig) -> BitsAndBytesConfig | None:
    """Return the quantization of the language model's projections; see NOT_QUANTIZED."""
    if config.quantization == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype_of(config),
            llm_int8_skip_modules=list(NOT_QUANTIZED),
        )
    if config.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(NOT_QUANTIZED))
    return None


def projections(model: torch.nn.Module, names: str = "") -> dict[str, Any]:
    """Return the linear layers whose names match, by name: by default, the language model's."""
    pattern = re.compile(names or LANGUAGE_PROJECTIONS)
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and pattern.fullmatch(name)
    }


def adapter_targets(config: LoraConfig) -> str:
    """Return the pattern of the names of the layers to which adapters are added."""
    return f"({LANGUAGE_PROJECTIONS})|({VISION_PROJECTIONS})" if config.vision else LANGUAGE_PROJECTIONS


def adapter(config: LoraConfig) -> PeftLoraConfig:
    """Return the LoRA configuration for the language model's projections and, if it says so, the vision tower's."""
    return PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha or 2 * config.rank,
        lora_dropout=config.dropout,
        target_modules=adapter_targets(config),
        task_type="CAUSAL_LM",
    )
