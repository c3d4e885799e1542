"""A run's documents: its configuration, log and events, all shown as plain text."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import streamlit as st
import yaml

from app.run import logs
from app.run.code import code_part
from app.shared import data, format, status
from store.db.redaction import redact, redacted_values
from store.db.rows import RunDetail
from store.jobs import list_jobs


def config_tab(run: RunDetail) -> None:
    left, right = st.columns(2)
    with left:
        st.markdown("**Configuration**", help="YAML to save as a file for the command line.")
        st.code(
            yaml.safe_dump(redacted_values(run.config), sort_keys=False, allow_unicode=True),
            language="yaml",
            height=560,
        )
    with right:
        if run.prompt:
            st.markdown("**Prompt**", help="The rendered prompt of one training example.")
            st.code(run.prompt, language=None, wrap_lines=True)
            st.caption(f"Hash {format.literal(run.prompt_hash or format.UNKNOWN)}: equal hashes, equal prompts.")
        st.markdown("**Environment**")
        if run.environment:
            st.code(
                yaml.safe_dump(redacted_values(run.environment), sort_keys=False, allow_unicode=True), language="yaml"
            )
        else:
            st.caption("Available once the process has started.")
        measured, estimated = (run.environment.get(f"{kind}_memory") for kind in ("measured", "estimated"))
        if estimated is not None:
            peak = f"measured {format.memory(measured)}" if measured else "measured once the run has ended"
            st.caption(format.literal(f"Peak memory: estimated {format.memory(estimated)}, {peak}."))
        code_part(run)
        for name, source in run.sources.items():
            st.markdown("**Dataset**" if name == "data.dataset" else f"**Reward {format.literal(name)}**")
            code: dict[str, Any] = source if isinstance(source, dict) else {"source": str(source)}
            st.code(code["source"], language="python")
            for file, text in code.get("helpers", {}).items():
                st.markdown(f"imports {format.literal(file)}")
                st.code(text, language="python")


def as_yaml(values: dict[str, Any]) -> str:
    """Return values as YAML without secrets, which older versions and other databases may hold."""
    return yaml.safe_dump(redacted_values(values), sort_keys=False, allow_unicode=True)


def log_tab(run: RunDetail) -> None:
    path = run.job.log_path if run.job else None
    if path is None and run.output_dir:
        path = str(Path(run.output_dir) / "log.txt")
    text = logs.tail(Path(path)) if path else None
    if text is None:
        where = f" The process ran on {format.literal(run.job.host)}." if run.job and run.job.host else ""
        st.caption(f"No log on this machine.{where}")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(format.literal(str(path)))
        st.download_button("Download", text, file_name=f"{run.uid}.log", icon=":material/download:", on_click="ignore")
    is_long = text.count("\n") > 24
    with st.container(height=560 if is_long else "content", autoscroll=True, border=is_long):
        st.code(text.strip() or "(empty)", language=None, wrap_lines=True)


def events_tab(run: RunDetail) -> None:
    _events_table(run)
    st.markdown("**Processes**", help="Each start, resume and evaluation is a separate process.")
    _processes_table(run)


def _events_table(run: RunDetail) -> None:
    events = data.list_events(run.id)[::-1]
    st.dataframe(
        {
            "at": [datetime.fromtimestamp(event.at, UTC) for event in events],
            "step": [event.step for event in events],
            "kind": [event.kind.replace("_", " ") for event in events],
            "message": [redact(event.message) for event in events],
        },
        hide_index=True,
        column_config={
            "at": st.column_config.DatetimeColumn(
                "When", format="YYYY-MM-DD HH:mm:ss", timezone=st.context.timezone, width=170
            ),
            "step": st.column_config.NumberColumn("Step", width=70),
            "kind": st.column_config.TextColumn("Event", width=130),
            "message": st.column_config.TextColumn("Message", width="large"),
        },
        placeholder=format.UNKNOWN,
        alt="Events of this run, newest first",
    )


def _processes_table(run: RunDetail) -> None:
    jobs = list_jobs(data.reader(), run_id=run.id)[::-1]
    st.dataframe(
        {
            "kind": [job.kind for job in jobs],
            "state": [status.look(job.state).label for job in jobs],
            "host": [job.host for job in jobs],
            "pid": [job.pid for job in jobs],
            "lasted": [duration_text(job.started_at, job.ended_at) for job in jobs],
            "exit": [job.exit_code for job in jobs],
            "error": [job.error and redact(job.error) for job in jobs],
        },
        hide_index=True,
        column_config={
            "kind": "Kind",
            "state": "State",
            "host": "Host",
            "pid": st.column_config.NumberColumn("Process", format="%d"),
            "lasted": "Duration",
            "exit": "Exit code",
            "error": st.column_config.TextColumn("Message", width="large"),
        },
        placeholder=format.UNKNOWN,
        alt="Processes of this run, newest first",
    )


def duration_text(started: float | None, ended: float | None) -> str | None:
    return format.duration(ended - started) if started and ended else None
