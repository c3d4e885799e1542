"""Rejection sampling: use the base's own correct completions as references to imitate.

This is a control that separates learning from reward from imitating another style.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from store.trace import parse
from trainer.datasets.example import Example
from trainer.evaluate.harness import Harness
from trainer.spec.errors import TrainerError

SAMPLES = 4
"""Number of answers sampled per example."""


def references(harness: Harness, examples: Sequence[Example], pause: Callable[[], None]) -> list[Example]:
    """Return examples with the model's own right, well-formed reasoning as reference, one per distinct text.

    `pause` is called after each batch and may raise. Raises TrainerError if no answer is right and well-formed.
    """
    sampled: dict[tuple[str, str], Example] = {}
    for indices, answers in harness.batches(examples, harness.sampling, SAMPLES):
        for place, answer in enumerate(answers):
            example = examples[indices[place // SAMPLES]]
            trace = parse(answer.text, "cot")
            if trace.think_text is not None and trace.answer == example.answer:
                sampled[example.id, trace.think_text] = replace(example, reference=trace.think_text)
        pause()
    if not sampled:
        raise TrainerError(
            "data",
            f"None of {SAMPLES * len(examples)} samples was right and well-formed, so there is nothing to imitate. "
            "Raise data.train_examples, or set imitate to references.",
        )
    return list(sampled.values())
