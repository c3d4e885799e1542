"""Generate a model's answers to examples, greedy or sampled, in batches, without changing the random state."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from trainer.datasets.example import Example
from trainer.evaluate.decoding import end_ids, options
from trainer.models import chat_template
from trainer.patches.generation_defaults import without_defaults
from trainer.patches.merging import merged
from trainer.spec import prompt
from trainer.spec.prompt import Style


@dataclass(frozen=True)
class Decoding:
    """How completions are generated; those with equal settings are comparable."""

    max_tokens: int
    temperature: float | None = None
    """None for greedy decoding."""
    seed: int = 0
    forced_prefix: str = ""
    """Text with which every completion is forced to begin; part of the stored text."""


@dataclass(frozen=True)
class GeneratedAnswer:
    """A completion: its text, its token ids (including the end token), and whether it was cut off."""

    text: str
    """Includes the forced prefix, or the opening that the chat template adds."""
    ids: tuple[int, ...]
    truncated: bool
    seconds: float
    forced_prefix: str = ""


@contextmanager
def inference(model: Any) -> Iterator[None]:
    """Switch to evaluation mode without gradients, and restore mode and random state afterwards."""
    was_training = model.training
    model.eval()
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            yield
    finally:
        model.train(was_training)


def render(processor: Any, example: Example, style: Style, instruction: str | None, forced_prefix: str = "") -> str:
    """Return the text that the model continues, with image placeholders that are not expanded yet."""
    conversation = prompt.messages(example.question, style, images=len(example.pictures), instruction=instruction)
    text = chat_template.render(processor, conversation)
    if not forced_prefix:
        return text
    turn = chat_template.read(processor)
    return text.removesuffix(turn.opening) + turn.gap + forced_prefix


def encode(processor: Any, examples: Sequence[Example], texts: Sequence[str]) -> Any:
    """Return a batch's model inputs (a BatchFeature), padded on the left, for texts from `render`."""
    read = {i: list(example.images) for i, example in {id(e): e for e in examples}.items()}
    images = [read[id(example)] for example in examples]
    return processor(text=list(texts), images=images, padding=True, padding_side="left", return_tensors="pt")


def decode(tokenizer: Any, ids: Sequence[int], ends: set[int]) -> str:
    """Decode a completion's token ids without the end token; other special tokens stay visible."""
    trimmed = list(ids)
    while trimmed and (trimmed[-1] in ends or trimmed[-1] == tokenizer.pad_token_id):
        trimmed.pop()
    return tokenizer.decode(trimmed, skip_special_tokens=False, clean_up_tokenization_spaces=False)


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
    prefixes: Sequence[str] | None = None,
) -> Iterator[tuple[int, list[GeneratedAnswer]]]:
    """Yield (index of the first example, `copies` answers per example) for each batch, in order.

    `prefixes` has one forced prefix per example, in place of the decoding's.
    """
    for first in range(0, len(examples), batch_size):
        part = slice(first, first + batch_size)
        part_prefixes = prefixes[part] if prefixes is not None else [decoding.forced_prefix] * len(examples[part])
        tasks = [
            _Task(example, prefix, _seed(decoding.seed, f"{example.id}/{copy}"))
            for example, prefix in zip(examples[part], part_prefixes, strict=True)
            for copy in range(copies)
        ]
        yield first, _answer_batch(model, processor, tasks, decoding, style, instruction)


class _Task(NamedTuple):
    """An answer to generate: its beginning and, if it is sampled, the seed of its noise."""

    example: Example
    prefix: str
    seed: int


class Noise(LogitsProcessor):
    """Turns greedy decoding into sampling: the argmax of logits plus Gumbel noise is a sample from their softmax.

    Each row has noise from its own seed, so that its sample does not depend on the other rows in the batch.
    """

    def __init__(self, temperature: float, seeds: Sequence[int]) -> None:
        self.temperature = temperature
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows; the others have left the batch."""
        self.generators = [self.generators[row] for row in rows]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        width = scores.shape[-1]
        noise = torch.stack([-torch.empty(width).exponential_(generator=each).log() for each in self.generators])
        return scores / self.temperature + noise.to(scores.device)


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")


def _answer_batch(
    model: Any,
    processor: Any,
    tasks: Sequence[_Task],
    decoding: Decoding,
    style: Style,
    instruction: str | None,
) -> list[GeneratedAnswer]:
    start = time.monotonic()
    texts = [render(processor, task.example, style, instruction, task.prefix) for task in tasks]
    inputs = encode(processor, [task.example for task in tasks], texts).to(model.device)
    ends, opening = end_ids(model, processor), chat_template.read(processor).opening
    config = GenerationConfig(max_new_tokens=decoding.max_tokens, do_sample=False, **options(model, processor))
    noise = LogitsProcessorList()
    if decoding.temperature is not None:
        noise.append(Noise(decoding.temperature, [task.seed for task in tasks]))
    with inference(model), without_defaults(model), merged(model):
        generated = model.generate(**inputs, generation_config=config, logits_processor=noise)
    new = generated[:, inputs["input_ids"].shape[1] :].tolist()
    seconds = (time.monotonic() - start) / len(tasks)
    return [_answer(processor, ids, ends, opening, task.prefix, seconds) for task, ids in zip(tasks, new, strict=True)]


def _answer(
    processor: Any, ids: list[int], ends: set[int], opening: str, prefix: str, seconds: float
) -> GeneratedAnswer:
    stop = next((i for i, token in enumerate(ids) if token in ends), None)
    completion_ids = ids if stop is None else ids[: stop + 1]
    text = (prefix or opening) + decode(processor.tokenizer, completion_ids, ends)
    return GeneratedAnswer(text, tuple(completion_ids), stop is None, seconds, prefix)


@dataclass(frozen=True)
class TokenStatistics:
    """Means over the tokens of given completions."""

    entropy: float
    """Entropy of the policy's distribution, in nats per token."""
    kl: float | None
    """KL(policy || reference) per token, estimator k3 (Schulman 2020, http://joschu.net/blog/kl-approx.html)."""


def token_statistics(
    model: Any,
    processor: Any,
    examples: Sequence[Example],
    completions: Sequence[Sequence[int]],
    *,
    style: Style,
    instruction: str | None,
    reference: Callable[[], AbstractContextManager[None]] | None,
    batch_size: int,
) -> TokenStatistics:
    """Return entropy and KL on completions given as token ids; within `reference`, the model is the KL reference.

    Log-probabilities over the vocabulary are in memory for `batch_size` completions at a time.
    """
    entropy = divergence = 0.0
    for first in range(0, len(examples), batch_size):
        part = slice(first, first + batch_size)
        texts = [render(processor, example, style, instruction) for example in examples[part]]
        inputs, tokens, mask = continued(model, processor, encode(processor, examples[part], texts), completions[part])
        with inference(model):
            logps, entropies = token_logps(model, inputs, tokens)
            entropy += float(entropies[mask].sum())
            if reference is not None:
                with reference():
                    reference_logps, _ = token_logps(model, inputs, tokens)
                ratio = (reference_logps - logps)[mask]
                divergence += float((ratio.exp() - ratio - 1).sum())
    n = sum(len(ids) for ids in completions)
    return TokenStatistics(entropy / n, divergence / n if reference is not None else None)


def continued(
    model: Any, processor: Any, prompts: Any, completions: Sequence[Sequence[int]]
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Return model inputs for prompts with completions, the completion tokens, and a mask without padding."""
    width = max(len(ids) for ids in completions)
    pad = processor.tokenizer.pad_token_id
    tokens = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in completions])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in completions])
    inputs = dict(prompts)
    inputs["input_ids"] = torch.cat([prompts["input_ids"], tokens], dim=1)
    inputs["attention_mask"] = torch.cat([prompts["attention_mask"], mask], dim=1)
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], torch.zeros_like(tokens)], dim=1)
    inputs = {name: value.to(model.device) for name, value in inputs.items()}
    return inputs, tokens.to(model.device), mask.to(model.device).bool()


def token_logps(model: Any, inputs: dict[str, torch.Tensor], tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probability of each completion token and the entropy of its distribution, both of shape (B, T)."""
    logits = model(**inputs, logits_to_keep=tokens.shape[1] + 1).logits[:, :-1].float()
    logps = logits.log_softmax(-1)
    return logps.gather(-1, tokens.unsqueeze(-1)).squeeze(-1), -(logps.exp() * logps).sum(-1)
