"""Map the names of imported metrics to the store's, without merging any two."""

from __future__ import annotations

from collections.abc import Iterable

from store.importing import trl_keys

LONGEST_NAME = 200
_HEAD, _TAIL = 120, 70


def printable(name: str) -> str:
    """Return a name without characters that control or hide text: controls, direction marks, zero-width characters."""
    return "".join(each for each in name if each.isprintable())


def shorten(name: str) -> str:
    """Return at most LONGEST_NAME characters. Both ends of a long name are kept, as they distinguish similar names."""
    return name if len(name) <= LONGEST_NAME else f"{name[:_HEAD]}…{name[-_TAIL:]}"


def strip_prefix(name: str) -> str:
    """Return a name without the prefix under which transformers logs training metrics."""
    return name.removeprefix("train/")


def stored_names(names: Iterable[str]) -> dict[str, str]:
    """Return the stored name of each metric; if its short name is taken, more of its own is kept."""
    distinct = list(dict.fromkeys(names))
    names_by_stored: dict[str, str] = {}
    # Names that are already short come first: with `loss` and `train/loss`, the latter keeps its prefix.
    for name in sorted(distinct, key=lambda each: _wanted(each) != each):
        full_name = shorten(printable(name)) or "(no name)"
        free = (each for each in (_wanted(name), full_name) if each not in names_by_stored)
        names_by_stored[next(free, None) or _numbered(full_name, names_by_stored)] = name
    return {name: stored for stored, name in names_by_stored.items()}


def _wanted(name: str) -> str:
    return shorten(trl_keys.metric_name(strip_prefix(printable(name)))) or "(no name)"


def _numbered(name: str, used: dict[str, str]) -> str:
    number = 2
    while (candidate := f"{name[: LONGEST_NAME - 8]} ({number})") in used:
        number += 1
    return candidate
