"""The table of runs with chosen columns. The URL keeps columns, order, groups and baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from app.curves import address, grouping, values
from app.curves.values import DESCENDING, Cell, ValuesColumn
from app.shared import data, format, intents, links, run_actions, status
from store.db.rows import RunDetail, RunRow
from store.db.values import flat

EDITOR = "values.table"
CHOSEN = "chosen"
EDITABLE = (CHOSEN, "name", "note", "tags")
ARCHIVED = "archived"
"""Tag of runs that the table hides by default."""
FIRST = ("reward:last", "val/accuracy:highest")
"""Metrics shown by default, together with the configuration fields that differ."""
MOST_FIELDS = 6
ROW = 35
"""Height of a row and of the header, in pixels."""


def table(runs: Sequence[RunRow]) -> list[RunRow] | None:
    """Show the table and return the ticked runs; None if the rows are groups."""
    left = _unarchived(runs)
    if not left:
        st.caption("All of these runs are archived.")
        return []
    ids = tuple(run.id for run in left)
    details = data.get_runs(ids)
    differing = grouping.differing(list(details.values()))
    by_key = _columns(left, details, differing)
    order, groups, baseline = _choices(left, by_key, differing)
    by_id = {run.id: run for run in left}
    sorted_ids = values.sort_runs(list(by_id), by_key, order)
    sorted_runs = [by_id[id] for id in sorted_ids]
    if groups:
        _grouped(sorted_runs, groups, by_key, differing, order)
        return None
    return _editor(sorted_runs, by_key, details, baseline)


def _unarchived(runs: Sequence[RunRow]) -> list[RunRow]:
    unarchived = [run for run in runs if ARCHIVED not in run.tags]
    if len(unarchived) == len(runs):
        return unarchived
    label = f"Show {len(runs) - len(unarchived)} archived"
    return list(runs) if st.toggle(label, key="archived", bind="query-params") else unarchived


def _columns(
    runs: Sequence[RunRow], details: Mapping[int, RunDetail], differing: Mapping[str, Mapping[int, str]]
) -> dict[str, ValuesColumn]:
    """Show the choice of columns, and return the columns by key."""
    ids = tuple(details)
    settings = {id: flat(run.config) for id, run in details.items()}
    recorded = data.list_recorded(ids)
    metrics = [f"{name}:{aggregate}" for name in recorded for aggregate in values.AGGREGATES]
    fields = list(dict.fromkeys(field for each in settings.values() for field in each))
    default = [*list(differing)[:MOST_FIELDS], *(key for key in FIRST if key.rpartition(":")[0] in recorded), "note"]
    requested = address.read_list("columns")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        only = st.toggle(
            "Only differing fields",
            value=True,
            key="differs",
            bind="query-params",
            help="Lists and shows only configuration fields in which these runs differ.",
        )
        offered = [*values.RUN_COLUMNS, *(list(differing) if only else fields), *metrics]
        st.session_state["values.columns"] = [
            key for key in (default if requested is None else requested) if key in offered
        ]
        chosen = st.multiselect(
            "Columns",
            offered,
            key="values.columns",
            format_func=_title,
            on_change=lambda: links.go(columns=address.join(st.session_state["values.columns"])),
        )
    return {key: _column(key, runs, details, settings, ids) for key in chosen}


def _title(key: str) -> str:
    metric = values.metric_of(key.removeprefix(DESCENDING))
    return f"{metric[0]} · {metric[1]}" if metric else key


def _column(
    key: str,
    runs: Sequence[RunRow],
    details: Mapping[int, RunDetail],
    settings: Mapping[int, Mapping[str, Any]],
    ids: tuple[int, ...],
) -> ValuesColumn:
    metric = values.metric_of(key)
    if metric is not None:
        return values.of_metric(key, data.read_summary(ids, metric[0]))
    if key in values.RUN_COLUMNS:
        return ValuesColumn(key, {run.id: _of_run(key, run, details.get(run.id)) for run in runs})
    return values.of_field(key, settings)


def _of_run(key: str, run: RunRow, detail: RunDetail | None) -> Cell:
    if key == "note":
        return detail.note if detail else None
    if key == "status":
        return status.look(run.status).label
    if key == "created":
        return datetime.fromtimestamp(run.created_at, UTC).strftime("%Y-%m-%d %H:%M")
    if key == "tags":
        return ", ".join(run.tags) or None
    cell: Cell = getattr(run, key)
    return cell


def _choices(
    runs: Sequence[RunRow], columns: Mapping[str, ValuesColumn], differing: Mapping[str, Mapping[int, str]]
) -> tuple[list[str], list[str], int | None]:
    """Show and return the order, the groups and the baseline."""
    orders = [mark + key for key in columns for mark in (DESCENDING, "")]
    offered = grouping.offered_criteria(runs, differing, {})
    by_uid = {run.uid: run for run in runs}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        order = _list("Sort by", "sort", orders, "newest first")
        groups = _list("Group rows by", "group", offered, "none")
        requested_uid = st.query_params.get("baseline")
        st.session_state["values.baseline"] = requested_uid if requested_uid in by_uid else None
        uid = st.selectbox(
            "Baseline",
            list(by_uid),
            index=None,
            key="values.baseline",
            format_func=lambda uid: by_uid[uid].name,
            placeholder="none",
            on_change=lambda: _go("baseline", st.session_state["values.baseline"]),
            help="Keeps this run on top, and adds a column with the difference from it to each numeric column.",
        )
    return order, groups, by_uid[uid].id if uid else None


def _list(label: str, name: str, offered: Sequence[str], placeholder: str) -> list[str]:
    key = f"values.{name}"
    st.session_state[key] = [each for each in address.read_list(name) or [] if each in offered]
    return st.multiselect(
        label,
        offered,
        key=key,
        placeholder=placeholder,
        on_change=lambda: _go(name, address.join(st.session_state[key]) if st.session_state[key] else None),
    )


def _go(name: str, value: str | None) -> None:
    links.go(name, **({name: value} if value else {}))


def _grouped(
    runs: Sequence[RunRow],
    by: Sequence[str],
    columns: Mapping[str, ValuesColumn],
    differing: Mapping[str, Mapping[int, str]],
    order: Sequence[str],
) -> None:
    entries = grouping.entries(runs, by, differing, {})
    members = {entry.label: [run.id for run in entry.members] for entry in entries}
    groups = values.sort_groups(members, columns, order)
    rows = values.in_groups(groups, list(columns.values()))
    cells = {_title(key): [row[key] for row in rows] for key in rows[0]}
    measured = {"n": "n"} | {key: _title(key) for key, column in columns.items() if column.is_measured}
    st.dataframe(
        cells,
        key="values.groups",
        hide_index=True,
        placeholder=format.UNKNOWN,
        column_config={name: st.column_config.Column(name, alignment="right") for name in measured.values()},
        alt=f"{format.pluralize(len(rows), 'group')} of runs",
    )
    st.caption("Numbers are mean ± standard deviation over the runs of a group.")
    _download(rows)


def _editor(
    runs: list[RunRow], columns: Mapping[str, ValuesColumn], details: Mapping[int, RunDetail], baseline: int | None
) -> list[RunRow]:
    """Show one row per run with editable name, note and tags; return the ticked runs."""
    if baseline is not None:
        runs.sort(key=lambda run: run.id != baseline)
    cells: dict[str, list[Any]] = {
        CHOSEN: [run.uid in st.session_state.get("values.ticked", ()) for run in runs],
        "name": [run.name for run in runs],
    }
    differences = values.baseline_differences(list(columns.values()), baseline) if baseline is not None else {}
    for key, column in columns.items():
        if key not in ("note", "tags"):
            cells[key] = [column.cells.get(run.id) for run in runs]
        if key in differences:
            cells[f"Δ {key}"] = [differences[key].get(run.id) for run in runs]
    cells["note"] = [details[run.id].note or "" for run in runs]
    cells["tags"] = [list(run.tags) for run in runs]
    key = f"{EDITOR}.{st.session_state.get('values.version', 0)}"
    st.data_editor(
        cells,
        key=key,
        hide_index=True,
        disabled=[name for name in cells if name not in EDITABLE],
        height=min(ROW * (len(runs) + 1) + 2, 640),
        placeholder=format.UNKNOWN,
        column_config=_config({tag for run in runs for tag in run.tags}, columns),
        on_change=_commit,
        args=(key, runs),
        alt=f"{len(runs)} runs in the chosen columns; name, note and tags are editable",
    )
    _download([{name: each[i] for name, each in cells.items() if name != CHOSEN} for i in range(len(runs))])
    ticked = st.session_state.get("values.ticked", ())
    return [run for run in runs if run.uid in ticked]


def _config(tags: set[str], columns: Mapping[str, ValuesColumn]) -> dict[str, Any]:
    forms = {key: format.aligned_format(_numbers(column)) for key, column in columns.items() if values.metric_of(key)}
    return {
        CHOSEN: st.column_config.CheckboxColumn("✓", width=40, help="Tick rows to act on them."),
        "name": st.column_config.TextColumn("name"),
        "note": st.column_config.TextColumn("note", width="medium"),
        "tags": st.column_config.MultiselectColumn("tags", options=sorted({*tags, ARCHIVED}), accept_new_options=True),
        **{key: st.column_config.NumberColumn(_title(key), format=form) for key, form in forms.items()},
        **{
            f"Δ {key}": st.column_config.NumberColumn(
                f"Δ {_title(key)}", format=forms.get(key, "%.4g").replace("%", "%+")
            )
            for key in columns
        },
    }


def _difference(key: str, form: str) -> Any:
    return st.column_config.NumberColumn(f"Δ {_title(key)}", format=form.replace("%", "%+"))


def _numbers(column: ValuesColumn) -> list[float]:
    return [cell for cell in column.cells.values() if isinstance(cell, int | float)]


def _commit(key: str, runs: Sequence[RunRow]) -> None:
    """Save the edits of the table; the next table starts from the database again."""
    ticked = set(st.session_state.get("values.ticked", ()))
    for row, changed in st.session_state[key]["edited_rows"].items():
        run = runs[int(row)]
        if CHOSEN in changed:
            (ticked.add if changed[CHOSEN] else ticked.discard)(run.uid)
        if "name" in changed or "note" in changed:
            note = (changed["note"] or "") if "note" in changed else None
            name = (changed["name"] or "") if "name" in changed else None
            run_actions.attempt(lambda: intents.change_run(run, name=name, note=note))  # noqa: B023 - called at once
        if "tags" in changed:
            run_actions.attempt(intents.tag_runs, [run], list(changed["tags"] or ()))
    st.session_state["values.ticked"] = ticked
    st.session_state["values.version"] = st.session_state.get("values.version", 0) + 1


def _download(rows: Sequence[Mapping[str, Any]]) -> None:
    st.download_button(
        "Export as CSV", values.as_csv(rows), "runs.csv", "text/csv", key="values.csv", icon=":material/download:"
    )
