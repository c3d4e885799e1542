"""Match a text against a search: a substring in any case, or a regular expression.

Python's `re` and `regex` can be made to compile and match for ever by a short expression. RE2 compiles within a fixed
memory, matches in time linear in the text, and lets other threads run meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

import re2

from store.db.connection import StoreError

LONGEST_PATTERN = 300
LARGEST_PROGRAM = 2500
"""Highest number of instructions in a compiled expression; each may look at every byte of a text."""
MEMORY = 8 * 2**20
"""Bytes that an expression may use while it is compiled and matched."""
MATCH_SECONDS = 0.1
"""Seconds, for one text."""
Matcher = Callable[[str], bool]
_TOO_LARGE = "The expression is too large: shorten it, or lower its repetitions."
_ADVICE = {
    "invalid perl operator": "look-around and atomic groups are not supported, leave them out",
    "invalid escape sequence": "back-references are not supported, leave it out",
    "invalid repetition size": "lower it to 1,000, also in all where one repetition is inside another",
}


def containing(words: str) -> Matcher:
    """Return a matcher of texts that contain `words`, in any case."""
    wanted = words.casefold()
    return lambda text: wanted in text.casefold()


def matching(pattern: str) -> Matcher:
    """Return a matcher of texts in which the expression (RE2's syntax) is found, in any case.

    Raises StoreError when the expression is invalid or too large; the matcher raises it after a text that took too
    long.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise StoreError(f"The expression is longer than {LONGEST_PATTERN} characters: shorten it.")
    try:
        compiled = re2.compile(_bytes(pattern), _options())
    except re2.error as error:
        raise StoreError(_explained(error)) from None
    finally:
        re2.purge()  # otherwise it keeps the last 128 expressions in memory
    if compiled.programsize > LARGEST_PROGRAM:
        raise StoreError(_TOO_LARGE)

    def matches(text: str) -> bool:
        begin = time.perf_counter()
        found = compiled.search(_bytes(text)) is not None
        if time.perf_counter() - begin > MATCH_SECONDS:
            raise StoreError(f"The expression needs more than {MATCH_SECONDS} s for one text: make it simpler.")
        return found

    return matches


def _options() -> re2.Options:
    options = re2.Options()
    options.case_sensitive, options.log_errors, options.never_capture = False, False, True
    options.max_mem = MEMORY
    return options


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", errors="replace")


def _explained(error: Exception) -> str:
    reason = str(error.args[0].decode("utf-8", errors="replace") if isinstance(error.args[0], bytes) else error)
    if "too large" in reason:
        return _TOO_LARGE
    advice = next((words for sign, words in _ADVICE.items() if reason.startswith(sign)), "correct it")
    return f"This is not a regular expression of RE2 ({reason}): {advice}."
