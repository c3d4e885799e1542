"""The table of all runs. A selection refers to runs, not rows: it stays when new runs push the others down."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from app import recorded
from app.shared import format, status
from store.db.rows import RunRow

KEY = "runs_table"
ORDER = "runs_table order"
SELECTED = "runs_table selected"
OPENED = "runs_table opened"
RUN_PAGE = "../pages/run.py"
ROW, HEAD, MOST_HEIGHT = 38, 37, 720
"""Heights in pixels of a row, of the header with the borders, and of a table that scrolls."""
RECORDED = "recorded"
"""Shown as the status of the runs that come with the project, none of which ran here."""


def runs_table(runs: Sequence[RunRow]) -> list[RunRow]:
    """Show the runs in the given order and return the selected ones."""
    order = [run.uid for run in runs]
    chosen = [uid for uid in st.session_state.get(SELECTED, []) if uid in order]
    rows = [order.index(uid) for uid in chosen]
    if KEY in st.session_state and sorted(st.session_state[KEY]["selection"]["rows"]) != sorted(rows):
        st.session_state[KEY] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    st.session_state[ORDER] = order
    cells = columns(runs)
    st.dataframe(
        cells,
        key=KEY,
        on_select=_remember,
        selection_mode="multi-row",
        hide_index=True,
        row_height=ROW,
        height=min(ROW * len(runs) + HEAD, MOST_HEIGHT),
        placeholder=format.UNKNOWN,
        column_config=_config(),
        column_order=[name for name in cells if name != "left" or any(cells[name])],
        alt=f"{len(runs)} runs with method, model, status, progress, reward and accuracy",
    )
    return [run for run in runs if run.uid in chosen]


def columns(runs: Sequence[RunRow]) -> dict[str, list[Any]]:
    """Return the table's cells by column."""
    return {
        "name": [run.name for run in runs],
        "method": [status.METHODS.get(run.method, run.method) + _direct(run) for run in runs],
        "model": [run.model.rstrip("/").rpartition("/")[2] for run in runs],
        "rank": [run.lora_rank for run in runs],
        "status": [_states(run) for run in runs],
        "progress": [_percent(status.progress(run)) for run in runs],
        "left": [status.seconds_left(run) for run in runs],
        "reward": [list(run.sparkline) if len(run.sparkline) > 1 else None for run in runs],
        "accuracy": [_accuracy(run) for run in runs],
        "measured": [status.accuracy_source(run) for run in runs],
        "created": [datetime.fromtimestamp(run.created_at, UTC) for run in runs],
    }


def _config() -> dict[str, Any]:
    looks = [*status.LOOKS.values(), status.IMPORTED, status.SILENT]
    return {
        "name": st.column_config.ButtonColumn(
            "Name", on_click=_open, key=OPENED, type="tertiary", pinned=True, alignment="left", help="Opens the run."
        ),
        "method": st.column_config.TextColumn("Method", width=100),
        "model": st.column_config.TextColumn("Model", width=82),
        "rank": st.column_config.NumberColumn("Rank", help="LoRA rank", width=48),
        "status": st.column_config.MultiselectColumn(
            "Status",
            options=[*(each.label for each in looks), RECORDED],
            color=[*(each.color for each in looks), "gray"],
            width=104,
        ),
        "progress": st.column_config.ProgressColumn("Progress", min_value=0, max_value=100, format="%d %%", width=86),
        "left": st.column_config.NumberColumn(
            "Time left", format="duration", width=70, help="Estimated at the current pace"
        ),
        "reward": st.column_config.LineChartColumn(
            "Reward",
            width=72,
            help="Weighted sum of the components over training, on training samples; for SFT on probe samples",
        ),
        "accuracy": st.column_config.TextColumn(
            "Accuracy (95 %)",
            width=114,
            alignment="right",
            help="Share of right greedy answers on held-out examples, with 95 % Wilson interval: latest measurement",
        ),
        "measured": st.column_config.TextColumn(
            "Measured on",
            width=140,
            help="Probe: a few validation examples. Validation: all of them. Test: test split, at the end",
        ),
        "created": st.column_config.DatetimeColumn("Created", format="distance", width=94),
    }


def _states(run: RunRow) -> list[str]:
    return [RECORDED] if recorded.is_recorded(run) else [status.look_now(run, time.time()).label]


def _percent(share: float | None) -> int | None:
    return None if share is None else int(100 * share)


def _direct(run: RunRow) -> str:
    return " direct" if run.style == "direct" else ""


def _accuracy(run: RunRow) -> str | None:
    return None if run.accuracy is None else format.interval(run.accuracy, run.accuracy_low, run.accuracy_high)


def _remember() -> None:
    order = st.session_state[ORDER]
    st.session_state[SELECTED] = [order[row] for row in st.session_state[KEY]["selection"]["rows"]]


def _open() -> None:
    click = st.session_state[OPENED]
    st.switch_page(RUN_PAGE, query_params={"run": st.session_state[ORDER][click.row]})
