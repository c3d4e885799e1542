"""Convert records to rows of the database. Pure functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from store.completions import gold
from store.completions.scored import trace_fields
from store.completions.summary import right_share
from store.db.rows import CompletionRow, ExampleRow, PredictionRow, TraceFields
from store.importing.trl_keys import metric_name
from store.recording.records import RECORDED, Answered, ExampleRecord, Sampled
from store.trace import Form

ACCURACY = ("val/", "/accuracy")


class Known(NamedTuple):
    """The stored data of an example."""

    id: int
    truth: int | None


def example_row(record: ExampleRecord, images: Sequence[bytes]) -> ExampleRow:
    return ExampleRow(
        dataset=RECORDED,
        split="train",
        key=record.key,
        question=record.question,
        answer=gold.count(record.gold),
        gold=record.gold,
        prompt=record.prompt,
        columns=record.columns or None,
        images=tuple(images),
    )


def completion_rows(
    sampled: Sequence[Sampled], form: Form, weights: dict[str, float], known: Mapping[str | int, Known]
) -> list[CompletionRow]:
    """Return completions with their parsed traces; `known` has their examples by key, or by number in the dataset."""
    rows = []
    for each in sampled:
        example = known.get(each.row if each.example is None and each.row is not None else each.example or "")
        truth = each.truth if each.truth is not None else example.truth if example else None
        rows.append(
            CompletionRow(
                **_fields(each, form, weights, truth),
                generation=each.generation,
                group=each.group,
                index=each.index,
                example_id=example.id if example else None,
                advantage=each.advantage,
            )
        )
    return rows


def prediction_rows(
    answered: Sequence[Answered], form: Form, weights: dict[str, float], known: Mapping[str | int, Known]
) -> list[PredictionRow]:
    """Return answers whose example is known; the script's own judgement of correctness takes precedence."""
    rows = []
    for each in answered:
        if (example := known.get(each.example or "")) is None:
            continue
        fields = _fields(each, form, weights, example.truth)
        if each.correct is not None:
            fields["correct"] = each.correct
        rows.append(PredictionRow(**fields, example_id=example.id, sample=each.sample))
    return rows


def _fields(each: Sampled | Answered, form: Form, weights: dict[str, float], truth: int | None) -> dict[str, Any]:
    found = trace_fields(
        each.text,
        truth=truth,
        style=form,
        tokens=each.tokens,
        truncated=each.truncated,
        components=dict(each.rewards),
        weights=weights,
    )
    return {field.name: getattr(found, field.name) for field in dataclasses.fields(TraceFields)}


def named(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return a trainer's metrics under the store's names."""
    return {metric_name(name): value for name, value in metrics.items()}


def accuracy_name(benchmark: str) -> str:
    """Return the name of the metric for accuracy on a benchmark; `benchmark_of` is the inverse."""
    return f"{ACCURACY[0]}{benchmark[:150]}{ACCURACY[1]}"


def benchmark_of(metric: str) -> str | None:
    """Return the benchmark of such a metric; None for other metrics."""
    start, end = ACCURACY
    is_one = metric.startswith(start) and metric.endswith(end) and len(metric) > len(start) + len(end)
    return metric[len(start) : -len(end)] if is_one else None


def figures(rows: Sequence[CompletionRow], form: Form) -> dict[str, float | None]:
    """Return metrics of a step's texts, without those that their grammar does not define."""
    found: dict[str, float | None] = {}
    if not rows:
        return found
    if form != "none":
        found["wellformed_share"] = sum(row.wellformed for row in rows) / len(rows)
    if form == "cot":
        found["reasoning_steps"] = sum(row.reasoning_steps for row in rows) / len(rows)
    if (right := right_share(rows)) is not None:
        found["correct_share"] = right
    return found


def means(rows: Sequence[CompletionRow]) -> dict[str, float | None]:
    """Return a step's mean rewards and lengths, as TRL logs them."""
    names = dict.fromkeys(name for row in rows for name in row.rewards)
    columns = {f"reward/{name}": [row.rewards.get(name) for row in rows] for name in names}
    columns["reward"] = [row.reward for row in rows]
    columns["completion_length"] = [row.tokens for row in rows]
    known = {name: [value for value in values if value is not None] for name, values in columns.items()}
    return {name: sum(values) / len(values) for name, values in known.items() if values}
