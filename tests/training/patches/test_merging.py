"""A merged adapter computes the same numbers up to rounding, and leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import get_peft_model
from peft.tuners.lora import LoraLayer

from tests.training.test_architectures import adapted, batch
from trainer.models import loading
from trainer.models.loading import Base
from trainer.patches.merging import merged
from trainer.spec.config import LoraConfig, ModelConfig

pytestmark = pytest.mark.training


def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**inputs).logits
    return found


@pytest.fixture
def base() -> Base:
    return loading.load_base(ModelConfig())


def test_it_computes_the_same_and_the_weights_are_the_same_tensors_afterwards(base: Base) -> None:
    model = adapted(base)
    inputs, _, _ = batch(base)
    before = {name: (value.data_ptr(), value.clone()) for name, value in model.state_dict().items()}
    expected = logits(model, inputs)
    with merged(model):
        assert all(layer.merged for layer in model.modules() if isinstance(layer, LoraLayer))
        found = logits(model, inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.equal(found, expected), "nothing was merged"
    for name, value in model.state_dict().items():
        assert value.data_ptr() == before[name][0] and torch.equal(value, before[name][1]), name
    assert not any(layer.merged for layer in model.modules() if isinstance(layer, LoraLayer))
    assert torch.equal(logits(model, inputs), expected)


def test_a_failure_meanwhile_leaves_no_trace(base: Base) -> None:
    model = adapted(base)
    inputs, _, _ = batch(base)
    expected = logits(model, inputs)
    with pytest.raises(KeyboardInterrupt), merged(model):
        raise KeyboardInterrupt
    assert torch.equal(logits(model, inputs), expected)


def test_the_base_is_still_there_while_adapters_are_off(base: Base) -> None:
    inputs, _, _ = batch(base)
    expected = logits(base.model, inputs)
    model = adapted(base)
    with merged(model):
        pass
    with model.disable_adapter():
        assert torch.equal(logits(model, inputs), expected)


@pytest.mark.parametrize("settings", [{"dtype": "bfloat16"}, {"quantization": "nf4"}])
def test_coarse_weights_are_left_alone(settings: dict[str, Any]) -> None:
    base = loading.load_base(ModelConfig(**settings))
    model = get_peft_model(base.model, loading.adapter(LoraConfig(rank=4)))
    with merged(model):
        assert not any(layer.merged for layer in model.modules() if isinstance(layer, LoraLayer))


def test_a_base_alone_has_nothing_to_merge(base: Base) -> None:
    before = {name: value.data_ptr() for name, value in base.model.state_dict().items()}
    with merged(base.model):
        assert {name: value.data_ptr() for name, value in base.model.state_dict().items()} == before
