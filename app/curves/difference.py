"""Differences between two runs, and where their curves diverge. Pure functions, and the table that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import streamlit as st

from app.curves import catalogue
from app.curves.bands import Points, finite_points
from app.curves.grouping import value_text
from app.shared import data, format
from app.shared.figures import Floats
from store.db.rows import RunDetail
from store.db.values import flat
from store.surroundings.code import Source, by_file

WINDOWS = 20
"""Number of windows into which the shorter curve is divided."""
FEWEST = 5
"""Minimum number of points per window."""
SURE = 4.0
"""Number of standard errors by which the means of a window must differ."""
POINTS = 400
WHERE = "curves diverge at about step"


def differences(
    first: RunDetail, second: RunDetail, code: Mapping[int, Source | None] | None = None
) -> list[dict[str, str]]:
    """Return the settings, code, versions, data and rewards in which two runs differ, one row each.

    `code` is the source that each run's latest job was started with, by run id.
    """
    rows = []
    sources = code or {}
    others = _areas(second, sources.get(second.id))
    for area, one in _areas(first, sources.get(first.id)).items():
        other = others[area]
        for field in dict.fromkeys([*one, *other]):
            values = [_words(each.get(field)) for each in (one, other)]
            if values[0] != values[1]:
                rows.append({"area": area, "field": field, "first": values[0], "second": values[1]})
    return rows


def of_source(source: Source | None) -> dict[str, str]:
    """Return the commit and, by changed file, the numbers of added and removed lines with a hash of the change."""
    if source is None:
        return {}
    parts = by_file(source.difference)
    changes = {path: _change(parts[path]) if path in parts else "changed" for path in (*source.changed, *parts)}
    return {"commit": source.revision[:12]} | changes


def _change(part: str) -> str:
    body = [line for line in part.splitlines() if not line.startswith(("+++", "---"))]
    added, removed = (sum(line.startswith(sign) for line in body) for sign in "+-")
    return f"+{added} −{removed} ({sha256(part.encode()).hexdigest()[:6]})"


def _areas(run: RunDetail, source: Source | None) -> dict[str, Mapping[str, Any]]:
    """Return everything that defines a run, by area."""
    settings = {key: value for key, value in flat(run.config).items() if key not in ("name", "note")}
    code = {
        name: (each or {}).get("hash", each) if isinstance(each, dict) else each for name, each in run.sources.items()
    }
    return {
        "data": {key: value for key, value in settings.items() if key.startswith("data.")} | {"dataset": run.dataset},
        "seeds": {key: value for key, value in settings.items() if key.endswith("seed")},
        "configuration": {
            key: value for key, value in settings.items() if not key.startswith("data.") and not key.endswith("seed")
        },
        "rewards": dict(run.reward_weights),
        "prompt": {"hash": run.prompt_hash},
        "code": of_source(source) | code,
        "versions and machine": flat({k: v for k, v in run.environment.items() if k != "git_commit" or source is None}),
    }


def _words(value: Any) -> str:
    return format.UNKNOWN if value is None else value_text(value)


def divergence_step(first: Points, second: Points) -> float | None:
    """Return roughly where two curves begin to differ by more than their noise for two consecutive windows.

    Noise is estimated from differences between neighbours. None if they never diverge, or with too few values.
    """
    one, other = finite_points(first), finite_points(second)
    x = np.intersect1d(one.x, other.x)
    size = max(FEWEST, len(x) // WINDOWS)
    if len(x) < 4 * size:
        return None
    a, b = (np.interp(x, each.x, each.y) for each in (one, other))
    error = np.sqrt((_noise(a) ** 2 + _noise(b) ** 2) / size)
    means = np.convolve(a - b, np.ones(size) / size, mode="valid")
    # Curves without noise diverge as soon as they differ at all.
    apart = np.abs(means) > np.maximum(SURE * error, 1e-12)
    same_side = np.sign(means[:-size]) == np.sign(means[size:])
    windows = np.flatnonzero(apart[:-size] & apart[size:] & same_side)
    return float(x[windows[0] + size // 2]) if len(windows) else None


def _noise(values: Floats) -> float:
    return float(np.sqrt((np.diff(values) ** 2).mean() / 2))


def show(details: Sequence[RunDetail], recorded: catalogue.Recorded) -> None:
    """Show the differences between two runs side by side, and the step at which each default curve diverges."""
    first, second = sorted(details, key=lambda run: run.id)
    code = data.read_code((first.id, second.id))
    rows = differences(first, second, {id: each[-1].source if each else None for id, each in code.items()})
    if rows:
        have_same_name = first.name == second.name
        names = [f"{run.name} ({run.uid})" if have_same_name else run.name for run in (first, second)]
        titles = dict(zip(rows[0], ("area", "field", *names), strict=True))
        cells = {titles[key]: [row[key] for row in rows] for key in rows[0]}
        alt = f"{len(rows)} fields in which two runs differ"
        st.dataframe(cells, key="difference.settings", hide_index=True, alt=alt)
    else:
        st.caption("Settings, code, versions, data and seeds are the same.")
    parted = _divergence_rows(first, second, recorded)
    if parted:
        st.dataframe(parted, key="difference.curves", hide_index=True, alt="Where the curves of two runs diverge")
    st.caption(
        f"Curves diverge where their means over a twentieth of the common steps (at least {FEWEST} values) differ by "
        f"more than {SURE:g} standard errors, in the same direction, in two consecutive windows."
    )


def _divergence_rows(first: RunDetail, second: RunDetail, recorded: catalogue.Recorded) -> dict[str, list[Any]]:
    rows: dict[str, list[Any]] = {"curve": [], WHERE: []}
    for chart in catalogue.FIRST:
        metric = catalogue.metric(chart, recorded)
        if metric is None or not {first.id, second.id} <= recorded[metric]:
            continue
        bands = data.read_rollups((first.id, second.id), metric, points=POINTS)
        both = [Points(bands[run.id].step.astype(float), bands[run.id].mean) for run in (first, second)]
        at = divergence_step(*both)
        is_short = min(len(each.x) for each in both) < 4 * FEWEST
        rows["curve"].append(chart.title)
        rows[WHERE].append(
            f"{at:,.0f}" if at is not None else "too few values" if is_short else "no difference beyond noise"
        )
    return rows if rows["curve"] else {}
