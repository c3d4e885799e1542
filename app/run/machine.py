"""Load of the machine during the run: CPU, memory and GPUs over time, with the phases of steps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import streamlit as st

from app.shared import data, figures, format
from app.shared.live_chart import live_chart
from store.db.rows import Clock, EvaluationRow, RunDetail, Series
from store.surroundings.machine import Readings

UNITS = ((7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
GAP = 5.0
"""A line breaks where readings are this many times further apart than usual: the run was paused."""
PHASES = {
    "generation": figures.BLUE,
    "scoring": figures.GREEN,
    "tokens": figures.PURPLE,
    "update": figures.ORANGE,
}
"""Colours of the phases of a step, in order, by the names in `time/PHASE`."""
MOST_PHASES = 200
"""Maximum number of phases drawn individually; for more, only their shares are stated."""
GIB = 2.0**30


class Panel(NamedTuple):
    """A chart: labels of its readings by name, and the divisor of their values."""

    title: str
    help: str
    names: Mapping[str, str]
    share: bool = False
    divisor: float = 1.0


class Phase(NamedTuple):
    """A stretch of time, in seconds since the epoch."""

    name: str
    begin: float
    end: float
    colour: str


def panels(readings: Mapping[str, Readings]) -> list[Panel]:
    """Return the charts for the available readings; all GPUs share one chart per kind."""
    gpus = sorted({int(match[1]) for name in readings if (match := re.fullmatch(r"gpu(\d{1,4})/\w+", name))})

    def of_gpus(kind: str) -> dict[str, str]:
        return {f"gpu{gpu}/{kind}": f"GPU {gpu}" for gpu in gpus if f"gpu{gpu}/{kind}" in readings}

    heat = {"cpu/temperature": "processor"} | of_gpus("temperature")
    offered = (
        Panel("GPU utilization", "Share of time in which a kernel was running.", of_gpus("use"), share=True),
        Panel("GPU memory (GiB)", "Used by all processes on the GPU.", of_gpus("memory"), divisor=GIB),
        Panel("GPU power (W)", "As reported by the driver.", of_gpus("power")),
        Panel("CPU (cores)", "Cores kept busy by the run's processes.", {"cpu": "the run"}),
        Panel("CPU utilization", "Of all processes on the machine.", {"cpu/machine": "all processes"}, share=True),
        Panel(
            "Memory (GiB)",
            "Resident memory of the run's processes; shared pages count once per process.",
            {"memory": "the run"},
            divisor=GIB,
        ),
        Panel("Memory in use", "Of all processes on the machine.", {"memory/machine": "all processes"}, share=True),
        Panel("Temperature (°C)", "Hottest sensor of each device.", heat),
    )
    present = [panel._replace(names={n: w for n, w in panel.names.items() if n in readings}) for panel in offered]
    return [panel for panel in present if panel.names]


def machine_tab(run: RunDetail) -> None:
    """Show the charts, or say why there are none."""
    readings = data.read_machine(run.id)
    panel_list = panels(readings)
    if not panel_list:
        st.caption(
            "No readings yet: our trainer takes one every ten seconds. Imported runs and recorded scripts have none."
        )
        return
    begin = min(float(each.at[0]) for each in readings.values())
    end = max(float(each.at[-1]) for each in readings.values())
    _, size, unit = next(each for each in UNITS if end - begin >= each[0])
    times = data.read_series(run.id, [f"time/{name}" for name in PHASES], points=MOST_PHASES)
    clock = data.read_clock(run.id)
    marked = [*phases(clock, times), *evaluations(data.list_evaluations(run.id))]
    st.caption(" ".join(part for part in (shares(times), legend(marked)) if part))
    shaded = [_shade(phase, begin, size) for phase in marked]
    with st.grid(2, min_column_width=360, gap="small"):
        for number, panel in enumerate(panel_list):
            with st.container(border=True, key=f"machine_{number}", gap="xxsmall", height="stretch"):
                st.markdown(f"**{panel.title}**", help=panel.help)
                lines = [
                    _line(line_label, readings[name], begin, size, panel.divisor, colour)
                    for (name, line_label), colour in zip(panel.names.items(), _colours(len(panel.names)), strict=True)
                ]
                frame = figures.Frame(f"time ({unit})", panel.title, height=220)
                figure = figures.line_chart(lines, frame, share=panel.share)
                figure.update_layout(shapes=shaded)
                live_chart(figure, key=f"machine.{panel.title}", alt=takeaway(panel, lines))


def _shade(phase: Phase, begin: float, size: float) -> dict[str, Any]:
    """Return the shaded background of a phase."""
    ends = {"x0": (phase.begin - begin) / size, "x1": (phase.end - begin) / size}
    look = {"fillcolor": figures.with_opacity(phase.colour, 0.16), "line": {"width": 0}, "layer": "below"}
    return {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, **ends, **look}


def _line(label: str, read: Readings, begin: float, size: float, divisor: float, colour: str) -> figures.Line:
    """Return a line with its extremes as a band, and a gap where the run was paused."""
    apart = np.diff(read.at)
    breaks = np.flatnonzero(apart > GAP * np.median(apart)) + 1 if len(apart) else np.empty(0, int)
    x, *values = (np.insert(each, breaks, np.nan) for each in (read.at, read.mean, read.low, read.high))
    x[np.isnan(x)] = read.at[breaks - 1]
    mean, low, high = (each / divisor for each in values)
    has_band = bool(np.nanmax(high - low, initial=0.0) > 0)
    return figures.Line(
        label, (x - begin) / size, mean, colour, low=low if has_band else None, high=high if has_band else None
    )


def _colours(count: int) -> list[str]:
    palette = (figures.BLUE, figures.VERMILLION, *figures.PALETTE)
    return [palette[number % len(palette)] for number in range(count)]


def phases(clock: Clock, times: Mapping[str, Series]) -> list[Phase]:
    """Return the phases of the steps with known times, counted back from the time at which each step was recorded.

    Return nothing if there are too many to tell apart.
    """
    ends = dict(zip(clock.step.tolist(), clock.at.tolist(), strict=True))
    seconds_by_step = {name: dict(zip(s.step.tolist(), s.value.tolist(), strict=True)) for name, s in times.items()}
    steps = sorted(set(ends) & {step for each in seconds_by_step.values() for step in each})
    if not 0 < len(steps) * len(PHASES) <= MOST_PHASES:
        return []
    phase_list = []
    for step in steps:
        spent = {name: seconds_by_step.get(f"time/{name}", {}).get(step, 0.0) for name in PHASES}
        at = ends[step] - sum(value for value in spent.values() if value > 0)
        for name, seconds in spent.items():
            if seconds > 0:
                phase_list.append(Phase(name, at, at + seconds, PHASES[name]))
                at += seconds
    return phase_list


def evaluations(rows: Sequence[EvaluationRow], limit: int = 60) -> list[Phase]:
    """Return the run's evaluations as phases; nothing if there are too many to tell apart."""
    ended = [row for row in rows if row.ended_at is not None]
    if len(ended) > limit:
        return []
    return [Phase("evaluation", row.started_at, float(row.ended_at or 0.0), figures.GREY) for row in ended]


def shares(times: Mapping[str, Series]) -> str:
    """Return `Time per step: generation 61 %, scoring 2 %, update 37 %.`"""
    means = {name: float(np.nanmean(times[f"time/{name}"].value)) for name in PHASES if _has(times.get(f"time/{name}"))}
    total = sum(means.values())
    if total <= 0:
        return ""
    return "Time per step: " + ", ".join(f"{name} {format.percent(part / total)}" for name, part in means.items()) + "."


def _has(series: Series | None) -> bool:
    return series is not None and bool(np.isfinite(series.value).any())


def legend(marked: Sequence[Phase]) -> str:
    """Return the colour of each phase in words."""
    words_by_colour = {figures.BLUE: "blue", figures.GREEN: "green", figures.PURPLE: "purple", figures.ORANGE: "orange"}
    colour_names = {phase.name: words_by_colour.get(phase.colour, "grey") for phase in marked}
    return (
        "Shaded: " + ", ".join(f"{name} {colour}" for name, colour in colour_names.items()) + "."
        if colour_names
        else ""
    )


def takeaway(panel: Panel, lines: Sequence[figures.Line]) -> str:
    """Return `GPU utilization over time: GPU 0 97 % on average.`"""
    parts = []
    for line in lines:
        mean = float(np.nanmean(line.y))
        parts.append(f"{line.name} {format.percent(mean) if panel.share else format.number(mean)} on average")
    return f"{panel.title} over time: {', '.join(parts)}."
