"""Iterate over rows from a user's function: lists, 🤗 Datasets, pandas or polars data frames, Arrow tables.

None of these libraries is imported here; objects are recognised by their methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

SPLIT_NAMES = ("train", "val", "validation", "test")


class Row(NamedTuple):
    """A row; `again` loads it again, if it need not be kept in memory."""

    given: Any
    again: Callable[[], Any] | None = None


def rows(source: Any, split: str) -> Iterator[Row]:
    """Yield the rows of a split in order. Raises TypeError if `source` has no rows."""
    if source is None:
        return
    if isinstance(source, Mapping):
        yield from _of_mapping(source, split)
    elif hasattr(source, "cast_column") and hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        yield from _of_dataset(source)
    elif hasattr(source, "itertuples"):
        names = list(source.columns)
        yield from (Row(dict(zip(names, row, strict=True))) for row in source.itertuples(index=False, name=None))
    elif hasattr(source, "iter_rows"):
        yield from map(Row, source.iter_rows(named=True))
    elif hasattr(source, "to_batches"):
        yield from (Row(row) for batch in source.to_batches() for row in batch.to_pylist())
    elif isinstance(source, (str, bytes)) or not hasattr(source, "__iter__"):
        raise TypeError(f"it returned {type(source).__name__}, not rows")
    else:
        yield from map(Row, source)


def by_columns(columns: Mapping[Any, Any]) -> list[dict[Any, Any]] | None:
    """Return the rows of columns of equal length or of pandas' JSON; None for anything else."""
    cells = {
        name: list(column.values() if isinstance(column, Mapping) else column)
        for name, column in columns.items()
        if isinstance(column, (Mapping, Sequence)) and not isinstance(column, (str, bytes))
    }
    if not cells or len(cells) < len(columns) or len({len(column) for column in cells.values()}) > 1:
        return None
    return [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]


def _of_mapping(source: Mapping[Any, Any], split: str) -> Iterator[Row]:
    """Yield the rows of a mapping by split, like a `DatasetDict`, or by column."""
    if source.keys() & set(SPLIT_NAMES):
        yield from rows(source.get(split, source.get("validation") if split == "val" else None), split)
    elif (records := by_columns(source)) is not None:
        yield from map(Row, records)
    else:
        raise TypeError("it returned a dict that has neither splits nor columns of equal length")


def _of_dataset(dataset: Any) -> Iterator[Row]:
    """Yield the rows without decoding images; each row is loaded again when its images are needed."""
    if dataset.format["type"] != "custom":
        dataset = dataset.with_format(None)
        for name, feature in (dataset.features or {}).items():
            if (plain := _undecoded(feature)) is not feature:
                dataset = dataset.cast_column(name, plain)
    class_features = {
        name: feature for name, feature in (dataset.features or {}).items() if type(feature).__name__ == "ClassLabel"
    }
    for number in range(len(dataset)):
        yield Row(_with_names(dataset[number], class_features), partial(dataset.__getitem__, number))


def _with_names(row: Any, class_features: Mapping[str, Any]) -> Any:
    """Return a row with class names: a `ClassLabel` is stored as a number, and class 0 may be named `3`."""
    numbers = {name: row[name] for name in class_features if isinstance(row.get(name), int)}
    # The library writes -1 for an unknown class.
    return {**row, **{name: class_features[name].int2str(n) if n >= 0 else None for name, n in numbers.items()}}


def _undecoded(feature: Any) -> Any:
    """Return an `Image` feature, or a list of them, that gives bytes and path."""
    if type(feature).__name__ == "Image" and getattr(feature, "decode", False):
        return type(feature)(decode=False)
    if isinstance(feature, list) and feature and _undecoded(feature[0]) is not feature[0]:
        return [_undecoded(feature[0])]
    inner = getattr(feature, "feature", None)
    if type(feature).__name__ in ("List", "LargeList", "Sequence") and _undecoded(inner) is not inner:
        return type(feature)(_undecoded(inner))
    return feature
