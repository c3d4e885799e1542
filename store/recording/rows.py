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
from store.recording.records import RECORDED, ExampleRecord, RecordedAnswer, Sampled
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
    sampled: Sequence[Sampled], form: Form, weights: dict[str, float], examples: Mapping[str | int, Known]
) -> list[CompletionRow]:
    """Return completions with their parsed traces; `examples` are by key, or by number in the dataset."""
    rows = []
    for sample in sampled:
        example = examples.get(
            sample.row if sample.example is None and sample.row is not None else sample.example or ""
        )
        truth = sample.truth if sample.truth is not None else example.truth if example else None
        rows.append(
            CompletionRow(
                **_fields(sample, form, weights, truth),
                generation=sample.generation,
                group=sample.group,
                index=sample.index,
                example_id=example.id if example else None,
                advantage=sample.advantage,
            )
        )
    return rows


def prediction_rows(
    answered: Sequence[RecordedAnswer], form: Form, weights: dict[str, float], examples: Mapping[str | int, Known]
) -> list[PredictionRow]:
    """Return answers whose example is known; the script's own judgement of correctness takes precedence."""
    rows = []
    for answer in answered:
        if (example := examples.get(answer.example or "")) is None:
            continue
        fields = _fields(answer, form, weights, example.truth)
        if answer.correct is not None:
            fields["correct"] = answer.correct
        rows.append(PredictionRow(**fields, example_id=example.id, sample=answer.sample))
    return rows


def _fields(
    sample: Sampled | RecordedAnswer, form: Form, weights: dict[str, float], truth: int | None
) -> dict[str, Any]:
    fields = trace_fields(
        sample.text,
        truth=truth,
        style=form,
        tokens=sample.tokens,
        truncated=sample.truncated,
        components=dict(sample.rewards),
        weights=weights,
    )
    return {field.name: getattr(fields, field.name) for field in dataclasses.fields(TraceFields)}


def store_names(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
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
    result: dict[str, float | None] = {}
    if not rows:
        return result
    if form != "none":
        result["wellformed_share"] = sum(row.wellformed for row in rows) / len(rows)
    if form == "cot":
        result["reasoning_steps"] = sum(row.reasoning_steps for row in rows) / len(rows)
    if (right := right_share(rows)) is not None:
        result["correct_share"] = right
    return result


def means(rows: Sequence[CompletionRow]) -> dict[str, float | None]:
    """Return a step's mean rewards and lengths, as TRL logs them."""
    names = dict.fromkeys(name for row in rows for name in row.rewards)
    columns = {f"reward/{name}": [row.rewards.get(name) for row in rows] for name in names}
    columns["reward"] = [row.reward for row in rows]
    columns["completion_length"] = [row.tokens for row in rows]
    present_by_name = {name: [value for value in values if value is not None] for name, values in columns.items()}
    return {name: sum(values) / len(values) for name, values in present_by_name.items() if values}
