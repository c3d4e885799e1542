"""What the base says rightly by itself, as references to imitate.

The control that tells learning from reward from imitation of a foreign style. Knows nothing of databases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from store.trace import parse
from trainer.evaluate.harness import Harness
from trainer.examples.example import Example
from trainer.spec.errors import TrainerError

SAMPLES = 4
"""Answers that each example is sampled for."""


def references(harness: Harness, examples: Sequence[Example], pause: Callable[[], None]) -> list[Example]:
    """Return the examples with their own right, well-formed thinking as reference, once for each different one.

    `pause` is called after each batch and may raise. Raises TrainerError where the model never is right in form.
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
