"""The curves of a report: the outcome charts of one run, or of several runs overlaid."""

from __future__ import annotations

from collections.abc import Sequence

from app.report.chart import ReportLine, chart
from app.run import charts as run_charts
from app.run.charts import Chart, MetricCurve
from app.shared.figures import BLUE, METHOD_STYLE, PALETTE, VERMILLION
from store.db.engine import Store
from store.db.rows import RunDetail, Series
from store.metrics import read_series

POINTS = 300
COLORS = (BLUE, VERMILLION, *PALETTE)
DASHES = {"solid": "", "dash": "6 3", "dot": "2 3"}


def charts(store: Store, runs: Sequence[RunDetail]) -> str:
    """Return the charts of one run with all curves, or of several runs with one curve each."""
    charts_by_run = {run.id: {run_chart.key: run_chart for run_chart in _of(run)} for run in runs}
    keys = list(dict.fromkeys(key for run in runs for key in charts_by_run[run.id]))
    charts_html = []
    for key in keys:
        members = [(run, charts_by_run[run.id][key]) for run in runs if key in charts_by_run[run.id]]
        lines = [line for run, run_chart in members for line in _lines(store, run, run_chart, alone=len(runs) == 1)]
        if len(runs) > 1:
            lines = _color_lines(lines, [run for run, _ in members])
        charts_html.append(chart(members[0][1].title, lines, is_share=members[0][1].share))
    return "".join(charts_html)


def _of(run: RunDetail) -> list[Chart]:
    components = list(run.reward_weights)
    return [*run_charts.outcome(run.method, components), *run_charts.optimization(run.method)]


def _lines(store: Store, run: RunDetail, run_chart: Chart, *, alone: bool) -> list[ReportLine]:
    """Return the chart's curves; with several runs, only the first recorded curve of each."""
    series = read_series(store, run.id, [curve.metric for curve in run_chart.curves], points=POINTS)
    recorded_curves = [curve for curve in run_chart.curves if curve.metric in series and len(series[curve.metric].step)]
    if not alone:
        return [_line(f"{run.name}: {curve.label}", curve, series[curve.metric], BLUE) for curve in recorded_curves[:1]]
    return [
        _line(curve.label, curve, series[curve.metric], COLORS[number % len(COLORS)])
        for number, curve in enumerate(recorded_curves)
    ]


def _line(name: str, curve: MetricCurve, values: Series, color: str, dash: str = "") -> ReportLine:
    return ReportLine(name, values.step.astype(float), values.value, color, dash, curve.sparse)


def _color_lines(lines: Sequence[ReportLine], runs: Sequence[RunDetail]) -> list[ReportLine]:
    """Give each run its method's colour and dash; more runs of a method get other colours."""
    colored_lines, used_colors, others = [], set[str](), iter(PALETTE * len(lines))
    for line, run in zip(lines, runs, strict=False):
        color, dash = METHOD_STYLE.get(run.method, (BLUE, "solid"))
        color = color if color not in used_colors else next(others)
        used_colors.add(color)
        colored_lines.append(line._replace(color=color, dash=DASHES.get(dash, "")))
    return colored_lines
