"""Whether a text holds what somebody looks for: a substring in any case, or a regular expression. Knows no tables.

Python's `re` cannot be interrupted. The `regex` package looks at the clock inside its matching loop and lets other
threads run meanwhile, so that no expression, however hostile, keeps a page waiting.
"""

from __future__ import annotations

from collections.abc import Callable

import regex

from store.connection import StoreError

LONGEST_PATTERN = 300
MATCH_SECONDS = 0.1
"""For one text."""
Matcher = Callable[[str], bool]


def containing(words: str) -> Matcher:
    """True for a text that holds `words`, in any case."""
    wanted = words.casefold()
    return lambda text: wanted in text.casefold()


def matching(pattern: str) -> Matcher:
    """True for a text in which the expression is found, in any case.

    Raises StoreError when it is no expression or too long, and so does the matcher on a text that takes too long.
    """
    if len(pattern) > LONGEST_PATTERN:
        raise StoreError(f"The expression is longer than {LONGEST_PATTERN} characters: shorten it.")
    try:
        compiled = regex.compile(pattern, regex.IGNORECASE)
    except (regex.error, RecursionError, OverflowError) as error:
        raise StoreError(f"This is not a regular expression ({error}): correct it.") from None

    def matches(text: str) -> bool:
        try:
            return compiled.search(text, timeout=MATCH_SECONDS, concurrent=True) is not None
        except TimeoutError:
            raise StoreError(
                f"The expression needs more than {MATCH_SECONDS} s for one text: make it simpler, "
                "without a repetition inside a repetition."
            ) from None
        except MemoryError:
            raise StoreError("The expression needs too much memory for one text: make it simpler.") from None

    return matches
