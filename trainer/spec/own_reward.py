"""Call a user's reward function with keyword arguments, as TRL does, and report its errors with file and line.

Torch-free. `trainer.evaluate.reward_arguments` makes the arguments.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Thread
from typing import Any, NoReturn

from trainer.spec.errors import TrainerError
from trainer.spec.foreign import Foreign

logger = logging.getLogger(__name__)

LARGEST = 3.4028234e38
"""Largest value: TRL keeps rewards as 32-bit floats."""


def wrap(foreign_function: Foreign, label: str, *, strict: bool = False) -> Callable[..., Any]:
    """Wrap a user's function under its component's name; a coroutine function stays one.

    The wrapper takes `completions` and TRL's other arguments by name and returns a list of numbers or None. It raises
    TrainerError if the function raises or returns anything else. NaN counts as None, as in TRL; with `strict` it is an
    error.
    """
    wrapper = _OwnReward(foreign_function, label, strict)

    def call(completions: Sequence[Any], **others: Any) -> list[float | None]:
        with wrapper.blamed():
            returned = foreign_function.call(**wrapper.accepted({"completions": completions, **others}))
            return wrapper.numbers(returned, len(completions))

    async def call_later(completions: Sequence[Any], **others: Any) -> list[float | None]:
        async def act() -> list[float | None]:
            with wrapper.blamed():
                returned = await foreign_function.call(**wrapper.accepted({"completions": completions, **others}))
                return wrapper.numbers(returned, len(completions))

        # Always use the same loop: a client that the function keeps open belongs to the loop in which it was opened.
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(act(), _loop()))

    is_async = inspect.iscoroutinefunction(foreign_function.call) or inspect.iscoroutinefunction(
        type(foreign_function.call).__call__
    )
    function: Callable[..., Any] = call_later if is_async else call
    function.__name__ = function.__qualname__ = label
    return function


def await_values(returned: Any) -> list[float | None]:
    """Return a reward's values, waiting for a coroutine."""
    values: list[float | None] = asyncio.run(returned) if inspect.iscoroutine(returned) else returned
    return values


MESSAGES = "Completions are lists of messages; their text is completion[0]['content']."
_TAKEN_FOR_TEXT = ("'list' object has no attribute", "expected string or bytes-like object, got 'list'")
"""Python's error messages in a function that treats messages as text."""


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, daemon=True, name="async rewards").start()
    return loop


@dataclass
class _OwnReward:
    found: Foreign
    label: str
    strict: bool
    has_warned: bool = False

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Report any exception in the block as an error of the function."""
        try:
            yield
        except TrainerError:
            raise
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            fault = self.found.folder.fault(error)
            advice = MESSAGES if any(words in fault for words in _TAKEN_FOR_TEXT) else "Fix the function."
            raise TrainerError("reward", f"{self._name} failed ({fault}). {advice}") from error

    def accepted(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of TRL's that the function takes. Raises TrainerError if it requires others."""
        try:
            parameters = inspect.signature(self.found.call).parameters.values()
        except (TypeError, ValueError):  # the function is not written in Python
            return arguments
        by_name = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
        missing = [each.name for each in by_name if each.default is each.empty and each.name not in arguments]
        if missing:
            self._fail(f"requires {' and '.join(missing)}, but only {', '.join(sorted(arguments))} are passed.")
        if any(each.kind is each.VAR_KEYWORD for each in parameters):
            return arguments
        return {each.name: arguments[each.name] for each in by_name if each.name in arguments}

    def numbers(self, returned: Any, n: int) -> list[float | None]:
        """Return one number or None for each of `n` completions. Raises TrainerError."""
        is_list = isinstance(returned, Iterable) and not isinstance(returned, str | bytes | Mapping | Set)
        if not is_list or getattr(returned, "ndim", 1) == 0:
            self._fail(f"returned {_shown(returned)} instead of a list. Return one number per completion.")
        values = [self._number(value) for value in returned]
        if len(values) != n:
            self._fail(f"returned {len(values)} numbers for {n} completions. Return one per completion.")
        return values

    def _number(self, value: Any) -> float | None:
        if value is None:
            return None
        plain = _plain(value)
        if not isinstance(plain, int | float):
            self._fail(f"returned {_shown(value)} for a completion. Return a number, or None where it does not apply.")
        if plain != plain:
            self._warn_of_nan()
            return None
        if abs(plain) > LARGEST:
            self._fail(f"returned {_shown(plain)} for a completion. Return a finite number.")
        return float(plain)

    def _warn_of_nan(self) -> None:
        if self.strict:
            self._fail("returned NaN for a completion. Return None where the reward does not apply.")
        if not self.has_warned:
            logger.warning("%s returned NaN, which is treated as None: the reward does not apply.", self._name)
        self.has_warned = True

    @property
    def _name(self) -> str:
        return f"rewards: {self.label} in {self.found.path}"

    def _fail(self, complaint: str) -> NoReturn:
        raise TrainerError("reward", f"{self._name} {complaint}")


def _plain(value: Any) -> Any:
    """Return the number in a NumPy or torch scalar."""
    try:
        return value.item()
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return value


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
