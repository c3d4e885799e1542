"""A prompt's pictures and tokens are computed once, and nothing changes but the time."""

import copy
import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import get_peft_model
from PIL import Image
from transformers import (
    Gemma3ImageProcessorPil,
    GotOcr2ImageProcessorPil,
    Idefics3ImageProcessorPil,
    LlavaImageProcessorPil,
    LlavaNextImageProcessorPil,
    LlavaOnevisionImageProcessorPil,
    Qwen2VLImageProcessorPil,
    SmolVLMImageProcessorPil,
)

from trainer.datasets import shapes
from trainer.evaluate import generation
from trainer.models import loading
from trainer.patches import pixels, prefix_sharing
from trainer.patches.prefix_sharing import plan
from trainer.patches.vision_cache import VisionCache
from trainer.spec.config import LoraConfig, ModelConfig

ROWS = st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), min_size=1, max_size=8)


@given(ROWS, st.integers(0, 6))
def test_every_row_begins_like_its_leader(tokens, earliest):
    rows = [((), *row) for row in tokens]
    found = plan(rows, 6, earliest)
    assert found.length == 0 or found.length >= earliest
    for row, leader in zip(rows, found.leader_of, strict=True):
        assert row[1 : 1 + found.length] == rows[found.leaders[leader]][1 : 1 + found.length]
    computed = len(found.leaders) * found.length + len(rows) * (6 - found.length)
    assert computed <= 6 * len(rows)


def test_identical_groups_share_their_whole_beginning():
    rows = [("a", 1, 2, 3, 7), ("b", 1, 2, 3, 7), ("a", 1, 2, 3, 8), ("b", 1, 2, 3, 9)]
    found = plan(rows, 4, 3)
    assert found.length == 3
    assert sorted(found.leaders) in ([0, 1], [0, 3], [1, 2], [2, 3])
    assert found.leader_of[0] == found.leader_of[2] != found.leader_of[1] == found.leader_of[3]


def test_rows_with_different_pictures_never_share():
    found = plan([("a", 1, 2), ("b", 1, 2)], 2, 0)
    assert found.length == 0
    assert found.leader_of == [0, 1]


@pytest.fixture(scope="module")
def plain():
    base = loading.load_base(ModelConfig())
    del base.model.model.forward, base.model.model.get_image_features
    torch.manual_seed(0)
    adapted = get_peft_model(base.model, loading.adapter(LoraConfig(rank=4)))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return adapted, base.processor


@pytest.fixture
def shared(plain):
    model = copy.deepcopy(plain[0])
    prefix_sharing.install(model.base_model.model)
    return model, plain[1]


def batch(processor, copies=3, tail=5):
    """Two prompts, `copies` completions each, as TRL lays them out: left padding, then tokens."""
    examples = [e for e in shapes.examples("simple", "train", 2, 0) for _ in range(copies)]
    texts = [generation.render(processor, e, "cot", None) for e in examples]
    inputs = dict(generation.encode(processor, examples, texts))
    torch.manual_seed(1)
    tokens = torch.randint(20, 200, (len(examples), tail))
    mask = torch.ones_like(tokens)
    mask[1, -2:] = 0
    inputs["input_ids"] = torch.cat([inputs["input_ids"], tokens], 1)
    inputs["attention_mask"] = torch.cat([inputs["attention_mask"], mask], 1)
    return inputs, tokens, mask


def gradients(model, inputs, tokens, mask):
    model.zero_grad()
    logits = model(**inputs, use_cache=False).logits[:, -tokens.shape[1] - 1 : -1]
    logps = logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    loss = -(logps * mask).sum()
    loss.backward()
    return loss.item(), logps.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_the_training_pass_gives_the_same_log_probabilities_and_gradients(plain, shared):
    inputs, tokens, mask = batch(plain[1])
    loss, logps, expected = gradients(plain[0], inputs, tokens, mask)
    other_loss, other_logps, found = gradients(shared[0], inputs, tokens, mask)
    assert other_loss == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(other_logps[mask.bool()], logps[mask.bool()], rtol=1e-5, atol=1e-5)
    assert expected.keys() == found.keys()
    assert all("lora" in name for name in expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


def test_the_tower_sees_a_picture_once(shared):
    inputs, *_ = batch(shared[1])
    cache = shared[0].base_model.model.model.get_image_features
    with torch.no_grad():
        shared[0](**inputs)
        shared[0](**inputs)
    assert cache.requested == 12
    assert cache.encoded == 2


def test_the_common_tokens_are_computed_once(shared):
    inputs, tokens, _ = batch(shared[1])
    text_model = shared[0].base_model.model.model.text_model
    seen = []
    handle = text_model.register_forward_pre_hook(
        lambda module, arguments, named: seen.append(tuple(named["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    with torch.no_grad():
        shared[0](**inputs)
    handle.remove()
    prompt = inputs["input_ids"].shape[1] - tokens.shape[1]
    assert seen == [(2, prompt), (6, tokens.shape[1])]


def test_generation_gives_the_same_tokens(plain, shared):
    examples = shapes.examples("simple", "train", 3, 0)
    answers = []
    for model, processor in (plain, shared):
        decoding = generation.Decoding(max_tokens=12, temperature=1.0, seed=5)
        answers.append(
            [
                a
                for _, found in generation.answers(model, processor, examples, decoding, style="cot", copies=4)
                for a in found
            ]
        )
    assert [a.ids for a in answers[0]] == [a.ids for a in answers[1]]
    assert len({a.ids for a in answers[0]}) > 3


def test_gradient_checkpointing_gives_the_same_gradients(plain, shared):
    inputs, tokens, mask = batch(plain[1])
    _, _, expected = gradients(plain[0], inputs, tokens, mask)
    model = shared[0]
    model.base_model.model.activation_checkpointing_enable()
    model.train()
    _, _, found = gradients(model, inputs, tokens, mask)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


def test_features_of_a_tower_in_training_are_not_kept(shared):
    inputs, *_ = batch(shared[1])
    backbone = shared[0].base_model.model.model
    weight = next(backbone.vision_model.parameters())
    weight.requires_grad_(True)
    first = backbone.get_image_features(inputs["pixel_values"]).pooler_output[0]
    with torch.no_grad():
        weight.mul_(1.5)
    second = backbone.get_image_features(inputs["pixel_values"]).pooler_output[0]
    assert first.requires_grad
    assert not torch.allclose(first, second)


def test_a_tower_in_training_sees_a_picture_once_in_each_pass(shared: tuple[Any, Any]) -> None:
    inputs, *_ = batch(shared[1])
    tower = shared[0].base_model.model.model.vision_model
    next(tower.parameters()).requires_grad_(True)
    passes: list[int] = []
    handle = tower.register_forward_hook(lambda *_: passes.append(1))
    for _ in range(2):
        passes.clear()
        shared[0](**inputs, use_cache=False)
        assert len(passes) == len(inputs["input_ids"]) // 3
    handle.remove()


def test_features_do_not_depend_on_what_else_is_encoded(plain):
    backbone = plain[0].base_model.model.model
    pixels = torch.rand(3, 1, 3, 96, 96)
    among = VisionCache(backbone)(pixels).pooler_output
    alone = VisionCache(backbone)(pixels[1:2]).pooler_output
    assert torch.equal(among[1], alone[0])


def test_features_are_kept_within_the_memory_limit(plain):
    backbone = plain[0].base_model.model.model
    features = backbone.get_image_features(torch.rand(1, 1, 3, 96, 96)).pooler_output[0]
    cache = VisionCache(backbone, limit=features.nbytes * 2)
    pictures = torch.rand(3, 1, 3, 96, 96)
    for i in (0, 1, 2, 2, 0):
        cache(pictures[i : i + 1])
    assert cache.encoded == 4, "the first was forgotten when the third came"
    assert cache._bytes <= cache._limit


def picture(seed: int) -> Image.Image:
    """In one of three shapes."""
    drawn = shapes.examples("simple", "train", 4, 0)[seed].images[0]
    return drawn.resize([(96, 96), (120, 50), (60, 110), (96, 96)][seed])


EXAMPLES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=2), min_size=1, max_size=5)
EDGE = {"height": 28, "width": 28}
PROCESSORS: dict[str, tuple[Any, dict[str, Any]]] = {
    "idefics3": (Idefics3ImageProcessorPil, {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}),
    "smolvlm": (SmolVLMImageProcessorPil, {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}),
    "qwen": (Qwen2VLImageProcessorPil, {"min_pixels": 28 * 28, "max_pixels": 28 * 28 * 16}),
    "internvl": (GotOcr2ImageProcessorPil, {"size": EDGE, "crop_to_patches": True, "max_patches": 4}),
    "gemma3": (Gemma3ImageProcessorPil, {"size": EDGE}),
    "gemma3, pan and scan": (
        Gemma3ImageProcessorPil,
        {
            "size": EDGE,
            "do_pan_and_scan": True,
            "pan_and_scan_min_crop_size": 28,
            "pan_and_scan_max_num_crops": 3,
            "pan_and_scan_min_ratio_to_activate": 1.2,
        },
    ),
    "onevision": (
        LlavaOnevisionImageProcessorPil,
        {"size": EDGE, "image_grid_pinpoints": [[28, 28], [28, 56], [56, 28], [56, 56]]},
    ),
    "llava, left as it is": (LlavaImageProcessorPil, {"size": {"shortest_edge": 28}, "crop_size": EDGE}),
    "llava-next, left as it is": (
        LlavaNextImageProcessorPil,
        {"size": {"shortest_edge": 28}, "crop_size": EDGE, "image_grid_pinpoints": [[28, 56], [56, 56]]},
    ),
}


@pytest.mark.parametrize("kind", PROCESSORS)
@given(chosen=EXAMPLES)
@settings(max_examples=15, deadline=None)
def test_identical_pictures_are_prepared_once_and_come_out_the_same(kind: str, chosen: list[list[int]]) -> None:
    plain, shared = processors(kind)
    images = [[picture(i) for i in example] for example in chosen]
    expected, found = plain(images, return_tensors="pt"), shared(images, return_tensors="pt")
    assert expected.keys() == found.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)


def test_pictures_of_one_shape_and_two_palettes_are_two() -> None:
    plain, shared = processors("idefics3")
    indices = Image.new("P", (64, 64), 1)
    other = indices.copy()
    indices.putpalette([0, 0, 0, 255, 0, 0])
    other.putpalette([0, 0, 0, 0, 0, 255])
    images = [[indices], [other]]
    torch.testing.assert_close(
        shared(images, return_tensors="pt")["pixel_values"], plain(images, return_tensors="pt")["pixel_values"]
    )


@cache
def processors(kind: str) -> tuple[Any, Any]:
    make, options = PROCESSORS[kind]
    made = [make(**options) for _ in range(2)]
    pixels.install(made[1])
    assert isinstance(made[1], pixels._Distinct) != kind.endswith("left as it is")
    return made[0], made[1]


def test_a_wrapped_image_processor_is_saved_as_its_own_kind(tmp_path: Path) -> None:
    plain, shared = processors("idefics3")
    shared([[picture(0)], [picture(0)]])
    plain.save_pretrained(tmp_path / "plain")
    shared.save_pretrained(tmp_path / "shared")
    names = "preprocessor_config.json"
    assert (tmp_path / "shared" / names).read_text() == (tmp_path / "plain" / names).read_text()


@pytest.mark.parametrize("kind", ["smolvlm", "qwen2vl"])
@pytest.mark.parametrize("counts", [(1, 1), (2, 2), (1, 3)])
def test_rows_with_several_pictures_give_the_same_logits(
    folders: dict[str, Path], kind: str, counts: tuple[int, ...]
) -> None:
    base = loading.load_base(ModelConfig(id=str(folders[kind])))
    first, second = shapes.examples("simple", "train", 2, 0)
    made = [
        dataclasses.replace(example, pictures=(first.pictures * 2 + second.pictures)[:count])
        for example, count in zip((first, second), counts, strict=True)
        for _ in range(2)
    ]
    texts = [generation.render(base.processor, example, "cot", None) for example in made]
    inputs = dict(generation.encode(base.processor, made, texts))
    with torch.no_grad():
        found = base.model(**inputs).logits
        del base.model.model.forward, base.model.model.get_image_features
        expected = base.model(**inputs).logits
    seen = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[seen], expected[seen], rtol=1e-4, atol=1e-4)
