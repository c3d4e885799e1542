"""Export completions and predictions as lines of JSON, and as a dataset to train on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from store.db.connection import Store, StoreError
from store.db.rows import StoredCompletion, StoredExample, StoredPrediction
from store.examples import get_examples
from store.media import files

MOST_TRACES = 20_000


def completion_fields(uid: str, row: StoredCompletion) -> dict[str, Any]:
    """Return a completion of the run `uid` as one JSON object."""
    return {
        "run": uid,
        "step": row.step,
        "example": row.example,
        "group": row.group,
        "index": row.index,
        "text": row.text,
        "think": row.think_text if row.wellformed else None,
        "answer": row.answer,
        "truth": row.truth,
        "wellformed": row.wellformed,
        "correct": row.correct,
        "reasoning_steps": row.reasoning_steps,
        "tokens": row.tokens,
        "truncated": row.truncated,
        "reward": row.reward,
        "rewards": row.rewards,
        "advantage": row.advantage,
    }


def prediction_fields(uid: str, row: StoredPrediction) -> dict[str, Any]:
    """Return a prediction of the run `uid` as one JSON object."""
    return {
        "run": uid,
        "step": row.step,
        "benchmark": row.benchmark,
        "kind": row.kind,
        "example": row.example,
        "sample": row.sample,
        "text": row.text,
        "think": row.think_text if row.wellformed else None,
        "answer": row.answer,
        "truth": row.truth,
        "wellformed": row.wellformed,
        "correct": row.correct,
        "similarity": row.similarity,
        "tokens": row.tokens,
    }


def write_dataset(store: Store, rows: Iterable[StoredCompletion], folder: Path) -> int:
    """Write a dataset in the layout `folder` whose references are the reasoning of correct, well-formed rows.

    Identical reasoning about one example is written once. Return the number of traces written. Raises StoreError if
    there are none or more than MOST_TRACES, or if the folder cannot be written.
    """
    usable: dict[tuple[int, str], StoredCompletion] = {}
    for row in rows:
        if row.correct and row.wellformed and row.think_text and row.example_id is not None:
            usable.setdefault((row.example_id, row.think_text), row)
        if len(usable) > MOST_TRACES:
            raise StoreError(f"More than {MOST_TRACES:,} correct traces are selected. Narrow the selection.")
    examples = get_examples(store, {example_id for example_id, _ in usable})
    lines = []
    try:
        (folder / "images").mkdir(parents=True)
        names = _copy_images(store, examples.values(), folder)
        for (example_id, think), row in usable.items():
            example = examples[example_id]
            images = [names[sha256] for sha256 in example.images if sha256 in names]
            if images and len(images) == len(example.images):
                lines.append(_example_line(example, row, think, images))
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / "examples.jsonl").write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error.strerror}). Free some space, or choose another folder."
        ) from None
    if not lines:
        shutil.rmtree(folder, ignore_errors=True)
        raise StoreError("The selection has no correct, well-formed trace with an image. Select others to train on.")
    return len(lines)


def _copy_images(store: Store, examples: Iterable[StoredExample], folder: Path) -> dict[str, str]:
    """Copy images into the folder; return their relative paths by hash, without missing or damaged ones."""
    names = {}
    for sha256 in {sha256 for example in examples for sha256 in example.images}:
        with suppress(files.Lost):
            (folder / "images" / sha256).write_bytes(files.content(store.media, sha256))
            names[sha256] = f"images/{sha256}"
    return names


def _example_line(example: StoredExample, row: StoredCompletion, think: str, images: list[str]) -> dict[str, Any]:
    return {
        "key": f"{row.id}",
        "question": example.question,
        "answer": example.answer,
        "images": images,
        "difficulty": example.difficulty,
        "reference": think.strip(),
    }
