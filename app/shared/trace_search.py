"""A search as encoded in a URL, parsed by the same function for the Find page and the export.

An empty value counts as absent; an invalid one is refused, since ignoring it would show wrong results.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

from store.care.export import completion_fields
from store.completions.find import Order, Range, TraceFilter, iter_found
from store.completions.patterns import Matcher, containing, matching
from store.db.engine import Store, StoreError
from store.db.rows import StoredCompletion
from store.examples import get_examples
from store.notes import Remarks, get_remarks
from store.runs import list_run_heads

ORDERS = {
    "Latest step": Order("step", True),
    "Earliest step": Order("step", False),
    "Highest reward": Order("reward", True),
    "Lowest reward": Order("reward", False),
    "Longest": Order("tokens", True),
    "Shortest": Order("tokens", False),
    "Most reasoning steps": Order("reasoning_steps", True),
    "Fewest reasoning steps": Order("reasoning_steps", False),
}
JUDGED = {"Any": None, "Right": True, "Wrong": False}
FORMS = {"Any": None, "Well-formed": True, "Malformed": False}
CUT = {"Any": None, "Cut off": True, "Complete": False}
REGEX = {"true": True, "false": False}
RANGES = {"step": "Step", "reward": "Reward", "tokens": "Tokens", "steps": "Reasoning steps"}
"""Label by name in the URL, without `_from` and `_to`."""
NAMES = frozenset(
    (
        *("run", "q", "regex", "sort", "judged", "form", "cut", "tag", "example", "answer"),
        *(f"{name}_{end}" for name in RANGES for end in ("from", "to")),
    )
)
LONGEST = 60
"""Characters of a refused value that are shown."""
AT_ONCE = 250
T = TypeVar("T")


class Search(NamedTuple):
    """Filter, order and text of a search; without text, only columns are searched."""

    filter: TraceFilter
    order: Order
    text: str
    is_expression: bool

    def matcher(self) -> Matcher | None:
        """Return a matcher for the text. Raises StoreError if it is an invalid regular expression."""
        if not self.text:
            return None
        return matching(self.text) if self.is_expression else containing(self.text)


def parse_search(query: Mapping[str, str], run_id: int | None) -> Search:
    """Return the search in a URL's query; `run_id` is that of its run.

    Raises StoreError for an unknown filter or an invalid value.
    """
    if unknown := sorted(set(query) - NAMES):
        raise StoreError(f"There is no filter {unknown[0]!r}: the filters are {', '.join(sorted(NAMES))}.")
    trace_filter = TraceFilter(
        run_id=run_id,
        correct=_one_of(query, "judged", JUDGED, None),
        wellformed=_one_of(query, "form", FORMS, None),
        truncated=_one_of(query, "cut", CUT, None),
        example_id=_whole_number(query, "example"),
        answer=_whole_number(query, "answer"),
        tag=query.get("tag") or None,
        step=_range(query, "step"),
        reward=_range(query, "reward"),
        tokens=_range(query, "tokens"),
        reasoning_steps=_range(query, "steps"),
    )
    order = _one_of(query, "sort", ORDERS, ORDERS["Latest step"])
    return Search(trace_filter, order, query.get("q", ""), _one_of(query, "regex", REGEX, False))


def _one_of(query: Mapping[str, str], name: str, choices: Mapping[str, T], otherwise: T) -> T:
    text = query.get(name)
    if not text:
        return otherwise
    if text not in choices:
        raise StoreError(f"{name} cannot be {_quote(text)}: choose one of {', '.join(choices)}.")
    return choices[text]


def _range(query: Mapping[str, str], name: str) -> Range:
    return _number(query, f"{name}_from"), _number(query, f"{name}_to")


def _number(query: Mapping[str, str], name: str) -> float | None:
    text = query.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise StoreError(f"{name} cannot be {_quote(text)}: write a number.")
    return value


def _whole_number(query: Mapping[str, str], name: str) -> int | None:
    value = _number(query, name)
    if value is not None and not (value.is_integer() and abs(value) < 2**31):
        raise StoreError(f"{name} cannot be {_quote(query[name])}: write a whole number of at most ten digits.")
    return None if value is None else int(value)


def _quote(text: str) -> str:
    return repr(text if len(text) <= LONGEST else text[:LONGEST] + "…")


def export_lines(store: Store, search: Search, matches: Matcher | None) -> Iterator[dict[str, object]]:
    """Yield all results as the lines of an export."""
    uids = {run.id: run.uid for run in list_run_heads(store)}
    part: list[StoredCompletion] = []
    for row in iter_found(store, search.filter, search.order, matches):
        part.append(row)
        if len(part) == AT_ONCE:
            yield from _export_batch(store, part, uids)
            part = []
    yield from _export_batch(store, part, uids)


def _export_batch(store: Store, rows: list[StoredCompletion], uids: Mapping[int, str]) -> Iterator[dict[str, object]]:
    examples = get_examples(store, {row.example_id for row in rows if row.example_id is not None})
    remarks_by_id = get_remarks(store, "completion", [row.id for row in rows])
    for row in rows:
        example, remarks = examples.get(row.example_id or 0), remarks_by_id.get(row.id, Remarks())
        yield {
            **completion_fields(uids.get(row.run_id, ""), row),
            "id": row.id,
            "question": example.question if example else None,
            "reference": example.reference if example else None,
            "images": list(example.images) if example else [],
            "tags": list(remarks.tags),
            "note": remarks.note,
        }
