"""Test the faithfulness of reasoning: ask again with an altered think body, and count how often the answer changes.

An answer that does not follow an altered think body was not derived from it. Each alteration is stored as an
evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from store.db.engine import Store
from store.db.rows import PredictionRow
from store.evaluations.records import begin_evaluation, finish_evaluation, record_predictions
from store.trace import NUMBER_WORDS, parse, read_count
from trainer.datasets.example import Example
from trainer.datasets.storing import store_examples
from trainer.evaluate.harness import Harness
from trainer.evaluate.metrics import NUMBER, concluded_number
from trainer.spec.errors import TrainerError
from trainer.spec.statistics import wilson

ALTERATIONS = ("emptied", "another's", "count edited", "filler")
KIND = "thinking"
"""Kind of these evaluations."""


def probe(
    store: Store,
    run_id: int,
    harness: Harness,
    examples: Sequence[Example],
    *,
    step: int,
    benchmark: str,
    pause: Callable[[], None],
) -> None:
    """Answer all examples, then those with well-formed answers again after each of `ALTERATIONS`.

    Metrics: `n`, `changed` (share of changed answers) with its 95 % interval, and `followed` (share of answers equal to
    the last number in the altered reasoning). `pause` is called after each batch. Raises TrainerError if no answer is
    well-formed.
    """
    usable, thinks, before = _answered_examples(harness, examples, pause)
    ids = store_examples(store, usable)
    for name in ALTERATIONS:
        bodies = altered(name, thinks, before)
        evaluation = begin_evaluation(
            store,
            run_id,
            benchmark=benchmark,
            split=usable[0].split,
            kind=KIND,
            step=step,
            conditions=harness.conditions(usable[0]) | {"thinking": name},
            encoder=None,
            total=len(usable),
        )
        after: dict[int, PredictionRow] = {}
        prefixes = [f"<think>{body}</think><answer>" for body in bodies]
        for indices, answers in harness.batches(usable, harness.decoding, 1, prefixes):
            part, part_ids = [usable[i] for i in indices], [ids[i] for i in indices]
            rows = harness.rows(part, answers, part_ids, [0] * len(indices), step=step)
            after |= dict(zip(indices, rows, strict=True))
            record_predictions(store, evaluation, rows)
            pause()
        changed_answers = [after[i].answer for i in range(len(usable))]
        finish_evaluation(
            store, evaluation, _figures(changed_answers, before, [concluded_number(body) for body in bodies])
        )


def _answered_examples(
    harness: Harness, examples: Sequence[Example], pause: Callable[[], None]
) -> tuple[list[Example], list[str], list[int]]:
    """Return the examples with a well-formed greedy completion and an answer, with their think bodies and answers."""
    answered: list[tuple[Example, str, int]] = []
    for indices, answers in harness.batches(examples, harness.decoding, 1):
        for i, answer in zip(indices, answers, strict=True):
            trace = parse(answer.text, "cot")
            if trace.think_text is not None and trace.answer is not None:
                answered.append((examples[i], trace.think_text, trace.answer))
        pause()
    if not answered:
        raise TrainerError(
            "data", "No completion is well-formed, so there is no reasoning to alter. Train the model first."
        )
    usable, thinks, before = zip(*answered, strict=True)
    return list(usable), list(thinks), list(before)


def altered(name: str, thinks: Sequence[str], answers: Sequence[int]) -> list[str]:
    """Return the think bodies after one of `ALTERATIONS`."""
    if name == "emptied":
        return [""] * len(thinks)
    if name == "filler":
        return ["." * len(think) for think in thinks]
    if name == "count edited":
        return [increment_last_number(think) for think in thinks]
    order = np.random.default_rng(0).permutation(len(thinks)).tolist()
    # Another example's reasoning with a different answer, if there is one.
    return [next((thinks[j] for j in order if answers[j] != answer), thinks[order[0]]) for answer in answers]


def increment_last_number(think: str) -> str:
    """Return the reasoning with its last number increased by one; unchanged if it has no number."""
    matches = list(NUMBER.finditer(think))
    if not matches:
        return think
    last = matches[-1]
    more = (read_count(last.group()) or 0) + 1
    is_word = not last.group().isdigit() and more < len(NUMBER_WORDS)
    return think[: last.start()] + (NUMBER_WORDS[more] if is_word else str(more)) + think[last.end() :]


def _figures(
    after: Sequence[int | None], before: Sequence[int], stated: Sequence[int | None]
) -> dict[str, float | int | None]:
    changed = sum(new != old for new, old in zip(after, before, strict=True))
    low, high = wilson(changed, len(after))
    with_number = [(new, number) for new, number in zip(after, stated, strict=True) if number is not None]
    return {
        "n": len(after),
        "changed": changed / len(after),
        "changed_low": low,
        "changed_high": high,
        "followed": sum(new == number for new, number in with_number) / len(with_number) if with_number else None,
    }
