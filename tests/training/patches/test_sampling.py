"""How torch and transformers draw a token, which is done here for several processes and a shrinking batch."""

from __future__ import annotations

import inspect

import pytest
import torch
from transformers import GenerationMixin

from trainer.patches.sampling import as_one_process, draw

pytestmark = pytest.mark.training


def test_a_draw_is_the_largest_of_probabilities_over_exponential_noise() -> None:
    probabilities = torch.rand(64, 400, generator=torch.Generator().manual_seed(3)).softmax(-1)
    with torch.random.fork_rng():
        torch.manual_seed(11)
        drawn = torch.multinomial(probabilities, num_samples=1)
        torch.manual_seed(11)
        ours = (probabilities / torch.empty_like(probabilities).exponential_(1)).argmax(-1, keepdim=True)
    assert drawn.tolist() == ours.tolist()


def test_a_row_draws_the_same_when_others_have_left() -> None:
    probabilities = torch.rand(64, 400, generator=torch.Generator().manual_seed(3)).softmax(-1)
    rows = torch.tensor([1, 7, 8, 40, 63])
    with torch.random.fork_rng():
        torch.manual_seed(11)
        drawn = torch.multinomial(probabilities, num_samples=1).squeeze(-1)
        torch.manual_seed(11)
        ours = draw(probabilities[rows], rows, 64)
    assert ours.tolist() == drawn[rows].tolist()


def test_transformers_draws_one_token_a_row_by_it() -> None:
    assert "torch.multinomial(probs, num_samples=1)" in inspect.getsource(GenerationMixin._sample)


def test_a_process_alone_samples_as_torch_does() -> None:
    original = torch.multinomial
    with as_one_process():
        assert torch.multinomial is original
