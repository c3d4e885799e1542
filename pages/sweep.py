"""Sweep: which setting gives the best result?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import streamlit as st

from app import theme
from app.curves import address, grouping, selection
from app.curves.selection import ChosenRuns
from app.curves.sweep import best, controls, figures, settings
from app.curves.sweep.figures import Sweep
from app.curves.sweep.settings import Factors
from app.curves.values import AGGREGATES
from app.shared import data, format, links, run_actions, status
from store.db.rows import RunRow

LAUNCH_PAGE, CURVES_PAGE, COMPARE_PAGE = (f"../pages/{name}.py" for name in ("launch", "curves", "compare"))
PICTURES = ("Parallel axes", "Scatter", "Heat map")
Mode = Literal["box", "lasso", "points"]
SELECT: tuple[Mode, ...] = ("box", "lasso", "points")


def result_of(runs: Sequence[RunRow]) -> tuple[Sweep, bool] | None:
    """Show the choice of the metric that ranks settings; return each run's result, and whether lower is better."""
    ids = tuple(run.id for run in runs)
    recorded = data.list_recorded(ids)
    if not recorded:
        st.caption("These runs have no metrics yet.")
        return None
    names = [*(name for name in settings.FIRST_METRICS if name in recorded), *recorded]
    metric = _choice("Metric", "metric", list(dict.fromkeys(names)), settings.first_metric(recorded), width=260)
    aggregate = _choice("Value", "value", list(AGGREGATES), settings.first_aggregate(metric), width=200)
    falling = settings.is_falling(metric)
    direction = _choice("Better is", "better", ["higher", "lower"], "lower" if falling else "higher", width=120)
    summaries = data.read_summary(ids, metric)
    results = {id: float(getattr(each, AGGREGATES[aggregate])) for id, each in summaries.items()}
    title = metric if aggregate == "last" else f"{metric}, {aggregate}"
    names_by_id = {run.id: run.name for run in runs}
    return Sweep(title, results, names_by_id, settings.is_share(metric, results.values())), direction == "lower"


def _choice(label: str, name: str, offered: list[str], default: str, *, width: int) -> str:
    """Show a choice that the URL keeps."""
    key = f"sweep.{name}"
    requested = st.query_params.get(name)
    st.session_state[key] = requested if requested in offered else default
    return st.selectbox(
        label, offered, key=key, width=width, on_change=lambda: links.go(name, **{name: st.session_state[key]})
    )


def value_filter(factors: Factors, ids: Sequence[int]) -> list[int]:
    """Show a filter by values, as an alternative to dragging boxes; return the remaining runs."""
    offered = {
        f"{field} {grouping.value_text(value)}": (field, value)
        for field in factors
        for value in settings.in_order(factors[field].values())
    }
    st.session_state["sweep.keep"] = [each for each in address.read_list("keep") or [] if each in offered]
    chosen = st.multiselect(
        "Keep only",
        list(offered),
        key="sweep.keep",
        placeholder="all settings",
        on_change=lambda: links.go("keep", **_kept_address()),
        help="Values of one setting are combined with OR, different settings with AND.",
    )
    values_by_field: dict[str, set[Any]] = {}
    for each in chosen:
        field, value = offered[each]
        values_by_field.setdefault(field, set()).add(value)
    return [id for id in ids if all(factors[field][id] in values for field, values in values_by_field.items())]


def _kept_address() -> dict[str, str]:
    chosen = st.session_state["sweep.keep"]
    return {"keep": address.join(chosen)} if chosen else {}


def picture(sweep: Sweep, factors: Factors, *, lower: bool) -> list[int]:
    """Draw the chosen picture, and return the selected runs."""
    pictures = PICTURES if len(factors) > 1 else PICTURES[:2]
    kind = st.segmented_control(
        "Chart", pictures, default=pictures[0], key="picture", required=True, bind="query-params"
    )
    fields = list(factors)
    is_dark = st.context.theme.type == "dark"
    if kind == "Parallel axes":
        figure, places = figures.parallel(sweep, factors, lower=lower, dark=is_dark)
        alt = f"{len(sweep.results)} runs across {len(factors)} settings and {sweep.title}"
        event = _chart(figure, "parallel", alt, ("box",))
        st.caption("Drag a box over an axis to select runs; hold Shift to add a box on another axis.")
        boxes = [(*box["x"], *box["y"]) for box in event.selection.box]
        return sorted(settings.runs_in_boxes(places, boxes))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        x = _choice("X axis", "x", fields, fields[0], width=240)
        others = [field for field in fields if field != x]
        if kind == "Heat map":
            y = _choice("Y axis", "y", others, others[0], width=240)
        else:
            y = _choice("Colour", "y", ["none", *others], others[0] if others else "none", width=240)
    if kind == "Heat map":
        figure = figures.heat_map(sweep, (x, factors[x]), (y, factors[y]), lower=lower, dark=is_dark)
        st.plotly_chart(figure, key="sweep.heat", alt=f"Mean {sweep.title} for each pair of {x} and {y}")
        rest = [field for field in others if field != y]
        caption = f"Each cell is the mean over all runs with its two values, for any {', '.join(rest)}." if rest else ""
        st.caption(format.literal(caption or "Each cell is the mean over the seeds of a setting."))
        return []
    figure = figures.scatter(
        sweep,
        x,
        factors[x],
        (y, factors[y]) if y in factors else None,
        colours=[theme.readable(each) for each in grouping.COLOURS],
    )
    event = _chart(figure, "scatter", f"{sweep.title} of {len(sweep.results)} runs over {x}", SELECT)
    st.caption("Bars are 95 % intervals of the mean over runs (Student's t). Drag a box or a lasso to select runs.")
    return [id for point in event.selection.points if (id := _run_id(point)) is not None]


def _chart(figure: Any, name: str, alt: str, modes: tuple[Mode, ...]) -> Any:
    return st.plotly_chart(figure, key=f"sweep.{name}", on_select="rerun", selection_mode=modes, alt=alt)


def _run_id(point: Mapping[str, Any]) -> int | None:
    custom_data = point.get("customdata")
    first = custom_data[0] if isinstance(custom_data, list) and custom_data else custom_data
    return first if isinstance(first, int) else None


def list_runs(runs: Sequence[RunRow], sweep: Sweep, factors: Factors, *, is_part: bool) -> None:
    """List the runs of the picture, or the selected part of them, with links to Curves and Compare."""
    uids = ",".join(run.uid for run in runs)
    with st.container(horizontal=True, vertical_alignment="center", key="sweep_selected"):
        many = format.pluralize(len(runs), "run")
        st.markdown(f"**{many} selected**" if is_part else f"**{many}**", width="content")
        st.page_link(CURVES_PAGE, label="Curves", icon=":material/ssid_chart:", query_params={"runs": uids})
        st.page_link(COMPARE_PAGE, label="Compare", icon=":material/leaderboard:", query_params={"runs": uids})
        if is_part:
            stop_levels = {job.run_id: job.stop_requested for job in data.list_jobs(open_only=True)}
            run_actions.stop_button(runs, [stop_levels.get(run.id, 0) for run in runs], key="sweep_stop")
            run_actions.resume_button(runs, key="sweep_resume")
    cells: dict[str, list[Any]] = {"name": [run.name for run in runs]}
    cells |= {field: [grouping.value_text(values[run.id]) for run in runs] for field, values in factors.items()}
    cells |= {
        sweep.title: [sweep.results.get(run.id) for run in runs],
        "run": [links.page("run", run=run.uid) for run in runs],
    }
    link = st.column_config.LinkColumn("run", display_text="open")
    st.dataframe(
        cells,
        key="sweep.selected",
        hide_index=True,
        placeholder=format.UNKNOWN,
        column_config={"run": link},
        alt=f"Settings and results of {many}",
    )


def body(chosen_ids: tuple[int, ...], chosen: ChosenRuns) -> None:
    """Draw the part of the page that refreshes while a run is active."""
    if chosen.experiment is not None:
        experiment = next((row for row in data.list_experiments() if row.uid == chosen.experiment.uid), None)
        if experiment is not None:
            controls.show(experiment)
    runs = {run.id: run for run in data.list_sound_runs() if run.id in frozenset(chosen_ids)}
    if not runs:
        return
    factors = settings.factors(list(data.get_runs(tuple(runs)).values()), chosen.arms)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        result = result_of(list(runs.values()))
        kept_ids = value_filter(factors, list(runs))
    if result is None:
        return
    sweep, lower = result
    sweep = sweep._replace(results={id: sweep.results[id] for id in kept_ids if id in sweep.results})
    order = settings.rank_settings(settings.settings(factors, sweep.results, is_share=sweep.is_share), lower=lower)
    if not order:
        st.caption("None of these runs has a value for this metric yet.")
        return
    best.show(sweep, factors, order, runs, lower=lower)
    if not factors:
        st.caption("These runs differ only in the seed: launch an experiment that varies a setting.")
        st.page_link(LAUNCH_PAGE, label="Launch", icon=":material/rocket_launch:")
        return
    drawn_factors = {field: {id: values[id] for id in sweep.results} for field, values in factors.items()}
    brushed = picture(sweep, drawn_factors, lower=lower)
    selected_runs = [runs[id] for id in (brushed or kept_ids) if id in runs]
    list_runs(selected_runs, sweep, factors, is_part=bool(brushed) or len(kept_ids) < len(runs))


st.title("Sweep")
all_runs = data.list_sound_runs()
if not any(run.step for run in all_runs):
    if not data.list_experiments():
        st.caption("No run has completed a step yet: launch an experiment that varies a setting.")
        st.page_link(LAUNCH_PAGE, label="Launch", icon=":material/rocket_launch:")
        st.stop()
    st.caption("No run has completed a step yet: results appear after the first one.")
chosen_runs = selection.choose(all_runs, "sweep")
is_live = any(run.status in status.OPEN for run in chosen_runs.runs) or (
    chosen_runs.experiment is not None
    and any(run.status in status.OPEN for run in all_runs if run.id in chosen_runs.experiment.arms)
)
st.fragment(body, run_every=5.0 if is_live else None)(tuple(run.id for run in chosen_runs.runs), chosen_runs)
