"""Turn pydantic's validation errors into sentences."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

_REQUIREMENTS = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be greater than {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be less than {lt}",
    "literal_error": "must be {expected}",
    "finite_number": "must be a finite number",
    "missing": "is missing",
    "model": "is a section: set its fields one by one",
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "string": "must be text",
    "tuple": "must be a list",
}
"""Wording of a pydantic error type, or of all types with that first word."""
ALIKE = 0.6
"""Least likeness of a field that is offered instead of an unknown one, as in `difflib.get_close_matches`."""
_BOUNDS = ("greater_than_equal", "greater_than", "less_than_equal", "less_than", "finite_number")


def sentence(fault: Any, fields: Callable[[], list[str]]) -> str:
    """Return what is wrong and what to do. `fields` returns the dotted path of every known field."""
    # The name of an unknown field may contain anything, line breaks too.
    where = ".".join(str(part) if str(part).isprintable() else repr(part) for part in fault["loc"])
    kind = fault["type"]
    if kind == "value_error":
        return str(fault["ctx"]["error"])
    if kind == "extra_forbidden":
        return no_such_field(where, fields())
    requirement = _REQUIREMENTS.get(kind) or _REQUIREMENTS.get(kind.partition("_")[0])
    if requirement is None:
        return f"{where}: {fault['msg']}."
    # Values are parsed from YAML as text: show a number that is out of bounds without quotes.
    value_text = fault["input"] if kind in _BOUNDS and isinstance(fault["input"], str) else repr(fault["input"])
    value_text = "" if kind == "missing" else f", not {value_text:.200}"
    return f"{where} {requirement.format(**fault.get('ctx', {}))}{value_text}."


def no_such_field(where: str, fields: list[str]) -> str:
    close = _closest(where, fields)
    above = where[: where.rfind(".") + 1]
    siblings = dict.fromkeys(
        above + key.removeprefix(above).partition(".")[0] for key in fields if key.startswith(above)
    )
    choice = f"Choose one of {', '.join(siblings)}." if siblings else "Remove it."
    advice = f"Did you mean {close}?" if close else choice
    return f"{where}: unknown field. {advice}"


def _closest(where: str, known: list[str]) -> str | None:
    """Return the known field whose path, or whose last part, is most like `where`; None if none is like it."""

    def likeness(key: str) -> tuple[float, float]:
        whole, last = (difflib.SequenceMatcher(None, where, each).ratio() for each in (key, key.rpartition(".")[2]))
        return max(whole, last), whole

    best = max(known, key=likeness, default=None)
    return best if best is not None and likeness(best)[0] >= ALIKE else None
