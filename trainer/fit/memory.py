"""Estimate a run's peak memory in bytes by formula, without loading weights or data.

Three phases alternate on top of what is always in memory (weights, adapter, optimizer): the training pass, generation,
and the probe's log-probabilities. The largest decides. A group's prompt is computed once, also in the training pass
unless that recomputes activations. The coefficients of the training pass were fitted to the tensors that autograd keeps
for LoRA on Llama and Qwen2 layers in float32 and bfloat16; they should be right within 25 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psutil
import torch
from accelerate import init_empty_weights
from transformers import AutoModelForImageTextToText

from trainer.datasets.example import Example
from trainer.evaluate import generation
from trainer.models import loading
from trainer.patches import pixels, prefix_sharing, vision_cache
from trainer.spec.config import LoraConfig, RunConfig

Phase = Literal["the update", "generation", "the probe"]
KEPT = {torch.float32: (8.0, 4.0), torch.bfloat16: (15.0, 4.5), torch.float16: (15.0, 4.5)}
"""Values kept per token and layer for the backward pass, in units of hidden and intermediate width."""
KEPT_BY_TOWER = {torch.float32: (9.0, 3.0), torch.bfloat16: (15.0, 4.5), torch.float16: (15.0, 4.5)}
"""The same for an image patch and a layer of a vision tower with an adapter; right within 35 %."""
NF4_BYTES, INT8_BYTES = 0.52, 1.01
"""Bytes of a quantized weight, including its share of the block's scale."""
LOSS_TILE = (4096, 32768)
"""Tokens and vocabulary entries that TRL's fused head projects at a time."""
SAMPLE = 16
"""Number of examples among which the largest is searched."""
GPU_RUNTIME = 700 * 1024**2
"""CUDA's context and workspaces."""
CPU_RUNTIME = 1000 * 1024**2
"""The interpreter, the libraries and the sentence encoder."""
ADVICE: dict[Phase, str] = {
    "the update": "Raise optimization.accumulation, or turn on optimization.gradient_checkpointing.",
    "generation": "Lower optimization.batch_size, evaluation.batch_size, max_tokens or the image size.",
    "the probe": "Raise optimization.accumulation, or lower max_tokens.",
}


@dataclass(frozen=True)
class Workload:
    """Size of the largest example after processing."""

    tokens: int
    """Prompt tokens, including image tokens."""
    pixels: int
    """Number of values in `pixel_values`."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Estimate in bytes; `parts` add up to `peak`."""

    parts: dict[str, int]
    phase: Phase
    available: int
    """Device memory available to this process."""
    parameters: int

    @property
    def peak(self) -> int:
        return sum(self.parts.values())


def by_size(examples: Sequence[Example]) -> list[Example]:
    """Return the first SAMPLE examples, sorted by pixels in descending order."""
    return sorted(examples[:SAMPLE], key=lambda example: -sum(image.width * image.height for image in example.images))


def largest(processor: Any, examples: Sequence[Example], config: RunConfig) -> Workload:
    """Return the sizes of the largest of the first SAMPLE examples."""
    example = by_size(examples)[0]
    text = generation.render(processor, example, config.style, config.instruction)
    inputs = generation.encode(processor, [example], [text])
    return Workload(inputs["input_ids"].shape[1], inputs["pixel_values"].numel())


def estimate(config: RunConfig, example: Workload) -> MemoryEstimate:
    """Estimate a run's peak memory on this machine. Raises TrainerError if the model's configuration is missing."""
    described = loading.architecture(config.model)
    with init_empty_weights():
        model = AutoModelForImageTextToText.from_config(described, dtype=loading.dtype_of(config.model))
    model.tie_weights()
    fixed = {
        "weights": weight_bytes(model, config),
        "adapter and optimizer": adapter_bytes(model, config),
        "runtime": GPU_RUNTIME if torch.cuda.is_available() else CPU_RUNTIME,
        "image features": feature_bytes(config, described, example),
        "the batch's pixels": pixel_bytes(config, example),
    }
    phases = phase_parts(config, described, example)
    if config.method != "none":
        phases["generation"]["merged weights"] = merged_bytes(model, config)
    phase = max(phases, key=lambda name: sum(phases[name].values()))
    return MemoryEstimate(fixed | phases[phase], phase, available(), sum(p.numel() for p in model.parameters()))


def available() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available + psutil.Process().memory_info().rss)


def weight_bytes(model: torch.nn.Module, config: RunConfig) -> int:
    """Return the bytes of the weights, of which only the language model's projections are quantized."""
    plain = loading.dtype_of(config.model).itemsize
    quantized = {"nf4": NF4_BYTES, "int8": INT8_BYTES}.get(config.model.quantization, plain)
    projected = sum(module.weight.numel() for module in loading.projections(model).values())
    return int(projected * quantized + (sum(p.numel() for p in model.parameters()) - projected) * plain)


def adapter_parameters(model: torch.nn.Module, lora: LoraConfig) -> int:
    layers = loading.projections(model, loading.adapter_targets(lora)).values()
    return sum(lora.rank * (layer.in_features + layer.out_features) for layer in layers)


def adapter_bytes(model: torch.nn.Module, config: RunConfig) -> int:
    """Return the bytes of the adapter's weights, gradients and AdamW moments, in float32 whatever the base's precision.

    A run that starts from an adapter has a frozen copy of it as the KL reference.
    """
    copies = 0 if config.method == "none" else 4
    if config.model.adapter is not None and config.method == "grpo" and config.grpo.beta:
        copies += 1
    return copies * 4 * adapter_parameters(model, config.lora)


def merged_bytes(model: torch.nn.Module, config: RunConfig) -> int:
    """Return the bytes of the merged projections, in addition to the base's own (`trainer.patches.merging`)."""
    if config.model.quantization != "none" or loading.dtype_of(config.model) != torch.float32:
        return 0
    layers = loading.projections(model, loading.adapter_targets(config.lora)).values()
    return 4 * sum(layer.weight.numel() for layer in layers)


def phase_parts(config: RunConfig, described: Any, example: Workload) -> dict[Phase, dict[str, int]]:
    """Return the parts of memory that each phase adds."""
    size = loading.dtype_of(config.model).itemsize
    text = described.get_text_config()
    total = example.tokens + config.max_tokens
    at_once, prompts_at_once = config.evaluation.batch_size, config.evaluation.batch_size
    if config.method == "grpo":
        processes = config.optimization.processes
        at_once = max(at_once, config.optimization.batch_size // processes)
        prompts_at_once = max(prompts_at_once, config.prompts_per_step // processes)
    kv_heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    generating = {
        "key-value cache": at_once * total * text.num_hidden_layers * 2 * kv_heads * head * size,
        "activations": prompts_at_once * example.tokens * (4 * text.hidden_size + 3 * text.intermediate_size) * size,
        "logits": 3 * at_once * text.vocab_size * 4,
        "vision": vision_bytes(described, example, at_once, size),
    }
    if config.method == "none":
        return {"generation": generating}
    tokens = config.micro_batch * total
    update = {
        "activations": activation_bytes(config, text, update_tokens(config, described, example)),
        "copies of keys and values": (
            config.micro_batch * total * text.num_hidden_layers * 2 * kv_heads * head * size
            if shares_prompts(config, described)
            else 0
        ),
        "logits": min(tokens, LOSS_TILE[0]) * min(text.vocab_size, LOSS_TILE[1]) * (size + 4),
        "vision": vision_bytes(described, example, config.micro_batch, size),
        "vision tower's activations": tower_bytes(config, described, example),
    }
    probe = {
        "logits": 4 * config.micro_batch * config.max_tokens * text.vocab_size * 4,
        "activations": tokens * (4 * text.hidden_size + 3 * text.intermediate_size) * size,
        "vision": vision_bytes(described, example, config.micro_batch, size),
    }
    return {"the update": update, "generation": generating, "the probe": probe}


def feature_bytes(config: RunConfig, described: Any, example: Workload) -> int:
    """Return the bytes of all examples' image features, up to the limit of `trainer.patches.vision_cache`."""
    if prefix_sharing.refusal(described) is not None or config.lora.vision:
        return 0
    data = config.data
    train = min(data.train_examples, config.optimization.steps * config.prompts_per_step)
    pictures = (train + data.val_examples if config.method != "none" else 0) + data.test_examples
    deeper = len(getattr(described.vision_config, "deepstack_visual_indexes", None) or ())
    width = described.get_text_config().hidden_size * (1 + deeper)
    each = example.tokens * width * loading.dtype_of(config.model).itemsize
    return min(vision_cache.MEMORY_LIMIT, pictures * each)


def pixel_bytes(config: RunConfig, example: Workload) -> int:
    """Return the bytes of pixels. GRPO keeps those of a whole generation, one copy per completion, until the next.

    On the CPU, the distinct ones kept by `trainer.patches.pixels` are in the same memory.
    """
    if config.method != "grpo":
        return 0
    each, processes = example.pixels * 4, config.optimization.processes
    cached = 0 if torch.cuda.is_available() else min(pixels.MEMORY_LIMIT, config.prompts_per_step // processes * each)
    return config.optimization.batch_size // processes * each + cached


def shares_prompts(config: RunConfig, described: Any) -> bool:
    """Return whether the training pass computes a shared prompt only once (`trainer.patches.prefix_sharing`)."""
    return (
        config.method == "grpo"
        and config.micro_batch > 1
        and not config.optimization.gradient_checkpointing
        and prefix_sharing.refusal(described) is None
    )


def update_tokens(config: RunConfig, described: Any, example: Workload) -> int:
    """Return the number of tokens in one training pass."""
    return pass_prompts(config, described) * example.tokens + config.micro_batch * config.max_tokens


def pass_prompts(config: RunConfig, described: Any) -> int:
    """Return the number of prompts that one training pass computes."""
    rows = config.micro_batch
    return math.ceil(rows / config.grpo.group_size) if shares_prompts(config, described) else rows


def activation_bytes(config: RunConfig, text: Any, tokens: int) -> int:
    """Return the bytes that autograd keeps for `tokens` tokens; with checkpointing, layers' inputs and one layer."""
    dtype = loading.dtype_of(config.model)
    hidden, intermediate = KEPT[dtype]
    layer = hidden * text.hidden_size + intermediate * text.intermediate_size
    layers = text.num_hidden_layers
    values = layers * text.hidden_size + layer if config.optimization.gradient_checkpointing else layers * layer
    return int(tokens * values * dtype.itemsize)


def vision_bytes(described: Any, example: Workload, images: int, size: int) -> int:
    """Return the bytes of float32 pixels and one layer of the frozen vision tower, which keeps nothing for backward.

    If images are shared, the tower processes one at a time.
    """
    vision = getattr(described, "vision_config", None)
    if vision is None:
        return images * example.pixels * 4
    width, inner = tower_widths(vision)
    at_once = images if prefix_sharing.refusal(described) is not None else 1
    return images * example.pixels * 4 + at_once * patches(vision, example) * (6 * width + 2 * inner) * size


def tower_bytes(config: RunConfig, described: Any, example: Workload) -> int:
    """Return the bytes that autograd keeps of a vision tower with an adapter, for the images of one training pass."""
    vision = getattr(described, "vision_config", None)
    if vision is None or not config.lora.vision:
        return 0
    dtype = loading.dtype_of(config.model)
    width, inner = tower_widths(vision)
    of_width, of_inner = KEPT_BY_TOWER[dtype]
    layers = getattr(vision, "num_hidden_layers", None) or vision.depth
    layer = of_width * width + of_inner * inner
    values = layers * width + layer if config.optimization.gradient_checkpointing else layers * layer
    # Where prompts are not shared, a group's copies of an image are still encoded once.
    is_encoded_once = config.method == "grpo" and prefix_sharing.refusal(described) is None
    images = math.ceil(config.micro_batch / config.grpo.group_size) if is_encoded_once else config.micro_batch
    return int(images * patches(vision, example) * values * dtype.itemsize)


def patches(vision: Any, example: Workload) -> int:
    channels = getattr(vision, "num_channels", None) or getattr(vision, "in_channels", None) or 3
    patch = channels * _edge(vision.patch_size) ** 2 * _edge(getattr(vision, "temporal_patch_size", None) or 1)
    return example.pixels // patch


def tower_widths(vision: Any) -> tuple[int, int]:
    """Return the hidden and the intermediate width of a vision tower."""
    width = getattr(vision, "embed_dim", None) or vision.hidden_size
    return width, getattr(vision, "intermediate_size", None) or int(width * getattr(vision, "mlp_ratio", 4))


def _edge(patch: int | Sequence[int]) -> int:
    """Return the edge of a patch; InternVL's configuration has both edges."""
    return patch if isinstance(patch, int) else patch[0]


def forget_peak() -> None:
    """Reset the result of `measured_peak`; that of resident memory cannot be reset."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def measured_peak() -> int:
    """Return this process's peak memory in bytes: that of tensors on the GPU, or else resident memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    # POSIX only, like the launcher; in kibibytes on Linux.
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_words(estimate: MemoryEstimate) -> str:
    """Describe the estimate: the peak, its phase, the available memory, and the largest parts."""
    parts = sorted(estimate.parts.items(), key=lambda part: -part[1])
    parts_text = ", ".join(f"{name} {gib(value)}" for name, value in parts if value >= estimate.peak / 100)
    of = f"of {gib(estimate.available)} that are free"
    return f"About {gib(estimate.peak)} GiB at the peak, during {estimate.phase}, {of}: {parts_text}."


def gib(value: int) -> str:
    return f"{value / 1024**3:.2f}" if value < 10 * 1024**3 else f"{value / 1024**3:.1f}"
