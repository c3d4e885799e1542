"""Decode a batch that shrinks as its rows end, with a cache that is not copied for every token.

transformers decodes every row until the longest has ended, and its `DynamicCache` concatenates all keys and values
again at every token. Here, rows that have ended leave the batch with their part of the cache, mask and positions, and
the cache has room for the next tokens. Noise is drawn for the whole batch (`trainer.patches.sampling`), so that a row's
text does not depend on when others end. `generate` takes the loop as its `custom_generate`.

Read in transformers 5.23.0. Contract: tests/training/patches/test_decoding_loop.py.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from transformers import (
    EosTokenCriteria,
    GenerationConfig,
    LogitsProcessorList,
    MaxLengthCriteria,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
)
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from trainer.patches import sampling

SHRINK_AT = 7 / 8
"""Rows leave when at most this fraction of the batch is running, because leaving copies the cache of the others."""
OF_ANY_ROWS = (SuppressTokensLogitsProcessor, TemperatureLogitsWarper, sampling.OfRows)
"""Logits processors that depend only on scores, or can be told which rows stay."""
ROOM = 64
"""Number of tokens by which the cache grows."""


def install(model: Any) -> None:
    """Make `model.generate` use this decoding loop."""
    model.generate = functools.partial(model.generate, custom_generate=decode)


def decode(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: list[Any],
    generation_config: GenerationConfig,
    **inputs: Any,
) -> Any:
    """Return prompts with their completions, as `GenerationMixin._sample` does; `inputs` are those of its forward."""
    is_plain = _is_plain(model, stopping_criteria, generation_config, inputs)
    if not is_plain or not all(isinstance(each, OF_ANY_ROWS) for each in logits_processor):
        return model._sample(input_ids, logits_processor, stopping_criteria, generation_config, **inputs)
    count, room = len(input_ids), generation_config.max_length - input_ids.shape[1]
    ends, pad = generation_config._eos_token_tensor.to(input_ids.device), generation_config._pad_token_tensor
    completions = input_ids.new_full((count, room), int(pad))
    rows = torch.arange(count, device=input_ids.device)
    running = torch.ones_like(rows, dtype=torch.bool)

    outputs = model._prefill(input_ids, generation_config, inputs)
    _give_room(outputs.past_key_values)
    for place in range(room):
        scores = outputs.logits[:, -1].to(copy=True, dtype=torch.float32, device=input_ids.device)
        scores = logits_processor(input_ids[rows], scores)
        chosen = sampling.draw(scores.softmax(-1), rows, count) if generation_config.do_sample else scores.argmax(-1)
        chosen = chosen.where(running, pad)
        completions[rows, place] = chosen
        running &= ~torch.isin(chosen, ends)
        left = int(running.sum())
        if left == 0 or place + 1 == room:
            break
        inputs = model._update_model_kwargs_for_generation(outputs, inputs)
        if left <= SHRINK_AT * len(rows):
            stay = running.nonzero().squeeze(-1)
            rows, running, chosen = rows[stay], running[stay], chosen[stay]
            inputs = {name: _of_rows(name, value, stay) for name, value in inputs.items()}
            for processor in logits_processor:
                if isinstance(processor, sampling.OfRows):
                    processor.keep(stay.tolist())
        step = model.prepare_inputs_for_generation(chosen[:, None], next_sequence_length=1, **inputs)
        outputs = model(**step, return_dict=True)
    return torch.cat([input_ids, completions[:, : place + 1]], dim=1)


def _is_plain(model: Any, stopping_criteria: list[Any], config: GenerationConfig, inputs: dict[str, Any]) -> bool:
    """Return whether rows end only by end tokens or length, and the cache allows rows to leave."""
    cache: Any = inputs.get("past_key_values")
    return (
        all(isinstance(each, EosTokenCriteria | MaxLengthCriteria) for each in stopping_criteria)
        and any(isinstance(each, EosTokenCriteria) for each in stopping_criteria)
        and not config.return_dict_in_generate
        and not model.config.is_encoder_decoder
        and bool(inputs.get("use_cache"))
        and type(cache) is DynamicCache
        and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)
    )


def _of_rows(name: str, value: Any, stay: torch.Tensor) -> Any:
    """Return the part of a forward argument that belongs to the rows that stay."""
    if name == "past_key_values":
        value.batch_select_indices(stay)
    elif name == "position_ids":
        # (rows, tokens), or with axes in front (Qwen-VL): (axes, rows, tokens)
        return value[..., stay, :]
    elif name in ("attention_mask", "token_type_ids", "mm_token_type_ids") and value is not None:
        return value[stay]
    return value


def _give_room(cache: DynamicCache) -> None:
    """Let the layers of a filled cache grow without being copied; sliding-window layers are not changed."""
    cache.layers = [RoomyLayer(each) if type(each) is DynamicLayer else each for each in cache.layers]


class RoomyLayer(DynamicLayer):
    """A layer whose keys and values are the used part of tensors with room for further tokens."""

    def __init__(self, filled: DynamicLayer) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = filled.dtype, filled.device, filled.is_initialized
        self.keys, self.values = filled.keys, filled.values
        self._roomy = (filled.keys, filled.values)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the states of new tokens and return those of all tokens."""
        old = self.get_seq_length()
        new = old + key_states.shape[-2]
        if new > self._roomy[0].shape[-2]:
            self._roomy = (_roomy(self.keys, new + ROOM), _roomy(self.values, new + ROOM))
        keys, values = self._roomy
        keys[..., old:new, :] = key_states
        values[..., old:new, :] = value_states
        self.keys, self.values = keys[..., :new, :], values[..., :new, :]
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep only these rows."""
        length = self.get_seq_length()
        self._roomy = (_roomy(self.keys, length + ROOM, indices), _roomy(self.values, length + ROOM, indices))
        self.keys, self.values = (each[..., :length, :] for each in self._roomy)


def _roomy(states: torch.Tensor, length: int, rows: torch.Tensor | None = None) -> torch.Tensor:
    """Return a copy of the states (of some rows) with room for `length` tokens."""
    shape = list(states.shape)
    shape[0], shape[-2] = len(states) if rows is None else len(rows), length
    larger = states.new_empty(shape)
    used = larger[..., : states.shape[-2], :]
    used.copy_(states) if rows is None else torch.index_select(states, 0, rows, out=used)
    return larger
