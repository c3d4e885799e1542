"""The parser of completions under the name that trainer and screens use; imports of the store use it too."""

from store.trace import (
    GRAMMAR,
    NUMBER_WORDS,
    Form,
    ReasoningStep,
    Style,
    Trace,
    Violation,
    form_of,
    opening,
    parse,
    read_count,
)

__all__ = [
    "GRAMMAR",
    "NUMBER_WORDS",
    "Form",
    "ReasoningStep",
    "Style",
    "Trace",
    "Violation",
    "form_of",
    "opening",
    "parse",
    "read_count",
]
