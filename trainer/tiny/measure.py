"""Measure the embedded base model on held-out examples: what it knows, and what it says unasked.

    python -m trainer.tiny.measure [--model FOLDER] [--examples 1000] [--difficulty simple]

Answers are read leniently (the last integer in the text), because the base rarely closes its tags."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from store import trace
from trainer.datasets import shapes
from trainer.datasets.example import Example
from trainer.evaluate import generation, metrics
from trainer.evaluate.generation import Answer, Decoding
from trainer.models import loading
from trainer.spec import statistics
from trainer.spec.config import ModelConfig

TOKENS = 112


def answer(base: Any, examples: Sequence[Example], decoding: Decoding) -> list[Answer]:
    batches = generation.answers(base.model, base.processor, examples, decoding, style="cot", batch_size=250)
    return [a for _, batch in batches for a in batch]


def right(answers: Sequence[Answer], examples: Sequence[Example]) -> list[bool]:
    return [metrics.lenient_answer(a.text) == e.answer for a, e in zip(answers, examples, strict=True)]


def share(flags: Sequence[bool]) -> str:
    low, high = statistics.wilson(sum(flags), len(flags))
    return f"{sum(flags) / len(flags):.3f} (95 % {low:.3f}-{high:.3f}, n {len(flags)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--difficulty", choices=shapes.DIFFICULTIES, default="simple")
    args = parser.parse_args()
    base = loading.load_base(ModelConfig(id=args.model))
    examples = shapes.examples(args.difficulty, "test", args.examples, seed=0)

    guessed = right(answer(base, examples, Decoding(TOKENS, forced_prefix="<answer>")), examples)
    print(f"forced <answer>, greedy: right {share(guessed)}")
    listed = right(answer(base, examples, Decoding(TOKENS, forced_prefix="<think>1.")), examples)
    counted = [flag for flag, example in zip(listed, examples, strict=True) if example.answer >= 1]
    print(f"forced <think>1., greedy: right on counts of 1 and more {share(counted)}; on all {share(listed)}")

    plain = answer(base, examples, Decoding(TOKENS))
    strict = [trace.parse(a.text).answer == e.answer for a, e in zip(plain, examples, strict=True)]
    print(f"ordinary prompt, greedy: exact match {share(strict)}; lenient {share(right(plain, examples))}")
    sampled = [trace.parse(a.text) for a in answer(base, examples, Decoding(TOKENS, temperature=1.0))]
    steps = sum(t.counted_steps for t in sampled) / len(sampled)
    print(
        f"ordinary prompt, sampled at 1: well-formed {share([t.wellformed for t in sampled])}; mean steps {steps:.2f}"
    )


if __name__ == "__main__":
    main()
