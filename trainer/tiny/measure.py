"""Measure an embedded base model on held-out examples: its accuracy, and the forms that it produces unprompted.

    python -m trainer.tiny.measure [--model FOLDER] [--world board] [--examples 1000] [--samples-of 200]

Answers are parsed leniently (the last integer in the text), because a base rarely closes its tags. Lists are also
sampled on blank images, because guessing finds many counts in eight tries."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from store import trace
from trainer.datasets import shapes
from trainer.datasets.example import Example
from trainer.evaluate import generation, metrics
from trainer.evaluate.generation import Decoding, GeneratedAnswer
from trainer.models import loading
from trainer.spec import statistics
from trainer.spec.config import ModelConfig

TOKENS = 112
LIST = "<think>1."
NUMBERED = re.compile(r"(?:^|[\s>])1\.\s")
TRIES = 8


def answer(base: Any, examples: Sequence[Example], decoding: Decoding, copies: int = 1) -> list[list[GeneratedAnswer]]:
    """Return `copies` answers to each example."""
    batches = generation.answers(
        base.model, base.processor, examples, decoding, style="cot", batch_size=250 // copies, copies=copies
    )
    flat = [a for _, batch in batches for a in batch]
    return [flat[i : i + copies] for i in range(0, len(flat), copies)]


def right(answers: Sequence[Sequence[GeneratedAnswer]], examples: Sequence[Example]) -> list[bool]:
    """Return for each example whether any of its answers is right."""
    return [
        any(metrics.lenient_answer(a.text) == e.answer for a in tried)
        for tried, e in zip(answers, examples, strict=True)
    ]


def share(flags: Sequence[bool]) -> str:
    low, high = statistics.wilson(sum(flags), len(flags))
    return f"{sum(flags) / len(flags):.3f} (95 % {low:.3f}-{high:.3f}, n {len(flags)})"


def blank(example: Example, world: shapes.World) -> Example:
    return replace(example, pictures=(shapes.DrawnPicture(shapes.Scene((), (240, 240, 240), world=world)),))


def measure_answers(base: Any, examples: Sequence[Example]) -> None:
    guessed = right(answer(base, examples, Decoding(TOKENS, forced_prefix="<answer>")), examples)
    print(f"forced <answer>, greedy: right {share(guessed)}")
    listed = right(answer(base, examples, Decoding(TOKENS, forced_prefix=LIST)), examples)
    counted = [flag for flag, example in zip(listed, examples, strict=True) if example.answer >= 1]
    print(f"forced {LIST}, greedy: right on counts of 1 and more {share(counted)}; on all {share(listed)}")

    plain = answer(base, examples, Decoding(TOKENS))
    strict = [trace.parse(a.text).answer == e.answer for (a,), e in zip(plain, examples, strict=True)]
    print(f"ordinary prompt, greedy: exact match {share(strict)}; lenient {share(right(plain, examples))}")
    sampled = [trace.parse(a.text) for (a,) in answer(base, examples, Decoding(TOKENS, temperature=1.0))]
    steps = sum(t.counted_steps for t in sampled) / len(sampled)
    numbered = [NUMBERED.search(t.text) is not None for t in sampled]
    print(
        f"ordinary prompt, sampled at 1: well-formed {share([t.wellformed for t in sampled])}; "
        f"a numbered list {share(numbered)}; mean reasoning steps {steps:.2f}"
    )


def measure_lists(base: Any, difficulty: str, world: shapes.World, n: int) -> None:
    examples = shapes.examples(difficulty, "test", n, seed=0, world=world)
    decoding = Decoding(TOKENS, temperature=1.0, forced_prefix=LIST)
    with_pictures = right(answer(base, examples, decoding, TRIES), examples)
    blind = right(answer(base, [blank(e, world) for e in examples], decoding, TRIES), examples)
    print(
        f"{difficulty}: a right one in {TRIES} sampled lists {share(with_pictures)}; on blank pictures {share(blind)}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.tiny.measure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny", help="an embedded model or a folder")
    parser.add_argument("--world", choices=shapes.WORLDS, default=shapes.SHAPES.name)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument(
        "--samples-of", type=int, default=200, help="number of examples per difficulty for which lists are sampled"
    )
    args = parser.parse_args()
    base, world = loading.load_base(ModelConfig(id=args.model)), shapes.WORLDS[args.world]
    measure_answers(base, shapes.examples("simple", "test", args.examples, seed=0, world=world))
    for difficulty in shapes.DIFFICULTIES:
        measure_lists(base, difficulty, world, args.samples_of)


if __name__ == "__main__":
    main()
