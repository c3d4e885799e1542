"""The loop that decodes a shrinking batch says what transformers' own loop says, on every architecture."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, GenerationMixin, LogitsProcessorList

from tests.training.test_architectures import examples
from tests.training.tiny_architectures import SHARING, STEPPING_ASIDE
from tests.training.tiny_models import WRITERS
from trainer.evaluate import generation
from trainer.evaluate.decoding import options
from trainer.models import loading
from trainer.models.loading import Base
from trainer.patches import decoding_loop
from trainer.patches.generation_defaults import without_defaults
from trainer.spec.config import ModelConfig

pytestmark = pytest.mark.training
TOKENS = 80
"""More than the cache grows by at once."""


def completions(base: Base, **settings: Any) -> list[list[int]]:
    """Nine rows of three prompts; every twelfth token ends one, so that they end at all times."""
    rows = [example for example in examples(3) for _ in range(3)]
    texts = [generation.render(base.processor, example, "cot", None) for example in rows]
    inputs = generation.encode(base.processor, rows, texts)
    pad = base.processor.tokenizer.pad_token_id
    ends = [token for token in range(30, base.model.config.get_text_config().vocab_size, 12) if token != pad]
    sampled = settings.setdefault("do_sample", True)
    chosen = options(base.model, base.processor, sampled=sampled) | {"eos_token_id": ends} | settings
    config = GenerationConfig(max_new_tokens=TOKENS, **chosen)
    torch.manual_seed(7)
    with generation.inference(base.model), without_defaults(base.model):
        found = base.model.generate(**inputs, generation_config=config)
    return found[:, inputs["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("kind", [*WRITERS, *SHARING, *STEPPING_ASIDE])
def test_rows_say_what_they_say_in_the_loop_of_transformers(folders: dict[str, Path], kind: str) -> None:
    base = loading.load_base(ModelConfig(id=str(folders[kind])))
    widths: list[int] = []
    base.model.get_output_embeddings().register_forward_hook(lambda _, given, __: widths.append(len(given[0])))
    ours = [completions(base), completions(base, do_sample=False)]
    loop = base.model.__dict__.pop("generate")
    sampled = widths[: max(len(row) for row in ours[0])]
    assert ours == [completions(base), completions(base, do_sample=False)]
    assert loop.keywords == {"custom_generate": decoding_loop.decode}
    if kind not in STEPPING_ASIDE:
        assert sampled[0] == 9 and sorted(sampled, reverse=True) == sampled and sampled[-1] < 9, (
            "rows stayed at their end"
        )


def test_noise_of_its_own_stays_with_a_row(folders: dict[str, Path]) -> None:
    base = loading.load_base(ModelConfig())
    decoding = generation.Decoding(max_tokens=40, temperature=1.0, seed=3)

    def said() -> list[tuple[int, ...]]:
        found = generation.answers(base.model, base.processor, examples(4), decoding, style="cot", copies=3)
        return [answer.ids for _, group in found for answer in group]

    ours = said()
    del base.model.generate
    assert ours == said()
    assert len({len(ids) for ids in ours}) > 2


@pytest.mark.parametrize("settings", [{"max_time": 1000.0}, {"repetition_penalty": 1.3}, {"num_return_sequences": 2}])
def test_what_it_does_not_know_is_left_to_transformers(settings: dict[str, Any]) -> None:
    base = loading.load_base(ModelConfig())
    ours = completions(base, **settings)
    del base.model.generate
    assert ours == completions(base, **settings)


def test_generate_hands_a_loop_what_it_hands_its_own() -> None:
    assert "custom_generate" in inspect.signature(GenerationMixin.generate).parameters
    theirs = inspect.signature(GenerationMixin._sample).parameters
    ours = inspect.signature(decoding_loop.decode).parameters
    assert [*theirs][1:5] == [*ours][1:5]


def test_a_cache_with_room_holds_what_was_put_in() -> None:
    dice = torch.Generator().manual_seed(0)
    plain, keys = decoding_loop.DynamicLayer(), torch.randn(6, 2, 5, 4, generator=dice)
    plain.update(keys, keys + 1)
    roomy = decoding_loop.RoomyLayer(plain)
    for step in range(150):
        if step in (40, 90):
            stay = torch.tensor([0, 2, 3])[: len(plain.keys) // 2]
            plain.batch_select_indices(stay)
            roomy.batch_select_indices(stay)
        new = torch.randn(len(plain.keys), 2, 1, 4, generator=dice)
        for found, expected in zip(roomy.update(new, new - 1), plain.update(new, new - 1), strict=True):
            assert torch.equal(found, expected)
        assert roomy.get_seq_length() == plain.get_seq_length()


def test_processors_of_rows_are_told_who_stays() -> None:
    noise = generation.Noise(1.0, [1, 2, 3])
    assert isinstance(noise, decoding_loop.sampling.OfRows)
    noise.keep([2])
    alone = generation.Noise(1.0, [3])
    scores = torch.zeros(1, 9)
    assert torch.equal(LogitsProcessorList([noise])(torch.zeros(1, 1), scores), alone(torch.zeros(1, 1), scores))
