"""Curves: compare the metrics of many runs over training."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app import recorded_view
from app.curves import address, axes, catalogue, charts, difference, grouping, legend, selection
from app.curves.axes import SharedAxis
from app.curves.bands import SPREADS, Spread
from app.curves.grouping import Entry
from app.curves.rewards import definition
from app.curves.selection import ChosenRuns
from app.shared import data, format, links, status
from app.shared.live_chart import ClickedPoint, load_library
from store.db.connection import StoreError
from store.db.rows import RunDetail, RunRow

RUNS_PAGE = "../pages/runs.py"
TRACES_PAGE = "../pages/traces.py"
LISTED = 40  # metrics listed per prefix


def controls() -> tuple[axes.Kind, float, bool]:
    """Show and return the x axis, the smoothing and whether the scale is logarithmic; the URL keeps them."""
    kind: axes.Kind = st.segmented_control(
        "X axis",
        axes.KINDS,
        default="step",
        key="axis",
        required=True,
        bind="query-params",
        on_change=lambda: links.go("zoom", "at", "of"),
    )
    smoothing = st.slider(
        "Smoothing",
        0.0,
        0.99,
        0.6,
        key="smoothing",
        bind="query-params",
        width=140,
        help="Weight of past values in the moving average. With up to 8 runs, the raw values stay visible behind it. "
        "Evaluations and probes are never smoothed.",
    )
    log = st.toggle(
        "Log scale",
        key="log",
        bind="query-params",
        help="Applies to lengths, entropy, KL, gradient norm, time and similar metrics.",
    )
    return kind, float(smoothing), bool(log)


def grouping_controls(chosen: ChosenRuns, details: dict[int, RunDetail]) -> tuple[list[Entry], Spread, bool]:
    """Show the grouping controls; return the legend's entries, the spread, and whether single runs are drawn too."""
    fields = grouping.differing(list(details.values()))
    offered = grouping.offered_criteria(chosen.runs, fields, chosen.arms)
    requested = address.read_list("group")
    default = [grouping.ARM] if len(set(chosen.arms.values())) < len(chosen.runs) and chosen.arms else []
    st.session_state["curves.group"] = [
        each for each in (default if requested is None else requested) if each in offered
    ]
    by = st.multiselect(
        "Group by",
        offered,
        key="curves.group",
        width=300 if len(st.session_state["curves.group"]) > 1 else "stretch",
        placeholder="none: one line per run",
        on_change=lambda: links.go(
            *("hidden", "only", "front", "at", "of"), group=address.join(st.session_state["curves.group"])
        ),
        help="A group is one line with a band over its runs, usually seeds. Several fields give one group per "
        "combination of values.",
    )
    spread: Spread = "mean ± standard error"
    singles = False
    if by:
        spread = st.selectbox(
            "Line and band",
            list(SPREADS),
            key="band",
            bind="query-params",
            width=215,
            help="Each run counts from its first to its last value. The line is dotted where some runs have ended; a "
            "band needs two runs. " + " ".join(dict.fromkeys(SPREADS.values())),
        )
        singles = st.toggle("Single runs", key="singles", bind="query-params", help="Also draws each run of a group.")
    return grouping.entries(chosen.runs, by, fields, chosen.arms), spread, singles


def note(entry: Entry) -> str:
    """Return a run's length, or a group's number of runs and their lengths."""
    steps = [run.step for run in entry.members]
    least, most = min(steps), max(steps)
    length = format.pluralize(least, "step") if least == most else f"{least:,}–{most:,} steps"
    live = ", running" if any(run.status in status.OPEN for run in entry.members) else ""
    return f"n = {len(steps)}, {length}{live}" if entry.is_group else f"{length}{live}"


def on_point(point: ClickedPoint, axis: SharedAxis, runs: dict[str, RunRow]) -> None:
    """Open a run's traces at the clicked step; for a group, put the clicked point into the URL."""
    if point.key in runs:
        run = runs[point.key]
        st.switch_page(TRACES_PAGE, query_params={"run": run.uid, "step": str(axis.step(run.id, point.x))})
    elif point.key is not None:
        links.go(at=f"{point.x:.6g}", of=point.key)


def place_bar(entries: list[Entry], axis: SharedAxis) -> None:
    """Show links to the clicked group's runs, at the clicked step."""
    place, of = st.query_params.get("at", ""), st.query_params.get("of")
    entry = next((each for each in entries if each.key == of and each.is_group), None)
    try:
        at = float(place)
    except ValueError:
        return
    if entry is None:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="place"):
        st.markdown(f"**{format.literal(entry.label)}** at {axis.title} {format.number(at)}:", width="content")
        for run in entry.members:
            if axis.has(run.id):
                step = min(axis.step(run.id, at), run.step)
                query = {"run": run.uid, "step": str(step)}
                st.page_link(TRACES_PAGE, label=format.literal(run.name), query_params=query)
        st.button(
            "Clear", key="clear_place", icon=":material/close:", type="tertiary", on_click=lambda: links.go("at", "of")
        )


def add_charts(recorded: catalogue.Recorded, order: list[str]) -> None:
    """Show a search over all metrics of the runs; each selected metric becomes a chart."""
    with st.popover("Add or remove charts", icon=":material/add_chart:", key="add_charts", width="content"):
        pattern = st.text_input(
            "Find metrics", key="curves.find_metric", placeholder="regular expression, for example ^probe/"
        )
        try:
            names = catalogue.matching(recorded, pattern or "")
        except StoreError as error:
            st.error(format.literal(str(error)))
            return
        usual = [chart.key for chart in catalogue.FIRST if catalogue.metric(chart, recorded)]
        _pills("Default charts", usual, order, lambda key: catalogue.chart(key).title)
        default_metrics = {catalogue.metric(catalogue.chart(key), recorded) for key in usual}
        for prefix, metrics in catalogue.by_prefix([name for name in names if name not in default_metrics]).items():
            _pills(f"{format.literal(prefix)}/" if prefix else "No prefix", metrics[:LISTED], order, str)
            if len(metrics) > LISTED:
                st.caption(f"{len(metrics) - LISTED} more: narrow the search to see them.")
        if not names:
            st.caption("No metric matches the search.")
        if "charts" in st.query_params:
            st.button("Reset to the default charts", key="usual_charts", on_click=lambda: links.go("charts", "wide"))


def _pills(label: str, keys: list[str], order: list[str], label_of: Callable[[str], str]) -> None:
    key = f"curves.pills.{label}"
    st.session_state[key] = [each for each in keys if each in order]

    def change() -> None:
        now = st.session_state[key]
        selected = [each for each in order if each not in keys or each in now]
        links.go(charts=address.join([*selected, *(each for each in now if each not in order)]))

    st.pills(
        label,
        keys,
        selection_mode="multi",
        key=key,
        format_func=lambda each: format.literal(label_of(each)),
        on_change=change,
    )


def body(chosen_ids: tuple[int, ...], chosen: ChosenRuns) -> None:
    """Draw the part of the page that refreshes while a run is active."""
    runs = [run for run in data.list_sound_runs() if run.id in frozenset(chosen_ids)]
    if not runs:
        return
    chosen = chosen._replace(runs=runs)
    details = data.get_runs(chosen_ids)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        entries, spread, singles = grouping_controls(chosen, details)
        kind, smoothing, log = controls()
    recorded = data.list_recorded(chosen_ids)
    if not recorded:
        st.caption("These runs have no metrics yet.")
        return
    clocks = data.read_clocks(chosen_ids) if kind in ("time", "tokens") else {}
    axis = axes.axis(kind, clocks, list(details.values()))
    requested = address.read_list("charts")
    order = catalogue.first(recorded) if requested is None else list(dict.fromkeys(requested))
    keys = [entry.key for entry in entries]
    legend_state = address.legend(keys)
    with st.container(key="curves_legend_place"):
        legend.show(
            entries, [note(entry) for entry in entries], legend_state, lambda new: address.keep_legend(new, keys)
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        zoom = links.zoom()
        add_charts(recorded, order)
        if zoom is None:
            st.caption("Drag to zoom all charts, double-click to zoom out. Click a curve to open its traces.")
        else:
            st.caption(f"{axis.title} {format.number(zoom[0])} to {format.number(zoom[1])}, at full resolution")
            st.button("Zoom out", key="zoom_out", icon=":material/zoom_out_map:", on_click=links.set_zoom, args=(None,))
    place_bar(entries, axis)
    view = charts.ChartsView(
        axis, smoothing, log, spread, singles, zoom, legend_state, order, recorded, definition(list(details.values()))
    )
    if len(runs) == 2 and st.toggle("Show how the two runs differ", key="difference", bind="query-params"):
        difference.show(list(details.values()), recorded)
    by_uid = {run.uid: run for run in runs}
    charts.draw(entries, view, on_point=lambda point: on_point(point, axis, by_uid))


st.title("Curves")
all_runs = data.list_sound_runs()
if not all_runs:
    recorded_view.no_runs("the curves of many runs in one chart")
if not any(run.step for run in all_runs):
    st.caption("No run has completed a step yet: start the demo or launch a run.")
    st.page_link(RUNS_PAGE, label="Runs", icon=":material/list_alt:")
    st.stop()
load_library()
selected = selection.choose(all_runs, "curves")
if selected.runs:
    is_live = any(run.status in status.OPEN for run in selected.runs)
    st.fragment(body, run_every=3.0 if is_live else None)(tuple(run.id for run in selected.runs), selected)
