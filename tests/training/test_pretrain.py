"""Pre-training of the embedded model: reproducible in steps, cut into sittings or not."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from trainer.datasets import shapes
from trainer.models import loading
from trainer.spec import prompt
from trainer.spec.config import TINY_BOARD, ModelConfig
from trainer.tiny import corpus, pretrain
from trainer.tiny.muon import orthogonal


def sitting(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> dict[str, torch.Tensor]:
    monkeypatch.setattr(sys, "argv", ["pretrain", "--out", str(folder), "--steps", "3", *options])
    pretrain.main()
    return load_file(folder / "model.safetensors")


def test_two_sittings_make_the_model_that_one_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "BATCH", 4)
    monkeypatch.setattr(pretrain, "BUCKET", 2)
    whole = sitting(monkeypatch, tmp_path / "whole")
    half = sitting(monkeypatch, tmp_path / "halves", "--until", "1")
    assert any(not torch.equal(half[name], whole[name]) for name in whole)
    halves = sitting(monkeypatch, tmp_path / "halves")
    assert all(torch.equal(halves[name], whole[name]) for name in whole)


@pytest.mark.parametrize("shape", [(256, 128), (384, 128), (64, 192)])
def test_an_update_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_echoes_meet_every_token_of_the_reference_style() -> None:
    tokenizer = AutoTokenizer.from_pretrained(loading.location(ModelConfig(id=TINY_BOARD)))

    def tokens(texts: Iterable[str]) -> Counter[int]:
        return Counter(id for text in texts for id in tokenizer(f" {text}", add_special_tokens=False)["input_ids"])

    examples = shapes.examples("simple", "train", 500, 9, corpus.WORLD)
    wanted = tokens(prompt.target(example.reference or "", example.answer, "cot") for example in examples)
    met = tokens(document.assistant for document in islice(corpus.documents(4, True, True), 6000))
    assert min(met[token] for token in wanted) >= 10
    untagged = tokens(document.assistant for document in islice(corpus.documents(4, True), 6000))
    assert min(untagged[token] for token in wanted) == 0
