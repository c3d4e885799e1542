"""Measure each token of completions under the policy and under the initial policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream

from store.db.rows import TokenRow
from trainer.datasets.example import Example
from trainer.evaluate import generation
from trainer.evaluate.harness import Harness
from trainer.models import chat_template


def measure(
    harness: Harness, examples: Sequence[Example], texts: Sequence[str], completions: Sequence[Sequence[int]]
) -> list[TokenRow]:
    """Measure completions given as stored texts and token ids; the harness's model must be a PEFT model.

    One forward pass has at most as many completions as that of an update.
    """
    config, tokenizer = harness.config, harness.processor.tokenizer
    opened = len(chat_template.read(harness.processor).opening)
    rows = []
    for first in range(0, len(examples), config.micro_batch):
        part = slice(first, first + config.micro_batch)
        prompts = [generation.render(harness.processor, e, config.style, config.instruction) for e in examples[part]]
        encoded = generation.encode(harness.processor, examples[part], prompts)
        inputs, tokens, _ = generation.continued(harness.model, harness.processor, encoded, completions[part])
        with generation.inference(harness.model):
            logps, entropies = generation.token_logps(harness.model, inputs, tokens)
            with harness.as_started():
                base_logps, _ = generation.token_logps(harness.model, inputs, tokens)
        figures = zip(entropies.tolist(), logps.tolist(), base_logps.tolist(), strict=True)
        for text, ids, row in zip(texts[part], completions[part], figures, strict=True):
            entropy, logp, base_logp = (tuple(values[: len(ids)]) for values in row)
            rows.append(TokenRow(ends(tokenizer, ids, text, opened), entropy, logp, base_logp))
    return rows


def ends(tokenizer: Any, ids: Sequence[int], text: str, opened: int = 0) -> tuple[int, ...]:
    """Return the index of the character after each token; a character of several tokens belongs to the last.

    `text` is the output of `generation.decode` for the ids, preceded by `opened` characters that the chat template
    wrote; an end token adds nothing to it.
    """
    stream = DecodeStream(skip_special_tokens=False)
    positions, at = [], opened
    for token in ids:
        at += len(stream.step(tokenizer.backend_tokenizer, token) or "")
        positions.append(min(at, len(text)))
    # Trailing bytes of an incomplete character are never returned.
    return (*positions[:-1], len(text)) if positions else ()


def tokenize(tokenizer: Any, text: str, *, is_whole: bool) -> list[int]:
    """Tokenize a stored completion again, and add the end token if it `is_whole`.

    Text that looks like a special token stays text, because an image token would need an image.
    """
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [*ids, tokenizer.eos_token_id] if is_whole else ids
