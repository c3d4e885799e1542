"""Computes a shared prompt once: the rows of a batch that begin alike share one pass over what they have in common.

GRPO's batches hold every prompt G times, with its picture. The language model's keys and values of the common
beginning are computed for each distinct prompt, then handed to the rows: in the prefill of generation, in the
reference pass and, with gradients, in the training pass. The results are the same numbers up to rounding.
Wraps the forward of one loaded model's backbone; knows nothing of trainers.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPooling

from trainer import vision_cache

WORTH_IT = 0.9
"""Two passes cost something themselves: share only where fewer tokens than this part of all are left to compute."""


@dataclass(frozen=True)
class Plan:
    """`length` tokens are computed for the rows `leaders` only; row i begins like the leader number `leader_of[i]`."""

    length: int
    leaders: list[int]
    leader_of: list[int]


def plan(rows: Sequence[tuple[Any, ...]], length: int, earliest: int) -> Plan:
    """The cheapest way to share beginnings of at least `earliest` tokens among rows of `length` tokens.

    A row is its tokens after anything else that must agree (its picture) as the first item. With d(p) distinct
    beginnings of p tokens the cost is d(p) * p + rows * (length - p) tokens, minimal at one of the common lengths
    of neighbours in sorted order.
    """
    order = sorted(range(len(rows)), key=lambda i: rows[i])
    common = [_common(rows[a], rows[b]) for a, b in pairwise(order)]
    candidates = {p for p in (*common, length) if p >= earliest}

    def cost(p: int) -> int:
        return (1 + sum(c < p for c in common)) * p + len(rows) * (length - p)

    best = min(candidates, key=cost, default=0)
    if best == 0 or cost(best) > WORTH_IT * len(rows) * length:
        return Plan(0, list(range(len(rows))), list(range(len(rows))))
    leaders: list[int] = []
    leader_of = [0] * len(rows)
    for position, row in enumerate(order):
        if position == 0 or common[position - 1] < best:
            leaders.append(row)
        leader_of[row] = len(leaders) - 1
    return Plan(best, leaders, leader_of)


def _common(a: tuple[Any, ...], b: tuple[Any, ...]) -> int:
    """Tokens that two rows have in common at their beginnings; none where their first items differ."""
    if a[0] != b[0]:
        return 0
    return next((i for i, (x, y) in enumerate(zip(a[1:], b[1:], strict=True)) if x != y), len(a) - 1)


class SharedPrefix:
    """Stands in for the forward of a model's backbone."""

    def __init__(self, backbone: Any) -> None:
        self._backbone = backbone
        self._forward = backbone.forward
        functools.update_wrapper(self, self._forward)

    def __call__(self, input_ids: torch.Tensor | None = None, **inputs: Any) -> Any:
        if input_ids is None or not self._may_share(input_ids, inputs):
            return self._forward(input_ids=input_ids, **inputs)
        features = self._features(inputs)
        inputs = {k: v for k, v in inputs.items() if k not in _PIXELS} | {"mm_encoder_outputs": _encoded(features)}
        pictures = self._by_row(input_ids, features)
        if pictures is None:
            return self._forward(input_ids=input_ids, **inputs)
        found = self._plan(input_ids, inputs.get("attention_mask"), pictures)
        if len(found.leaders) == len(input_ids):
            return self._forward(input_ids=input_ids, **inputs)
        return self._shared(found, input_ids, inputs, pictures)

    def _may_share(self, input_ids: torch.Tensor, inputs: dict[str, Any]) -> bool:
        cache = inputs.get("past_key_values")
        checkpointing = torch.is_grad_enabled() and bool(self._backbone.is_activation_checkpointing)
        pictured = inputs.get("pixel_values") is not None or bool(inputs.get("mm_encoder_outputs"))
        return (
            len(input_ids) > 1
            and pictured
            and inputs.get("inputs_embeds") is None
            and (cache is None or (type(cache) is DynamicCache and cache.get_seq_length() == 0))
            and not (checkpointing and self._backbone.training)
        )

    def _features(self, inputs: dict[str, Any]) -> list[torch.Tensor]:
        """Image features in the order of the pictures; one tensor object for identical pictures."""
        if inputs.get("mm_encoder_outputs"):
            return list(inputs["mm_encoder_outputs"]["image"].pooler_output)
        layout = inputs.get("pixel_attention_mask", inputs.get("image_grid_thw"))
        output = self._backbone.get_image_features(inputs["pixel_values"], layout, return_dict=True)
        return list(output.pooler_output)

    def _by_row(self, input_ids: torch.Tensor, features: list[torch.Tensor]) -> list[list[torch.Tensor]] | None:
        """The features of each row's pictures; None where rows have different numbers, so that it cannot be told."""
        per_row, rest = divmod(len(features), len(input_ids))
        rows = [features[i * per_row : (i + 1) * per_row] for i in range(len(input_ids))]
        tokens = (input_ids == self._backbone.config.image_token_id).sum(1).tolist()
        even = not rest and all(sum(map(len, row)) == n for row, n in zip(rows, tokens, strict=True))
        return rows if even else None

    def _plan(self, input_ids: torch.Tensor, mask: torch.Tensor | None, pictures: list[list[torch.Tensor]]) -> Plan:
        tokens = input_ids.tolist()
        seen = mask.tolist() if mask is not None else [[1] * len(tokens[0])] * len(tokens)
        # By first appearance, not by address: the order of rows must not differ from run to run.
        number: dict[int, int] = {}
        rows = [
            (
                tuple(number.setdefault(id(feature), len(number)) for feature in pictures[i]),
                *(token if visible else -1 for token, visible in zip(tokens[i], seen[i], strict=True)),
            )
            for i in range(len(tokens))
        ]
        pictured = (input_ids == self._backbone.config.image_token_id).any(0).nonzero()
        return plan(rows, len(tokens[0]), int(pictured.max()) + 1 if len(pictured) else 0)

    def _shared(
        self, found: Plan, input_ids: torch.Tensor, inputs: dict[str, Any], pictures: list[list[torch.Tensor]]
    ) -> Any:
        rest = {k: v for k, v in inputs.items() if k not in _PICTURE_INPUTS}
        rest["position_ids"] = self._positions(input_ids, inputs)
        wants_cache = rest.pop("use_cache", None) is not False
        cache = rest.pop("past_key_values", None)
        if cache is None:
            cache = DynamicCache(config=self._backbone.config)
        leaders = torch.tensor(found.leaders, device=input_ids.device)
        leader_of = torch.tensor(found.leader_of, device=input_ids.device)
        chosen = [feature for row in found.leaders for feature in pictures[row]]

        beginning = self._forward(
            input_ids=input_ids[leaders, : found.length],
            past_key_values=cache,
            use_cache=True,
            mm_encoder_outputs=_encoded(chosen),
            **{k: _cut(k, v, leaders, slice(0, found.length)) for k, v in rest.items()},
        )
        cache.batch_select_indices(leader_of)
        hidden = beginning.last_hidden_state[leader_of]
        if found.length < input_ids.shape[1]:
            ending = self._forward(
                input_ids=input_ids[:, found.length :],
                past_key_values=cache,
                use_cache=True,
                **{k: _cut(k, v, None, slice(found.length, None)) for k, v in rest.items()},
            )
            hidden = torch.cat([hidden, ending.last_hidden_state], dim=1)
        # The model's own kind of output: its head may look at further fields.
        beginning.last_hidden_state = hidden
        beginning.past_key_values = cache if wants_cache else None
        return beginning

    def _positions(self, input_ids: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor | None:
        """Positions of all rows where the model derives them from pictures (Qwen-VL) or was given them."""
        if inputs.get("position_ids") is not None or not hasattr(self._backbone, "compute_3d_position_ids"):
            return inputs.get("position_ids")
        return self._backbone.compute_3d_position_ids(
            input_ids=input_ids,
            inputs_embeds=None,
            image_grid_thw=inputs.get("image_grid_thw"),
            attention_mask=inputs.get("attention_mask"),
            mm_token_type_ids=inputs.get("mm_token_type_ids"),
        )


_PIXELS = ("pixel_values", "pixel_attention_mask")
_PICTURE_INPUTS = (*_PIXELS, "image_grid_thw", "mm_token_type_ids", "mm_encoder_outputs", "logits_to_keep")


def _encoded(features: list[torch.Tensor]) -> dict[str, BaseModelOutputWithPooling]:
    """Features as a backbone takes them in place of pixels."""
    return {"image": BaseModelOutputWithPooling(pooler_output=features)}


def _cut(name: str, value: Any, rows: torch.Tensor | None, columns: slice) -> Any:
    """The part of a forward argument that belongs to some rows (all where None) and token positions."""
    if not isinstance(value, torch.Tensor):
        return value
    if name == "position_ids":
        # (rows, tokens), or with axes in front: (axes, rows, tokens)
        value = value if rows is None or value.shape[-2] == 1 else value[..., rows, :]
        return value[..., columns]
    if name == "attention_mask":
        value = value if rows is None else value[rows]
        return value[:, : columns.stop]
    return value


def install(model: Any) -> SharedPrefix | None:
    """Shares beginnings in a `…ForConditionalGeneration`; None where its architecture does not allow it."""
    text = model.config.get_text_config()
    full_attention = all(kind == "full_attention" for kind in getattr(text, "layer_types", None) or ())
    if not full_attention or vision_cache.install(model) is None:
        return None
    model.model.forward = SharedPrefix(model.model)
    return model.model.forward
