"""Compute a shared prompt once: rows of a batch with the same beginning share one pass over it.

GRPO's batches have every prompt G times, with its image. The language model's keys and values of the common beginning
are computed once per distinct prompt and then given to its rows: in the prefill of generation, in the reference pass
and, with gradients, in the training pass. The results are the same up to rounding. The module wraps the forward of one
loaded model's backbone.

Read in transformers 5.23.0. Contract: tests/training/test_architectures.py.
"""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from trainer.patches import vision_cache
from trainer.patches.vision_cache import Features, VisionCache

PROVEN = (
    *("gemma3", "idefics3", "internvl", "llava_onevision"),
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "smolvlm"),
)
"""Architectures (`model_type`) for which `tests/training/test_sharing.py` proves equal results with sharing."""
PROVEN_TEXT = ("gemma3_text", "llama", "qwen2", "qwen2_vl_text", "qwen2_5_vl_text", "qwen3", "qwen3_vl_text")
"""Their language models, which only have attention over all previous tokens or a window of them."""
WORTH_IT = 0.9
"""Share only if less than this fraction of all tokens remains to be computed, because two passes have a cost."""


@dataclass(frozen=True)
class Plan:
    """The first `length` tokens are computed only for the rows `leaders`; row i shares those of `leader_of[i]`."""

    length: int
    leaders: list[int]
    leader_of: list[int]


def plan(rows: Sequence[tuple[Any, ...]], length: int, earliest: int) -> Plan:
    """Return the cheapest way to share beginnings of at least `earliest` tokens among rows of `length` tokens.

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
    """Return the number of tokens that two rows share at the beginning; none if their first items differ."""
    if a[0] != b[0]:
        return 0
    return next((i for i, (x, y) in enumerate(zip(a[1:], b[1:], strict=True)) if x != y), len(a) - 1)


class SharedPrefix:
    """Replaces the forward of a model's backbone."""

    def __init__(self, backbone: Any, cache: VisionCache) -> None:
        self._backbone = backbone
        self._cache = cache
        self._forward = backbone.forward
        functools.update_wrapper(self, self._forward)

    def __call__(self, input_ids: torch.Tensor | None = None, **inputs: Any) -> Any:
        if input_ids is None or not self._may_share(input_ids, inputs):
            return self._forward(input_ids=input_ids, **inputs)
        encoded = self._encoded(inputs)
        inputs = {k: v for k, v in inputs.items() if k != "pixel_values"} | {"mm_encoder_outputs": {"image": encoded}}
        pictures = self._by_row(input_ids, encoded)
        if pictures is None:
            return self._forward(input_ids=input_ids, **inputs)
        shared_plan = self._plan(input_ids, inputs, pictures)
        if len(shared_plan.leaders) == len(input_ids):
            return self._forward(input_ids=input_ids, **inputs)
        return self._shared(shared_plan, input_ids, inputs, pictures)

    def _may_share(self, input_ids: torch.Tensor, inputs: dict[str, Any]) -> bool:
        cache, encoded = inputs.get("past_key_values"), inputs.get("mm_encoder_outputs") or {}
        checkpointing = torch.is_grad_enabled() and bool(self._backbone.is_activation_checkpointing)
        tensors = {name for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        return (
            len(input_ids) > 1
            and (inputs.get("pixel_values") is not None or set(encoded) == {"image"})
            and tensors <= {*_OF_ROWS, *_OF_PICTURES, *self._cache.parameters}
            and (cache is None or (type(cache) is DynamicCache and cache.get_seq_length() == 0))
            and not (checkpointing and self._backbone.training)
        )

    def _encoded(self, inputs: dict[str, Any]) -> Any:
        if inputs.get("mm_encoder_outputs"):
            return inputs["mm_encoder_outputs"]["image"]
        arguments = {name: inputs[name] for name in self._cache.parameters if name in inputs}
        return self._cache(**arguments, return_dict=True)

    def _by_row(self, input_ids: torch.Tensor, encoded: Any) -> list[list[Features]] | None:
        """Return the features of each row's pictures, by its image tokens; None if they cannot be assigned."""
        if getattr(encoded, "pictures", None) is None:
            return None
        left = deque(picture for picture in encoded.pictures if len(picture[0]))
        rows: list[list[Features]] = []
        for tokens in (input_ids == self._backbone.config.image_token_id).sum(1).tolist():
            row: list[Features] = []
            while tokens > 0 and left:
                row.append(left.popleft())
                tokens -= len(row[-1][0])
            if tokens:
                return None
            rows.append(row)
        return None if left else rows

    def _plan(self, input_ids: torch.Tensor, inputs: dict[str, Any], pictures: list[list[Features]]) -> Plan:
        tokens = input_ids.tolist()
        mask = inputs.get("attention_mask")
        visible_tokens = mask.tolist() if mask is not None else [[1] * len(tokens[0])] * len(tokens)
        # By first appearance, not by address, so that the order of rows is the same in every run.
        number: dict[int, int] = {}
        rows = [
            (
                tuple(number.setdefault(id(picture), len(number)) for picture in pictures[i]),
                *(token if visible else -1 for token, visible in zip(tokens[i], visible_tokens[i], strict=True)),
            )
            for i in range(len(tokens))
        ]
        pictured = (input_ids == self._backbone.config.image_token_id).any(0).nonzero()
        return plan(rows, len(tokens[0]), int(pictured.max()) + 1 if len(pictured) else 0)

    def _shared(
        self, shared_plan: Plan, input_ids: torch.Tensor, inputs: dict[str, Any], pictures: list[list[Features]]
    ) -> Any:
        rest = {k: v for k, v in inputs.items() if k not in (*_OF_PICTURES, *self._cache.parameters)}
        rest["position_ids"] = self._positions(input_ids, inputs)
        wants_cache = rest.pop("use_cache", None) is not False
        cache = rest.pop("past_key_values", None)
        if cache is None:
            cache = DynamicCache(config=self._backbone.config)
        leaders = torch.tensor(shared_plan.leaders, device=input_ids.device)
        leader_of = torch.tensor(shared_plan.leader_of, device=input_ids.device)

        beginning = self._forward(
            input_ids=input_ids[leaders, : shared_plan.length],
            past_key_values=cache,
            use_cache=True,
            mm_encoder_outputs={"image": self._cache.joined([p for row in shared_plan.leaders for p in pictures[row]])},
            **{k: _cut(k, v, leaders, slice(0, shared_plan.length)) for k, v in rest.items()},
        )
        cache.batch_select_indices(leader_of)
        hidden = beginning.last_hidden_state[leader_of]
        if shared_plan.length < input_ids.shape[1]:
            # The rest has no images, whose tokens Gemma 3 would let attend to each other.
            rest.pop("token_type_ids", None)
            ending = self._forward(
                input_ids=input_ids[:, shared_plan.length :],
                past_key_values=cache,
                use_cache=True,
                **{k: _cut(k, v, None, slice(shared_plan.length, None)) for k, v in rest.items()},
            )
            hidden = torch.cat([hidden, ending.last_hidden_state], dim=1)
        # Return the model's own type of output, because its head may use other fields.
        beginning.last_hidden_state = hidden
        beginning.past_key_values = cache if wants_cache else None
        return beginning

    def _positions(self, input_ids: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor | None:
        """Return the positions of all rows if they were given, or if the model derives them from images (Qwen-VL)."""
        if inputs.get("position_ids") is not None or not hasattr(self._backbone, "compute_3d_position_ids"):
            return inputs.get("position_ids")
        compute = self._backbone.compute_3d_position_ids
        arguments = {name: inputs.get(name) for name in inspect.signature(compute).parameters}
        return compute(**arguments | {"input_ids": input_ids, "inputs_embeds": None, "past_key_values": None})


_OF_ROWS = ("attention_mask", "position_ids", "token_type_ids")
"""Forward arguments that are cut along rows and tokens; any other argument prevents sharing."""
_OF_PICTURES = ("mm_token_type_ids", "mm_encoder_outputs", "logits_to_keep")
"""Forward arguments that are unused once positions and features are known."""


def _cut(name: str, value: Any, rows: torch.Tensor | None, columns: slice) -> Any:
    """Return the part of a forward argument for some rows (None for all) and token positions."""
    if not isinstance(value, torch.Tensor):
        return value
    if name == "position_ids":
        # (rows, tokens), or with axes in front: (axes, rows, tokens)
        value = value if rows is None or value.shape[-2] == 1 else value[..., rows, :]
        return value[..., columns]
    value = value if rows is None else value[rows]
    # Including all previous tokens.
    return value[:, : columns.stop] if name == "attention_mask" else value[:, columns]


def install(model: Any) -> SharedPrefix | None:
    """Share prefixes and images in a `…ForConditionalGeneration`. Return None if that is not supported (`refusal`)."""
    if refusal(model.config) is not None:
        return None
    model.model.forward = SharedPrefix(model.model, vision_cache.install(model))
    return model.model.forward


def refusal(described: Any) -> str | None:
    """Return why a model of this configuration computes prompts separately, as a clause; None if it shares.

    `described` is transformers' configuration. Sharing is used only for models that the tests prove equal to the
    model's own forward.
    """
    text = described.get_text_config()
    if described.model_type not in PROVEN:
        return f"{described.model_type} is not a supported architecture ({', '.join(PROVEN)})"
    kinds = set(getattr(text, "layer_types", None) or ())
    if text.model_type not in PROVEN_TEXT or not kinds <= {"full_attention", "sliding_attention"}:
        return f"its language model ({text.model_type}) is not a supported one ({', '.join(PROVEN_TEXT)})"
    return None
