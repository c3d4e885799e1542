"""Grouping of runs by their settings, method, arm, tags, or the values of configuration fields. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from app.shared import figures, status
from store.db.rows import RunDetail, RunRow
from store.db.values import flat

SETTINGS, METHOD, ARM, TAGS = "all settings but the seed", "method", "arm", "tags"
PER_RUN_FIELDS = ("name", "seed", "data_seed", "note")
"""Fields that may differ between runs of one setting; `evaluation.eval_seed` and similar ones end in `seed`."""
COLOURS = (
    *(figures.BLUE, figures.VERMILLION, figures.GREEN, figures.PURPLE, figures.ORANGE, figures.SKY),
    *("#A6761D", "#7A9A01", "#C2417C", figures.GREY),
)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
ABSENT = "–"


class Entry(NamedTuple):
    """A line of the legend: a run, or a group of runs. `key` is the run's uid, or the group's label."""

    key: str
    label: str
    members: tuple[RunRow, ...]
    colour: str
    dash: str
    is_group: bool = False


def differing(details: Sequence[RunDetail]) -> dict[str, dict[int, str]]:
    """Return the configuration fields in which runs differ, except names, with the values as text by run id."""
    settings = {run.id: flat(run.config) for run in details}
    fields = dict.fromkeys(key for each in settings.values() for key in each)
    texts_by_field = {field: {id: value_text(each.get(field)) for id, each in settings.items()} for field in fields}
    return {
        field: values
        for field, values in texts_by_field.items()
        if field not in ("name", "note") and len(set(values.values())) > 1
    }


def value_text(value: Any) -> str:
    """Return a configuration value as text for labels."""
    if value is None:
        return ABSENT
    if isinstance(value, list):
        return ", ".join(map(value_text, value)) or "none"
    if isinstance(value, dict) and {"name", "weight"} <= value.keys():
        return f"{value['weight']:g} × {value['name']}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def is_of_one_run(field: str) -> bool:
    return field in PER_RUN_FIELDS or field.endswith("seed")


def offered_criteria(
    runs: Sequence[RunRow], fields: Mapping[str, Mapping[int, str]], arms: Mapping[int, str]
) -> list[str]:
    """Return the criteria by which these runs can be grouped."""
    shared = [SETTINGS, METHOD]
    shared += [ARM] if arms else []
    shared += [TAGS] if any(run.tags for run in runs) else []
    return [*shared, *fields]


def entries(
    runs: Sequence[RunRow],
    by: Sequence[str],
    fields: Mapping[str, Mapping[int, str]],
    arms: Mapping[int, str],
) -> list[Entry]:
    """Return the lines of the legend, oldest run first: single runs, or groups by the criteria in `by`."""
    ordered = sorted(runs, key=lambda run: run.id)
    if not by:
        return [
            Entry(run.uid, label, (run,), *_look(number))
            for number, (run, label) in enumerate(zip(ordered, _names(ordered), strict=True))
        ]
    groups: dict[str, list[RunRow]] = {}
    for run in ordered:
        parts = [part for name in by for part in _parts(run, name, fields, arms)]
        groups.setdefault(" · ".join(parts) or "same settings", []).append(run)
    return [
        Entry(label, label, tuple(members), *_look(number), is_group=True)
        for number, (label, members) in enumerate(groups.items())
    ]


def _parts(run: RunRow, name: str, fields: Mapping[str, Mapping[int, str]], arms: Mapping[int, str]) -> list[str]:
    """Return the parts of a group's name for one criterion."""
    if name == METHOD:
        return [status.METHODS.get(run.method, run.method) + (" direct" if run.style == "direct" else "")]
    if name == ARM:
        return [arms.get(run.id, "no arm")]
    if name == TAGS:
        return [", ".join(run.tags) or "no tag"]
    if name == SETTINGS:
        shared_fields = [field for field in fields if not is_of_one_run(field)]
        return [f"{field.rpartition('.')[2]} {fields[field].get(run.id, ABSENT)}" for field in shared_fields]
    return [f"{name.rpartition('.')[2]} {fields.get(name, {}).get(run.id, ABSENT)}"]


def _names(runs: Sequence[RunRow]) -> list[str]:
    """Return the runs' names, with uids added to names that are not unique."""
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.name] = counts.get(run.name, 0) + 1
    return [run.name if counts[run.name] == 1 else f"{run.name} ({run.uid})" for run in runs]


def _look(number: int) -> tuple[str, str]:
    """Return colour and dash of the n-th line; fifty combinations are distinct."""
    return COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
