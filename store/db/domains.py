"""Column types with constraints that SQL lacks: ranges and shapes of JSON. `store.db.checking` enforces them.

Reading always returns the declared shape; another stored shape is read as an empty value.
"""

from __future__ import annotations

from typing import Annotated, Any

from sqlalchemy import JSON, Double, Integer
from sqlalchemy.types import TypeDecorator

Natural = Annotated[int, "not negative"]
Seed = Annotated[int, "32 bits without a sign"]
Moment = Annotated[float, "seconds since the epoch"]
Numbers = Annotated[dict[str, Any], "numbers by name"]
Figures = Annotated[dict[str, Any], "figures of an evaluation"]


class NaturalInteger(Integer):
    least, most = 0, 2**31 - 1


class SeedInteger(Integer):
    least, most = 0, 2**32 - 1


class MomentFloat(Double[float]):
    least, most = 0.0, 253402300799.0
    """The end of the year 9999, the last that Python's dates support."""


class JsonObject(TypeDecorator[Any]):
    """A JSON object with any content."""

    impl, cache_ok = JSON, True
    shape: type = dict

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value if value is None or isinstance(value, self.shape) else self.shape()

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        return self.impl_instance.coerce_compared_value(op, value)


class JsonList(JsonObject):
    cache_ok = True
    shape = list


class NumbersObject(JsonObject):
    """Numbers or null, by name."""

    cache_ok = True


class FiguresObject(JsonObject):
    """Numbers or null, by name; under names that begin with `by_`, pairs of numbers by the value counted."""

    cache_ok = True


TYPES: dict[Any, Any] = {
    dict[str, Any]: JsonObject,
    list[Any]: JsonList,
    Natural: NaturalInteger,
    Seed: SeedInteger,
    Moment: MomentFloat,
    Numbers: NumbersObject,
    Figures: FiguresObject,
}
