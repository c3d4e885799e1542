"""A line chart as inline SVG, without scripts, so that it is safe and opens everywhere. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from app.shared import format
from app.shared.trace_text import visible

Floats = npt.NDArray[np.floating[Any]]
WIDTH, HEIGHT = 460.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 20.0, 8.0, 26.0
"""Margins around the plot area, in pixels."""
TICKS = 4


class ReportLine(NamedTuple):
    """A curve over steps; NaN is a gap. `sparse` curves have few measurements, each marked by a dot."""

    name: str
    step: Floats
    value: Floats
    color: str
    dash: str = ""
    sparse: bool = False


def chart(title: str, lines: Sequence[ReportLine], *, is_share: bool = False) -> str:
    """Return a chart with title, legend and a table of key values; empty without any finite value."""
    finite_lines = [line for line in lines if np.isfinite(line.value).any()]
    if not finite_lines:
        return ""
    steps = np.concatenate([line.step[np.isfinite(line.value)] for line in finite_lines])
    values = np.concatenate([line.value[np.isfinite(line.value)] for line in finite_lines])
    x = _scale(float(steps.min()), float(steps.max()), LEFT, WIDTH - RIGHT)
    low, high = (0.0, 1.0) if is_share else _room(float(values.min()), float(values.max()))
    y = _scale(low, high, HEIGHT - BOTTOM, TOP)
    say = format.percent if is_share else format.number
    mark = format.percent if is_share else "{:,g}".format
    grid = "".join(
        f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
        f'<text x="{LEFT - 6:g}" y="{y(tick) + 4:.1f}" text-anchor="end">{visible(mark(tick))}</text>'
        for tick in ticks(low, high)
    )
    below = "".join(
        f'<text x="{x(tick):.1f}" y="{HEIGHT - 8:g}" text-anchor="middle">{tick:,.0f}</text>'
        for tick in ticks(float(steps.min()), float(steps.max()))
        if tick == int(tick)
    )
    paths = "".join(_path(line, x, y) for line in finite_lines)
    return (
        f'<figure><figcaption>{visible(title)}</figcaption><svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" '
        f'aria-label="{visible(title)} by step">{grid}{below}{paths}</svg>{_ends(finite_lines, say)}</figure>'
    )


def ticks(low: float, high: float) -> list[float]:
    """Return about TICKS round numbers from `low` to `high`."""
    if high <= low:
        return [low]
    raw = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _room(low: float, high: float) -> tuple[float, float]:
    """Return limits slightly wider than the values, never of zero width."""
    room = 0.04 * (high - low) or max(abs(high), 1.0) * 0.1
    return low - room, high + room


def _scale(low: float, high: float, start: float, end: float) -> Any:
    width = (high - low) or 1.0
    return lambda value: start + (value - low) / width * (end - start)


def _path(line: ReportLine, x: Any, y: Any) -> str:
    """Return the line, broken where values are missing, and its dots."""
    parts, move = [], True
    for step, value in zip(line.step.tolist(), line.value.tolist(), strict=True):
        if not math.isfinite(value):
            move = True
            continue
        parts.append(f"{'M' if move else 'L'}{x(step):.1f} {y(value):.1f}")
        move = False
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    svg = f'<path d="{"".join(parts)}" stroke="{line.color}"{dash}/>'
    if line.sparse or len(parts) == 1:
        svg += "".join(
            f'<circle cx="{x(step):.1f}" cy="{y(value):.1f}" r="2.5" fill="{line.color}"/>'
            for step, value in zip(line.step.tolist(), line.value.tolist(), strict=True)
            if math.isfinite(value)
        )
    return svg


def _ends(lines: Iterable[ReportLine], say: Any) -> str:
    """Return the legend: each line's name with its first, lowest, highest and last value."""
    rows = []
    for line in lines:
        is_known = np.isfinite(line.value)
        value, step = line.value[is_known], line.step[is_known]
        cells = (say(float(value[0])), say(float(value.min())), say(float(value.max())), say(float(value[-1])))
        key = f'<span class="key" style="background:{line.color}"></span>'
        numbers = "".join(f"<td>{visible(cell)}</td>" for cell in cells)
        rows.append(f"<tr><th scope='row'>{key}{visible(line.name)}</th>{numbers}<td>{step[-1]:,.0f}</td></tr>")
    head = "".join(
        f"<th scope='col'>{name}</th>" for name in ("Curve", "first", "lowest", "highest", "last", "at step")
    )
    return f"<table class='ends'><tr>{head}</tr>{''.join(rows)}</table>"
