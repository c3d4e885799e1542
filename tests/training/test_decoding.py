"""Decoding rules: none of a model's own generation defaults reaches training or evaluation, and all are conditions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from store.db.engine import Store
from store.evaluations.records import list_evaluations
from tests.training.conftest import SMALL, Train
from trainer.datasets import shapes
from trainer.evaluate import decoding
from trainer.evaluate.harness import Harness, harness_for
from trainer.models import loading
from trainer.spec import config, rewards
from trainer.spec.config import ModelConfig
from trainer.train import grpo

pytestmark = pytest.mark.training

ONE = 22
"""The token of the digit 1, which every answer has."""
HOSTILE: dict[str, Any] = {
    "max_length": 9,
    "max_new_tokens": 2,
    "min_length": 200,
    "min_new_tokens": 50,
    "early_stopping": True,
    "max_time": 1e-9,
    "stop_strings": ["1"],
    "do_sample": True,
    "num_beams": 3,
    "use_mtp": True,
    "use_cache": False,
    "cache_implementation": "quantized",
    "cache_config": {"backend": "none"},
    "max_cache_len": 1,
    "temperature": 0.1,
    "top_k": 1,
    "top_p": 0.01,
    "min_p": 0.9,
    "top_h": 0.1,
    "typical_p": 0.1,
    "epsilon_cutoff": 0.9,
    "eta_cutoff": 0.9,
    "repetition_penalty": 9.0,
    "encoder_repetition_penalty": 9.0,
    "length_penalty": -9.0,
    "no_repeat_ngram_size": 1,
    "bad_words_ids": [[ONE]],
    "renormalize_logits": True,
    "forced_bos_token_id": ONE,
    "forced_eos_token_id": ONE,
    "remove_invalid_values": True,
    "exponential_decay_length_penalty": (1, 9.0),
    "suppress_tokens": [ONE],
    "begin_suppress_tokens": [ONE],
    "sequence_bias": [[[ONE], -99.0]],
    "token_healing": True,
    "guidance_scale": 3.0,
    "num_return_sequences": 2,
    "watermarking_config": {"greenlist_ratio": 0.1, "bias": 9.0},
    "output_attentions": True,
    "output_hidden_states": True,
    "output_scores": True,
    "output_logits": True,
    "return_dict_in_generate": True,
    "pad_token_id": ONE,
    "bos_token_id": ONE,
    "encoder_no_repeat_ngram_size": 1,
    "decoder_start_token_id": ONE,
    "is_assistant": True,
    "num_assistant_tokens": 1,
    "num_assistant_tokens_schedule": "heuristic",
    "assistant_confidence_threshold": 0.9,
    "prompt_lookup_num_tokens": 3,
    "max_matching_ngram_size": 1,
    "assistant_early_exit": 1,
    "assistant_lookbehind": 1,
    "target_lookbehind": 1,
    "assistant_ensemble_weight": 0.5,
    "speculation_type": "dflash",
    "compile_config": {"mode": "default"},
    "disable_compile": False,
    "continuous_batching_config": {},
    "low_memory": True,
    "penalty_alpha": 0.6,
    "dola_layers": "high",
    "diversity_penalty": 1.0,
    "num_beam_groups": 3,
    "constraints": [1],
    "force_words_ids": [[ONE]],
    "prefill_chunk_size": 1,
    "_from_model_config": True,
    "transformers_version": "4.0.0",
}
"""A value that would change answers, or break them, for every field of a GenerationConfig but the end tokens."""


@pytest.fixture(scope="module")
def harness() -> Harness:
    wanted = config.from_dict({"method": "none", "max_tokens": 10})
    base = loading.load_base(wanted.model)
    return harness_for(wanted, base.model, base.processor, rewards.build(wanted), None)


@pytest.fixture
def defaults(harness: Harness) -> Iterator[GenerationConfig]:
    """The model's own generation defaults, to be changed for a test."""
    kept = harness.model.generation_config
    harness.model.generation_config = GenerationConfig(**kept.to_dict())
    yield harness.model.generation_config
    harness.model.generation_config = kept


def said(harness: Harness) -> tuple[list[str], list[str]]:
    """Greedy and sampled answers to two questions."""
    examples = shapes.examples("simple", "test", 2, 0)
    greedy, sampled = (harness.predict(examples, each) for each in (harness.decoding, harness.sampling))
    return [a[0].text for a in greedy], [a[0].text for a in sampled]


def test_every_field_of_a_generation_config_is_set_or_has_no_effect() -> None:
    """A new version of transformers that knows another option must not bring it in unseen."""
    parts = [decoding.NEUTRAL, decoding.WHOLE_DISTRIBUTION, decoding.WITHOUT_EFFECT, decoding.SET_BY_US]
    known = [name for part in parts for name in part]
    assert sorted(known) == sorted(vars(GenerationConfig()))
    assert sorted([*HOSTILE, "eos_token_id"]) == sorted(known)


@pytest.fixture(scope="module")
def usual(harness: Harness) -> tuple[list[str], list[str]]:
    return said(harness)


@pytest.mark.parametrize("field", sorted(HOSTILE))
def test_no_default_of_a_model_changes_an_answer(
    harness: Harness, defaults: GenerationConfig, usual: tuple[list[str], list[str]], field: str
) -> None:
    conditions = harness.conditions(shapes.examples("simple", "test", 1, 0)[0])
    setattr(defaults, field, HOSTILE[field])
    assert said(harness) == usual
    assert harness.conditions(shapes.examples("simple", "test", 1, 0)[0]) == conditions
    assert getattr(harness.model.generation_config, field) == HOSTILE[field], "it is the model's own again"


def test_all_tokens_that_end_a_turn_do_and_are_conditions(harness: Harness, defaults: GenerationConfig) -> None:
    """Qwen's models declare several; a template may end turns by one that no file declares."""
    example = shapes.examples("simple", "test", 1, 0)[0]
    first = harness.predict([example], harness.decoding)[0][0]
    assert first.ids[-1] != harness.processor.tokenizer.eos_token_id or len(first.ids) > 2
    defaults.eos_token_id = [harness.processor.tokenizer.eos_token_id, first.ids[1]]
    again = harness.predict([example], harness.decoding)[0][0]
    assert (again.ids, again.truncated) == (first.ids[:2], False)
    word = harness.processor.tokenizer.convert_ids_to_tokens(first.ids[1])
    assert harness.conditions(example)["rules"]["stop_tokens"] == sorted(["<end_of_utterance>", word])
    defaults.eos_token_id = None
    assert harness.conditions(example)["rules"]["stop_tokens"] == ["<end_of_utterance>"]


def test_a_turn_ends_where_the_template_ends_it(folders: dict[str, Path]) -> None:
    """As with base models whose tokenizer ends documents, not turns."""
    base = loading.load_base(ModelConfig(id=str(folders["qwen2vl"])))
    tokenizer = base.processor.tokenizer
    tokenizer.eos_token = "<|endoftext|>"
    base.model.generation_config.eos_token_id = tokenizer.eos_token_id
    ends = tokenizer.convert_ids_to_tokens(sorted(decoding.end_ids(base.model, base.processor)))
    assert sorted(ends) == ["<|endoftext|>", "<|im_end|>"]


@pytest.fixture
def recommending(tmp_path: Path) -> Path:
    """The embedded model with recommendations in its files, of today's kind and of the old one."""
    folder = tmp_path / "recommending"
    shutil.copytree(loading.TINY_FOLDER, folder)
    for name, added in (
        ("generation_config.json", {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "do_sample": True}),
        ("config.json", {"bad_words_ids": [[ONE]], "min_length": 90}),
    ):
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | added))
    return folder


def test_recommendations_in_a_models_files_change_nothing(
    harness: Harness, usual: tuple[list[str], list[str]], recommending: Path
) -> None:
    wanted = harness.config.model_copy(update={"model": ModelConfig(id=str(recommending))})
    base = loading.load_base(wanted.model)
    assert base.model.generation_config.repetition_penalty == 1.5
    other = harness_for(wanted, base.model, base.processor, harness.rewards, None)
    assert said(other) == usual
    example = shapes.examples("simple", "test", 1, 0)[0]
    assert other.conditions(example) == harness.conditions(example)


def test_training_samples_by_the_rules_of_evaluation(tmp_path: Path) -> None:
    """The policy's own distribution, whatever the model's files recommend."""
    settings = {"optimization.steps": "1", "optimization.batch_size": "2", "grpo.group_size": "2", "max_tokens": "6"}
    chosen = config.override(config.preset("shapes-grpo"), settings)
    base = loading.load_base(chosen.model)
    examples = shapes.examples("simple", "train", 4, 0)
    trainer = grpo.build(chosen, base, examples, rewards.build(chosen), tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))

    def sampled() -> list[list[int]]:
        torch.manual_seed(7)
        found: list[list[int]] = trainer._generate([row["prompt"] for row in batch])[1]
        return found

    from trl.data_utils import prepare_multimodal_messages

    for row in batch:
        row["prompt"] = prepare_multimodal_messages(row["prompt"], images=row["images"])
    usual = sampled()
    own = base.model.generation_config
    for field, value in HOSTILE.items():
        base.model.generation_config = GenerationConfig(**own.to_dict())
        setattr(base.model.generation_config, field, value)
        assert sampled() == usual, field
    shared = decoding.options(trainer.model, base.processor)
    assert shared.items() <= {**trainer.generation_config.to_dict()}.items()
    assert trainer.eos_token_ids == shared["eos_token_id"]


def test_probe_and_test_of_a_run_tell_all_their_rules(store: Store, train: Train) -> None:
    run = train("shapes-grpo", {"optimization.steps": "1", "data.test_examples": "2"})
    assert run.status == "finished", run.job
    found = {each.kind: each.conditions for each in list_evaluations(store, run.id)}
    assert found.keys() == {"probe", "val", "test"}
    for conditions in found.values():
        assert conditions["rules"]["repetition_penalty"] == 1.0
        assert conditions["rules"].keys() >= {*decoding.NEUTRAL, *decoding.WHOLE_DISTRIBUTION}
    assert found["probe"]["samples"] == {"n": int(SMALL["evaluation.probe_samples"]), "temperature": 1.0}
