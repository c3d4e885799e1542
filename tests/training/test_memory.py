"""The memory estimate against what models and autograd really take, and that every knob moves it the right way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model

from store.db.engine import Store
from tests.training.conftest import Train
from trainer.datasets import shapes
from trainer.evaluate import generation
from trainer.fit import memory
from trainer.fit.memory import Workload
from trainer.models import loading
from trainer.patches import vision_cache
from trainer.spec import config, rewards
from trainer.spec.config import RunConfig
from trainer.train import grpo

pytestmark = pytest.mark.training
EXAMPLE = Workload(tokens=60, pixels=3 * 96 * 96)


def preset(name: str = "shapes-grpo", **settings: str) -> RunConfig:
    return config.override(config.preset(name), {key.replace("__", "."): value for key, value in settings.items()})


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
@pytest.mark.parametrize("model", ["tiny", "qwen2vl"])
def test_weights_take_what_is_said(folders: dict[str, Path], model: str, quantization: str) -> None:
    chosen = preset(model__id=str(folders.get(model, model)), model__quantization=quantization)
    loaded = loading.load_base(chosen.model).model
    real = sum(p.numel() * p.element_size() for p in loaded.parameters())
    assert memory.estimate(chosen, EXAMPLE).parts["weights"] == pytest.approx(real, rel=0.03)


def test_an_adapter_takes_what_is_said() -> None:
    chosen = preset(lora__rank="8")
    model = get_peft_model(loading.load_base(chosen.model).model, loading.adapter(chosen.lora))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    for p in trained:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    moments = [t for state in optimizer.state.values() for t in state.values() if t.ndim]
    real = sum(t.numel() * t.element_size() for t in (*trained, *(p.grad for p in trained), *moments))
    assert memory.estimate(chosen, EXAMPLE).parts["adapter and optimizer"] == real


@pytest.mark.parametrize("copies", [1, 8])
@pytest.mark.parametrize("model", ["tiny", "qwen2vl"])
def test_the_training_pass_keeps_what_is_said(folders: dict[str, Path], model: str, copies: int) -> None:
    settings = {"optimization__batch_size": str(2 * copies), "grpo__group_size": str(copies), "max_tokens": "24"}
    chosen = preset(model__id=str(folders.get(model, model)), **(settings if copies > 1 else {"method": "sft"}))
    base = loading.load_base(chosen.model)
    policy = get_peft_model(base.model, loading.adapter(chosen.lora))
    examples = [e for e in shapes.examples("simple", "train", 2, 0) for _ in range(copies)]
    texts = [generation.render(base.processor, example, "cot", None) for example in examples]
    inputs = dict(generation.encode(base.processor, examples, texts))
    prompt = inputs["input_ids"].shape[1]
    for name, fill in (("input_ids", 7), ("attention_mask", 1), ("mm_token_type_ids", 0)):
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], torch.full((len(examples), 24), fill)], dim=1)
    inputs["input_ids"][:, prompt] = 20 + torch.arange(len(examples))
    real = kept_bytes(policy, lambda: policy.model.model(**inputs, use_cache=False))
    text = base.model.config.get_text_config()
    workload = Workload(tokens=prompt, pixels=3 * 96 * 96)
    if copies == 1:
        said = memory.activation_bytes(chosen, text, len(examples) * (prompt + 24))
    else:
        parts = memory.phase_parts(chosen, base.model.config, workload)["the update"]
        said = parts["activations"] + parts["copies of keys and values"]
    assert said == pytest.approx(real, rel=0.25)


def kept_bytes(policy: torch.nn.Module, compute: Callable[[], Any]) -> int:
    """Bytes that autograd keeps for the backward pass, without the weights."""
    own = {p.untyped_storage().data_ptr() for p in policy.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        assert compute() is not None
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("copies", [1, 4])
@pytest.mark.parametrize("model", ["tiny", "qwen2vl"])
def test_an_adapted_vision_tower_keeps_what_is_said(folders: dict[str, Path], model: str, copies: int) -> None:
    settings = {"optimization__batch_size": str(2 * copies), "grpo__group_size": str(copies)}
    chosen = preset(
        model__id=str(folders.get(model, model)), lora__vision="true", **(settings if copies > 1 else {"method": "sft"})
    )
    chosen = chosen if copies > 1 else config.override(chosen, {"optimization.batch_size": "2"})
    base = loading.load_base(chosen.model)
    policy = get_peft_model(base.model, loading.adapter(chosen.lora))
    examples = [e for e in shapes.examples("simple", "train", 2, 0) for _ in range(copies)]
    texts = [generation.render(base.processor, example, "cot", None) for example in examples]
    inputs = generation.encode(base.processor, examples, texts)
    backbone = base.model.model
    arguments = {name: inputs[name] for name in backbone.get_image_features.parameters if name in inputs}
    real = kept_bytes(policy, lambda: backbone.get_image_features(**arguments, return_dict=True))
    workload = Workload(tokens=60, pixels=inputs["pixel_values"].numel() // len(examples))
    assert memory.tower_bytes(chosen, base.model.config, workload) == pytest.approx(real, rel=0.35)


def test_an_adapter_of_the_tower_takes_what_is_said() -> None:
    chosen = preset(lora__rank="8", lora__vision="true")
    model = get_peft_model(loading.load_base(chosen.model).model, loading.adapter(chosen.lora))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert memory.estimate(chosen, EXAMPLE).parts["adapter and optimizer"] == 4 * 4 * trained


def phases(**settings: str) -> dict[Any, int]:
    chosen = preset(**settings)
    found = memory.phase_parts(chosen, loading.architecture(chosen.model), EXAMPLE)
    return {phase: sum(parts.values()) for phase, parts in found.items()}


@pytest.mark.parametrize(
    ("phase", "settings"),
    [
        ("the update", {"optimization__accumulation": "4"}),
        ("the update", {"optimization__gradient_checkpointing": "true"}),
        ("the update", {"max_tokens": "20"}),
        ("generation", {"optimization__batch_size": "8", "evaluation__batch_size": "8"}),
        ("generation", {"max_tokens": "20"}),
        ("the probe", {"optimization__accumulation": "4"}),
    ],
)
def test_what_the_advice_names_saves_memory(phase: Any, settings: dict[str, str]) -> None:
    assert phases(**settings)[phase] < 0.9 * phases()[phase]
    assert set(memory.ADVICE) == set(phases())


def test_the_largest_example_is_the_one_with_most_pixels() -> None:
    chosen = preset()
    processor = loading.load_processor(chosen.model)
    found = memory.largest(processor, shapes.examples("simple", "train", 3, 0), chosen)
    assert found.pixels == 3 * 96 * 96
    assert 9 < found.tokens < 100


def test_a_run_records_estimate_and_measurement(store: Store, train: Train) -> None:
    run = train("shapes-sft", {"optimization.steps": "1"})
    assert run.status == "finished", run.job
    said, measured = run.environment["estimated_memory"], run.environment["measured_memory"]
    assert said > 100 * 1024**2
    assert measured > 100 * 1024**2


@pytest.mark.parametrize("model", ["tiny", "qwen3vl", "internvl"])
def test_pixels_and_features_take_what_is_said(folders: dict[str, Path], tmp_path: Path, model: str) -> None:
    settings = {"optimization__steps": "1", "max_tokens": "8", "data__train_examples": "8", "grpo__beta": "0"}
    chosen = preset(
        model__id=str(folders.get(model, model)), data__val_examples="1", data__test_examples="0", **settings
    )
    base = loading.load_base(chosen.model)
    examples = shapes.examples("simple", "train", 8, 0)
    trainer = grpo.build(chosen, base, examples, [rewards.Reward("length", 1.0, lengths)], tmp_path)
    workload = memory.largest(base.processor, examples, chosen)
    trainer.train()
    held = sum(part["pixel_values"].nbytes for part in trainer._buffered_inputs)
    _, prepared = base.processor.image_processor._latest
    assert memory.pixel_bytes(chosen, workload) == pytest.approx(held + prepared["pixel_values"].nbytes, rel=0.01)
    kept = base.model.model.get_image_features._bytes
    assert kept <= memory.feature_bytes(chosen, base.model.config, workload) * 8 / 9
    many = preset(
        model__id=str(folders.get(model, model)), data__train_examples="1000000", optimization__steps="1000000"
    )
    assert memory.feature_bytes(many, base.model.config, workload) == vision_cache.MEMORY_LIMIT


def lengths(texts: list[str], **columns: Any) -> list[float | None]:
    return [float(len(text)) for text in texts]
