"""Rejection sampling: use the base's own correct completions as references to imitate.

A control that separates learning from reward from the imitation of a foreign style.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from store.trace import parse
from trainer.datasets.example import Example
from trainer.evaluate.harness import Harness
from trainer.spec.errors import TrainerError

SAMPLES = 4
"""Answers sampled for each example."""


def references(harness: Harness, examples: Sequence[Example], pause: Callable[[], None]) -> list[Example]:
    """Return the examples with their own right, well-formed reasoning as reference, one for each distinct text.

    `pause` is called after each batch and may raise. Raises TrainerError if no answer is right and well-formed.
    """
    found: dict[tuple[str, str], Example] = {}
    for indices, answers in harness.batches(examples, harness.sampling, SAMPLES):
        for place, answer in enumerate(answers):
            example = examples[indices[place // SAMPLES]]
            trace = parse(answer.text, "cot")
            if trace.think_text is not None and trace.answer == example.answer:
                found[example.id, trace.think_text] = replace(example, reference=trace.think_text)
        pause()
    if not found:
        raise TrainerError(
            "data",
            f"None of {SAMPLES * len(examples)} samples was right and well-formed: the model has nothing of its own to "
            "imitate. Choose more data.train_examples, or imitate the references.",
        )
    return list(found.values())
