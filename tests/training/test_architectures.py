"""Architectures that share prompts and pictures do what their stock models do; the others are left as they are."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from PIL import Image
from transformers import AutoConfig, set_seed

from tests.training.tiny_architectures import SHARING, STEPPING_ASIDE
from tests.training.tiny_models import WRITERS
from trainer.datasets import shapes
from trainer.datasets.example import Example, Picture
from trainer.evaluate import generation
from trainer.models import loading
from trainer.models.loading import Base
from trainer.patches import pixels, prefix_sharing
from trainer.spec import config
from trainer.spec.config import LoraConfig, ModelConfig
from trainer.spec.rewards import Reward
from trainer.train import grpo, sft

pytestmark = pytest.mark.training
PROVEN = [*WRITERS, *SHARING]


@dataclass(frozen=True)
class Stretched:
    """A picture in another shape, which is cut into other tiles."""

    drawn: Picture
    width: int
    height: int

    @property
    def identity(self) -> str:
        return f"{self.drawn.identity} {self.width} {self.height}"

    def load(self) -> Image.Image:
        return self.drawn.load().resize((self.width, self.height))

    def encoded(self) -> bytes:
        return self.drawn.encoded()


def examples(count: int) -> list[Example]:
    """Of different questions and shapes of picture."""
    drawn = shapes.examples("simple", "train", count, 0)
    sizes = [(96, 96), (120, 50), (60, 110)]
    return [
        replace(example, pictures=tuple(Stretched(picture, *sizes[i % 3]) for picture in example.pictures))
        for i, example in enumerate(drawn)
    ]


def base_of(folder: Path, *, stock: bool) -> Base:
    base = loading.load_base(ModelConfig(id=str(folder)))
    if stock:
        as_made(base)
    return base


def as_made(base: Base) -> None:
    """The model and image processor as transformers made them."""
    base.model.__dict__.pop("generate", None)
    for name in ("forward", "get_image_features"):
        base.model.model.__dict__.pop(name, None)
    kind = type(base.processor.image_processor)
    if issubclass(kind, pixels._Distinct):
        base.processor.image_processor.__class__ = kind.__mro__[2]


def adapted(base: Base) -> Any:
    torch.manual_seed(0)
    model = get_peft_model(base.model, loading.adapter(LoraConfig(rank=4)))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def batch(base: Base, copies: int = 3) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
    """Three prompts of different lengths, `copies` completions each, some of them shorter."""
    rows = [example for example in examples(3) for _ in range(copies)]
    texts = [generation.render(base.processor, example, "cot", None) for example in rows]
    prompts = dict(generation.encode(base.processor, rows, texts))
    prompts.pop("labels", None)
    dice = torch.Generator().manual_seed(1)
    ids = [torch.randint(20, 200, (5 - i % 3,), generator=dice).tolist() for i in range(len(rows))]
    return generation.continued(base.model, base.processor, prompts, ids)


def numbers(model: Any, inputs: dict[str, Any], tokens: torch.Tensor, mask: torch.Tensor) -> Any:
    """Loss, log-probabilities of the completions and every gradient."""
    logits = model(**inputs, use_cache=False).logits[:, -tokens.shape[1] - 1 : -1]
    logps = logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)[mask]
    loss = -logps.sum()
    loss.backward()
    return loss.item(), logps.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", PROVEN)
def test_a_training_pass_is_that_of_the_stock_model(folders: dict[str, Path], kind: str) -> None:
    stock, shared = (base_of(folders[kind], stock=stock) for stock in (True, False))
    inputs, tokens, mask = batch(stock)
    loss, logps, gradients = numbers(adapted(stock), inputs, tokens, mask)
    seen: list[tuple[int, int]] = []
    language = prefix_sharing.vision_cache.language_model(shared.model.model)
    language.register_forward_pre_hook(
        lambda _, __, named: seen.append(tuple(named["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    model = adapted(shared)
    found_loss, found_logps, found = numbers(model, inputs, tokens, mask)
    assert found_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(found_logps, logps, rtol=1e-4, atol=1e-5)
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4)
    (leaders, prompt), (rows, rest) = seen
    assert (leaders, rows) == (3, 9), "a prompt was computed for each of its completions"
    assert prompt + rest == inputs["input_ids"].shape[1]
    assert rest == tokens.shape[1]
    cache = shared.model.model.get_image_features
    with torch.no_grad():
        model(**inputs)
    assert cache.requested == 6 * cache.encoded, "a picture was encoded more than once"


@pytest.mark.parametrize("kind", PROVEN)
def test_generation_says_what_the_stock_model_says(folders: dict[str, Path], kind: str) -> None:
    said = []
    for stock in (True, False):
        base = base_of(folders[kind], stock=stock)
        decoding = generation.Decoding(max_tokens=8, temperature=1.0, seed=5)
        found = generation.answers(base.model, base.processor, examples(3), decoding, style="cot", copies=3)
        said.append([answer.ids for _, group in found for answer in group])
    assert said[0] == said[1]
    assert len(set(said[0])) > 3


def spread(texts: list[str], *, completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
    """Differs within any group, so that there is a gradient to compare."""
    return [float(sum(ids) % 7) for ids in completion_ids]


def updates(folder: Path, method: str, output: Path, *, stock: bool, vision: bool = False) -> list[tuple[float, float]]:
    """Loss and gradient norm of two updates."""
    chosen = config.override(
        config.preset(f"demo-{method}"),
        {
            "model.id": str(folder),
            "max_tokens": "8",
            "lora.rank": "4",
            "lora.vision": str(vision),
            "grpo.group_size": "4",
            "optimization.steps": "2",
            "optimization.batch_size": "8",
            "optimization.accumulation": "2",
        },
    )
    set_seed(0)
    base = base_of(folder, stock=stock)
    trainer: Any
    if method == "grpo":
        trainer = grpo.build(chosen, base, examples(6), [Reward("spread", 1.0, spread)], output)
    else:
        trainer = sft.build(chosen, base, examples(16), output)
    trainer.train()
    return [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "grad_norm" in entry]


@pytest.mark.parametrize("method", ["grpo", "sft"])
@pytest.mark.parametrize("kind", [*PROVEN, *STEPPING_ASIDE])
def test_updates_are_those_of_the_stock_model(folders: dict[str, Path], tmp_path: Path, kind: str, method: str) -> None:
    stock, ours = (updates(folders[kind], method, tmp_path, stock=stock) for stock in (True, False))
    assert len(ours) == 2
    assert all(norm > 0 for _, norm in ours)
    for found, expected in zip(ours, stock, strict=True):
        assert found == pytest.approx(expected, rel=2e-3, abs=1e-5)


@pytest.mark.parametrize("kind", PROVEN)
def test_updates_of_the_vision_tower_are_those_of_the_stock_model(
    folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    stock, ours = (updates(folders[kind], "grpo", tmp_path, stock=stock, vision=True) for stock in (True, False))
    assert len(ours) == 2
    for found, expected in zip(ours, stock, strict=True):
        assert found == pytest.approx(expected, rel=2e-3, abs=1e-5)


@pytest.mark.parametrize("kind", PROVEN)
def test_an_adapter_of_the_vision_tower_covers_its_blocks(folders: dict[str, Path], kind: str) -> None:
    base = loading.load_base(ModelConfig(id=str(folders[kind])))
    language = {id(each) for each in prefix_sharing.vision_cache.language_model(base.model.model).modules()}
    others = {
        name: module
        for name, module in base.model.named_modules()
        if isinstance(module, torch.nn.Linear) and id(module) not in language
    }
    blocks = {name for name in others if re.search(r"\.(layers?|blocks)\.\d+\.", name)}
    assert blocks
    assert set(loading.projections(base.model, loading.VISION_PROJECTIONS)) == blocks
    assert set(loading.projections(base.model, loading.adapter_targets(LoraConfig(vision=True)))) == blocks | set(
        loading.projections(base.model)
    )
    inputs, *_ = batch(base)
    torch.manual_seed(0)
    model = get_peft_model(base.model, loading.adapter(LoraConfig(rank=4, vision=True)))
    for name, parameter in model.named_parameters():
        # Gemma 3's projector is zero before training.
        if ("lora_B" in name and "language_model" not in name and "text_model" not in name) or "projector" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():
        on = model(**inputs).logits
        with model.disable_adapter():
            off = model(**inputs).logits
        again = model(**inputs).logits
    assert not torch.allclose(on, off, atol=1e-5), "the adapter was ignored, or its features were kept"
    torch.testing.assert_close(again, on)


@pytest.mark.parametrize("kind", STEPPING_ASIDE)
def test_what_is_not_proven_is_left_as_it_is(folders: dict[str, Path], kind: str) -> None:
    base = base_of(folders[kind], stock=False)
    assert not {"forward", "get_image_features"} & base.model.model.__dict__.keys()
    reason = prefix_sharing.refusal(base.model.config)
    assert reason is not None
    assert base.model.config.model_type in reason


@pytest.mark.parametrize(
    ("architecture", "text", "shares"),
    [
        ("internvl", {"model_type": "qwen3"}, True),
        ("internvl", {"model_type": "gpt_oss"}, False),
        ("internvl", {"model_type": "qwen3_moe"}, False),
        ("llava_onevision", {"model_type": "mistral"}, False),
        ("qwen3_5", {}, False),
        ("mllama", {}, False),
        ("qwen3_vl_moe", {}, False),
        ("gemma3", {}, True),
    ],
)
def test_the_language_model_decides_too(architecture: str, text: dict[str, Any], shares: bool) -> None:
    described = AutoConfig.for_model(architecture, **({"text_config": text} if text else {}))
    assert (prefix_sharing.refusal(described) is None) == shares
