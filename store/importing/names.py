"""The names that metrics have in the store: those of TRL's metrics are ours, no two are folded into one."""

from __future__ import annotations

from collections.abc import Iterable

from store.importing import trl_keys

LONGEST_NAME = 200
_HEAD, _TAIL = 120, 70


def printable(name: str) -> str:
    """A name without what a screen obeys or hides: controls, direction marks, characters of no width."""
    return "".join(each for each in name if each.isprintable())


def shortened(name: str) -> str:
    """At most LONGEST_NAME characters: both ends of a longer name, which tell it from its neighbours."""
    return name if len(name) <= LONGEST_NAME else f"{name[:_HEAD]}…{name[-_TAIL:]}"


def plain(name: str) -> str:
    """Without the prefix under which transformers tells trackers what is of training."""
    return name.removeprefix("train/")


def stored_names(names: Iterable[str]) -> dict[str, str]:
    """The name of each metric in the store; a name that another one has already keeps more of its own."""
    given = list(dict.fromkeys(names))
    taken: dict[str, str] = {}
    # Who has the name already comes first: of `loss` and `train/loss`, the latter keeps its prefix.
    for name in sorted(given, key=lambda each: _wanted(each) != each):
        own = shortened(printable(name)) or "(no name)"
        free = (each for each in (_wanted(name), own) if each not in taken)
        taken[next(free, None) or _numbered(own, taken)] = name
    return {name: stored for stored, name in taken.items()}


def _wanted(name: str) -> str:
    return shortened(trl_keys.metric_name(plain(printable(name)))) or "(no name)"


def _numbered(name: str, taken: dict[str, str]) -> str:
    number = 2
    while (found := f"{name[: LONGEST_NAME - 8]} ({number})") in taken:
        number += 1
    return found
