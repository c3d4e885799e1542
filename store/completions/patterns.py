"""Match texts against a search: a substring or a regular expression, ignoring case.

A short expression can make Python's `re` and `regex` compile or match forever. RE2 compiles within fixed memory,
matches in time linear in the length of the text, and lets other threads run meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

import re2

from store.db.connection import StoreError

LONGEST_PATTERN = 300
LARGEST_PROGRAM = 2500
"""Most instructions in a compiled expression; each may read every byte of a text."""
MEMORY = 8 * 2**20
"""Most bytes of memory for compiling and matching an expression."""
MATCH_SECONDS = 0.1
"""Time limit in seconds for one text."""
Matcher = Callable[[str], bool]
_TOO_LARGE = "The expression is too large. Shorten it, or lower its repetition counts."
_ADVICE = {
    "invalid perl operator": "look-around and atomic groups are not supported",
    "invalid escape sequence": "back-references are not supported",
    "invalid repetition size": "the limit is 1,000, also for the product of nested repetitions",
}


def containing(words: str) -> Matcher:
    """Return a matcher for texts that contain `words`, ignoring case."""
    needle = words.casefold()
    return lambda text: needle in text.casefold()


def matching(pattern: str) -> Matcher:
    """Return a matcher for texts in which the expression (RE2 syntax) is found, ignoring case.

    Raises StoreError if the expression is invalid or too large; the matcher raises it after a text that took too
    long.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise StoreError(f"The expression is longer than {LONGEST_PATTERN} characters. Shorten it.")
    try:
        compiled = re2.compile(_bytes(pattern), _options())
    except re2.error as error:
        raise StoreError(_explain(error)) from None
    finally:
        re2.purge()  # otherwise the last 128 expressions stay in memory
    if compiled.programsize > LARGEST_PROGRAM:
        raise StoreError(_TOO_LARGE)

    def matches(text: str) -> bool:
        begin = time.perf_counter()
        is_match = compiled.search(_bytes(text)) is not None
        if time.perf_counter() - begin > MATCH_SECONDS:
            raise StoreError(f"The expression takes more than {MATCH_SECONDS} s for one text. Simplify it.")
        return is_match

    return matches


def _options() -> re2.Options:
    options = re2.Options()
    options.case_sensitive, options.log_errors, options.never_capture = False, False, True
    options.max_mem = MEMORY
    return options


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")


def _explain(error: Exception) -> str:
    reason = str(error.args[0].decode("utf-8", errors="replace") if isinstance(error.args[0], bytes) else error)
    if "too large" in reason:
        return _TOO_LARGE
    advice = next((words for sign, words in _ADVICE.items() if reason.startswith(sign)), "check the syntax")
    return f"The regular expression is invalid ({reason}): {advice}."
