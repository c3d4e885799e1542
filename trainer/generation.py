"""Answers of a model to examples: greedy or sampled, batched, without moving the training random state.

The harness of every evaluation. Knows nothing of rewards, metrics or databases.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig

from trainer import prompt
from trainer.datasets.example import Example
from trainer.prompt import Style


@dataclass(frozen=True)
class Decoding:
    """How completions are produced; equal values mean comparable rows."""

    max_tokens: int
    temperature: float | None = None
    """None is greedy."""
    seed: int = 0
    forced_prefix: str = ""
    """Text that the completion is made to begin with; part of the stored text."""


@dataclass(frozen=True)
class Answer:
    """One completion: its text with the forced prefix, its token ids (end token included), whether it was cut off."""

    text: str
    ids: tuple[int, ...]
    truncated: bool
    seconds: float


@contextmanager
def inference(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients; mode and random state are as before afterwards."""
    was_training = model.training
    model.eval()
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            yield
    finally:
        model.train(was_training)


def render(processor: Any, example: Example, style: Style, instruction: str | None, forced_prefix: str = "") -> str:
    """The text that the model continues, image place holders not yet expanded."""
    conversation = prompt.messages(example.question, style, images=len(example.images), instruction=instruction)
    if not forced_prefix:
        return processor.apply_chat_template(conversation, add_generation_prompt=True)
    forced = {"role": "assistant", "content": [{"type": "text", "text": forced_prefix}]}
    return processor.apply_chat_template([*conversation, forced], continue_final_message=True)


def encode(processor: Any, examples: Sequence[Example], texts: Sequence[str]) -> Any:
    """Model inputs of a batch (a BatchFeature), padded on the left; texts as `render` returns them."""
    images = [list(example.images) for example in examples]
    return processor(text=list(texts), images=images, padding=True, padding_side="left", return_tensors="pt")


def end_ids(model: Any, processor: Any) -> set[int]:
    """Tokens that end a completion."""
    declared = model.generation_config.eos_token_id
    ids = declared if isinstance(declared, list) else [declared]
    return {i for i in (*ids, processor.tokenizer.eos_token_id) if i is not None}


def placeholder_ids(model: Any) -> list[int]:
    """Tokens that stand for image features: a completion that held one could not be fed back to the model."""
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return sorted({i for i in (getattr(model.config, name, None) for name in names) if i is not None})


def decode(tokenizer: Any, ids: Sequence[int], ends: set[int]) -> str:
    """The text of a completion's token ids, without the end token; special tokens inside it stay visible."""
    kept = list(ids)
    while kept and (kept[-1] in ends or kept[-1] == tokenizer.pad_token_id):
        kept.pop()
    return tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def answers(
    model: Any,
    processor: Any,
    examples: Sequence[Example],
    decoding: Decoding,
    *,
    style: Style,
    instruction: str | None = None,
    batch_size: int = 100,
    copies: int = 1,
) -> Iterator[tuple[int, list[Answer]]]:
    """Yields (index of the first example, `copies` answers for each example of a batch), in order."""
    for first in range(0, len(examples), batch_size):
        batch = examples[first : first + batch_size]
        repeated = [example for example in batch for _ in range(copies)]
        yield first, _answer_batch(model, processor, repeated, decoding, style, instruction, first)


def _answer_batch(
    model: Any,
    processor: Any,
    examples: Sequence[Example],
    decoding: Decoding,
    style: Style,
    instruction: str | None,
    salt: int,
) -> list[Answer]:
    start = time.monotonic()
    texts = [render(processor, example, style, instruction, decoding.forced_prefix) for example in examples]
    inputs = encode(processor, examples, texts).to(model.device)
    ends = end_ids(model, processor)
    sampling = {} if decoding.temperature is None else {"temperature": decoding.temperature, "top_k": 0, "top_p": 1.0}
    config = GenerationConfig(
        max_new_tokens=decoding.max_tokens,
        do_sample=decoding.temperature is not None,
        **sampling,
        suppress_tokens=placeholder_ids(model),
        eos_token_id=sorted(ends),
        pad_token_id=processor.tokenizer.pad_token_id,
    )
    with inference(model):
        torch.manual_seed(decoding.seed * 1_000_003 + salt)
        generated = model.generate(**inputs, generation_config=config)
    new = generated[:, inputs["input_ids"].shape[1] :].tolist()
    seconds = (time.monotonic() - start) / len(examples)
    return [_answer(processor, ids, ends, decoding, seconds) for ids in new]


def _answer(processor: Any, ids: list[int], ends: set[int], decoding: Decoding, seconds: float) -> Answer:
    stop = next((i for i, token in enumerate(ids) if token in ends), None)
    kept = ids if stop is None else ids[: stop + 1]
    return Answer(decoding.forced_prefix + decode(processor.tokenizer, kept, ends), tuple(kept), stop is None, seconds)


@dataclass(frozen=True)
class TokenStatistics:
    """Means over the tokens of given completions."""

    entropy: float
    """Nats per token of the policy's distribution."""
    kl: float | None
    """KL(policy || base) per token, estimator k3 (Schulman 2020, http://joschu.net/blog/kl-approx.html)."""


def token_statistics(
    model: Any,
    processor: Any,
    examples: Sequence[Example],
    completions: Sequence[Sequence[int]],
    *,
    style: Style,
    instruction: str | None,
    against_base: bool,
) -> TokenStatistics:
    """Entropy and KL on completions given as token ids; `against_base` needs a PEFT model (adapter off is the base)."""
    prompts = encode(processor, examples, [render(processor, e, style, instruction) for e in examples])
    width = max(len(ids) for ids in completions)
    pad = processor.tokenizer.pad_token_id
    tokens = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in completions])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in completions])
    inputs = dict(prompts)
    inputs["input_ids"] = torch.cat([prompts["input_ids"], tokens], dim=1)
    inputs["attention_mask"] = torch.cat([prompts["attention_mask"], mask], dim=1)
    inputs = {name: value.to(model.device) for name, value in inputs.items()}
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], torch.zeros_like(tokens).to(model.device)], dim=1)
    tokens, mask = tokens.to(model.device), mask.to(model.device).bool()
    with inference(model):
        logps, entropy = _token_logps(model, inputs, tokens)
        kl = None
        if against_base:
            with model.disable_adapter():
                base_logps, _ = _token_logps(model, inputs, tokens)
            ratio = (base_logps - logps)[mask]
            kl = float((ratio.exp() - ratio - 1).mean())
        return TokenStatistics(float(entropy[mask].mean()), kl)


def _token_logps(
    model: Any, inputs: dict[str, torch.Tensor], tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each completion token and entropy of the distribution that it was drawn from, (B, T)."""
    logits = model(**inputs).logits[:, -tokens.shape[1] - 1 : -1].float()
    logps = logits.log_softmax(-1)
    return logps.gather(-1, tokens.unsqueeze(-1)).squeeze(-1), -(logps.exp() * logps).sum(-1)
