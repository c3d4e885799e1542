"""The evaluations of a run: results per checkpoint, those in progress, and the form for new ones."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.shared import data, data_needs, format, intents, status
from app.shared.run_actions import attempt
from store.db.rows import CheckpointRow, EvaluationRow, RunDetail
from store.jobs import list_jobs
from trainer.launch import folders
from trainer.spec import benchmark
from trainer.spec.config import REAL_DATASETS
from trainer.spec.similarity import CLOSE, COS_AT

TRACES_PAGE = "../pages/traces.py"
DRIFT_PAGE = "../pages/drift.py"
SEEN = {
    "": "the image",
    "blind": "a grey image",
    "shuffled": "another image",
    "majority": "no image: majority answer",
}
"""What the model sees, for each baseline."""


def evaluations_tab(run: RunDetail) -> None:
    in_progress(run)
    rows = [each for each in data.list_evaluations(run.id) if each.kind != "probe"][::-1]
    if not rows and data_needs.is_script(run):
        st.caption("This script has no evaluations: record one with run.evaluation(step, benchmark, rows).")
        return
    if not rows:
        st.caption("Only probes so far: use Evaluate below to run a benchmark.")
        return
    st.dataframe(
        {
            "benchmark": [each.benchmark for each in rows],
            "of": [kind_label(each) for each in rows],
            "step": [each.step for each in rows],
            "right": [accuracy(each) for each in rows],
            "pass": [best_sampled(each) for each in rows],
            "off": [percent(each, "off_by_one") for each in rows],
            "cos": [percent(each, "cos_at_0.8") for each in rows],
            "n": [f"{each.done} of {each.total}" if each.ended_at is None else str(each.total) for each in rows],
        },
        hide_index=True,
        placeholder=format.UNKNOWN,
        column_config={
            "benchmark": "Benchmark",
            "of": "Kind",
            "step": st.column_config.NumberColumn("Step", width=70),
            "right": st.column_config.TextColumn(
                "Accuracy (95 %)", help="Exact match of greedy answers, with Wilson interval"
            ),
            "pass": st.column_config.TextColumn(
                "Sampled", help="pass@K: at least one of K samples is right. maj@K: the majority answer is right"
            ),
            "off": st.column_config.TextColumn(
                "Within one", help="Answers that differ from the true count by at most 1"
            ),
            "cos": st.column_config.TextColumn(COS_AT, help=f"Similarity to the reference above {CLOSE}"),
            "n": st.column_config.TextColumn("Answers"),
        },
        alt=f"{len(rows)} evaluations of this run, newest first",
    )
    query = {"run": run.uid, "view": "Predictions"}
    with st.container(horizontal=True):
        st.page_link(TRACES_PAGE, label="Open predictions", icon=":material/psychology:", query_params=query)
        label = "Compare style with another run"
        st.page_link(DRIFT_PAGE, label=label, icon=":material/compare:", query_params={"run": run.uid})


def kind_label(evaluation: EvaluationRow) -> str:
    if evaluation.kind == "thinking":
        return f"thinking {evaluation.conditions.get('thinking')}"
    baseline = evaluation.conditions.get("baseline")
    return f"{evaluation.kind}: {SEEN.get(baseline, baseline)}" if baseline else evaluation.kind


def accuracy(evaluation: EvaluationRow) -> str | None:
    figures = evaluation.metrics
    if "exact_match" not in figures:
        return None
    return format.interval(figures["exact_match"], figures.get("exact_match_low"), figures.get("exact_match_high"))


def percent(evaluation: EvaluationRow, name: str) -> str | None:
    return format.percent(evaluation.metrics[name]) if evaluation.metrics.get(name) is not None else None


def best_sampled(evaluation: EvaluationRow) -> str | None:
    """Return `pass@8 0.71, maj@8 0.52` for the largest K."""
    samples = (evaluation.conditions.get("samples") or {}).get("n")
    names = [name for name in (f"pass@{samples}", f"maj@{samples}") if name in evaluation.metrics]
    return ", ".join(f"{name} {evaluation.metrics[name]:.2f}" for name in names) or None


def in_progress(run: RunDetail) -> None:
    """Show queued and running evaluations, and the last failed one."""
    jobs = [job for job in list_jobs(data.reader(), run_id=run.id) if job.kind == "evaluate"]
    unfinished = [each for each in data.list_evaluations(run.id) if each.ended_at is None]
    for job in jobs:
        if job.state not in status.OPEN:
            continue
        name = job.arguments.get("benchmark") or run.dataset
        with st.container(horizontal=True, vertical_alignment="center", key=f"evaluating-{job.uid}"):
            st.badge(status.look(job.state).label, icon=status.look(job.state).icon, color=status.look(job.state).color)
            st.text(f"{name} · {job.activity or 'queued'}", width="content")
            if job.state in status.ACTIVE and unfinished:
                st.text(f"{unfinished[-1].done} of {unfinished[-1].total} answers", width="content")
            if st.button("Stop", icon=":material/stop_circle:", key=f"stop-{job.uid}", help="You can resume it later."):
                attempt(intents.stop_job, job)
                st.rerun()
    if jobs and jobs[-1].state == "failed" and jobs[-1].error:
        st.error(format.literal(jobs[-1].error), icon=":material/error:")


def evaluate_form(run: RunDetail) -> None:
    """Show the form for a new evaluation; repeating an interrupted one continues it."""
    saved = data.list_checkpoints(run.id)
    choices = checkpoint_choices(run, saved)
    with st.expander("Evaluate", icon=":material/fact_check:", key="evaluate", expanded=False):
        if not choices:
            yet = "No checkpoint yet: the first one is saved at the first validation."
            st.caption(format.literal(folders.why_not_evaluated(data.reader(), run) or yet))
            return
        arguments = chosen_arguments(choices)
        st.caption("Goes into the queue. An interrupted evaluation continues where it stopped.")
        if st.button("Evaluate", type="primary", icon=":material/play_arrow:", key="evaluate.go"):
            attempt(intents.evaluate, run, arguments)
            st.rerun()


def chosen_arguments(choices: dict[str, str]) -> dict[str, Any]:
    """Show the form's fields; return their values as arguments of `trainer.launch.evaluate`."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox("Benchmark", benchmark.NAMES, key="evaluate.benchmark", width=210)
        checkpoint_name = st.selectbox(
            "Checkpoint", list(choices), key="evaluate.checkpoint", format_func=lambda key: choices[key], width=240
        )
        limit = st.number_input(
            "Examples",
            1,
            100_000,
            400,
            key="evaluate.limit",
            width=130,
            help="Maximum number of examples. Equal seeds give the same ones.",
        )
        samples = st.number_input(
            "Samples each", 0, 64, 0, key="evaluate.samples", width=130, help="For pass@k, besides the greedy answer."
        )
        baseline = st.selectbox(
            "The model sees", list(SEEN), key="evaluate.baseline", format_func=lambda key: SEEN[key], width=220
        )
    path = ""
    if benchmark.split(name)[0] in REAL_DATASETS:
        path = st.text_input("Data folder", key="evaluate.path", help="On the machine that runs the queue.")
    altered = st.toggle(
        "CoT-faithfulness probe",
        key="evaluate.thinking",
        help="Alters the reasoning and asks for the answer again: does the answer change?",
    )
    optional = {"samples": int(samples), "baseline": baseline, "path": path, "thinking": altered}
    chosen = {"benchmark": name, "checkpoint": checkpoint_name, "limit": int(limit)}
    return chosen | {key: value for key, value in optional.items() if value}


def checkpoint_choices(run: RunDetail, saved: list[CheckpointRow]) -> dict[str, str]:
    """Return a description of each checkpoint that can be evaluated, by name."""
    if run.method == "none":
        return {"0": "model as is"}
    descriptions = {row.kind: f"{row.kind} (step {row.step})" for row in saved}
    return descriptions | {"0": "starting point"} if descriptions else {}
