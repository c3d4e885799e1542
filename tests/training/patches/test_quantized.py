"""What training on a quantized base relies on inside bitsandbytes; `tests/training/test_quantized.py` trains on one."""

from __future__ import annotations

import importlib
import inspect
import logging

import bitsandbytes
import pytest

from trainer.patches import quantized

pytestmark = pytest.mark.training


def test_a_layer_asks_its_switch_before_it_repacks() -> None:
    layer = bitsandbytes.nn.Linear4bit(64, 64)
    assert hasattr(layer, "support_avx512bf16_for_cpu")
    assert "self.support_avx512bf16_for_cpu" in inspect.getsource(bitsandbytes.nn.Linear4bit.forward)
    layer.support_avx512bf16_for_cpu = True
    quantized.keep_packing([layer])
    assert layer.support_avx512bf16_for_cpu is False


def test_the_advice_comes_from_the_logger_that_is_silenced() -> None:
    name = "bitsandbytes.backends.cpu.ops"
    assert importlib.import_module(name).logger.name == name
    quantized.without_kernel_advice()
    assert not logging.getLogger(name).isEnabledFor(logging.WARNING)
