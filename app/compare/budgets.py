"""The budget of each compared run, and the conditions of its test, one row per run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app.compare import equal_cost
from app.compare import groups as comparison
from app.compare.equal_cost import Cost
from app.compare.groups import Group, Member
from app.compare.selection import names
from app.shared import data, format, status
from app.shared.conditions import decoding_of
from store.db.engine import Store
from store.db.rows import RunDetail
from store.runs import list_configurations


def cost(store: Store, run: RunDetail) -> Cost:
    return equal_cost.cost(run, data.read_clock(run.id), data.read_running_total(run.id, "time/step"))


def conditions(store: Store, members: Sequence[Member], benchmark: str) -> list[dict[str, Any]]:
    """Return the values of each run by column; None where unknown or absent."""
    tried_configurations = {(each.run.method, each.run.model, each.run.dataset): 0 for each in members}
    for method, model, dataset in tried_configurations:
        configs = list_configurations(store, method=method, model=model, dataset=dataset)
        tried_configurations[method, model, dataset] = comparison.count_configurations(list(configs.values()))
    return [
        _conditions(store, each, benchmark, tried_configurations[each.run.method, each.run.model, each.run.dataset])
        for each in members
    ]


def _conditions(store: Store, member: Member, benchmark: str, tried: int) -> dict[str, Any]:
    run, evaluation = member.run, comparison.latest_test(member, benchmark)
    conditions: dict[str, Any] = evaluation.conditions if evaluation else {}
    decoding = decoding_of(conditions)
    decoding_text = ", ".join(f"{k} {v}" for k, v in decoding.items() if v not in (None, ""))
    if isinstance(conditions.get("decoding"), str):
        decoding_text = conditions["decoding"]
    is_chosen = any(row.kind == "best" for row in member.checkpoints)
    return {
        "run": run.name,
        "seed": run.seed,
        "benchmark": benchmark,
        "n": evaluation.metrics.get("n") if evaluation else None,
        "step": evaluation.step if evaluation else None,
        "checkpoint": "best validation accuracy" if is_chosen else "last step",
        "encoder": evaluation.encoder if evaluation else None,
        "prompt hash": conditions.get("prompt_hash"),
        "prompt": conditions.get("prompt"),
        "pixels": str(conditions.get("pixels", format.UNKNOWN)),
        "decoding": decoding_text or format.UNKNOWN,
        "stop tokens": " ".join((conditions.get("rules") or {}).get("stop_tokens", ())) or format.UNKNOWN,
        **training_cost(store, run),
        "starts from": (run.config.get("model") or {}).get("adapter"),
        "configurations tried": tried,
        "status": status.look(run.status).label,
    }


def training_cost(store: Store, run: RunDetail) -> dict[str, Any]:
    """Return the cost of the complete training, even if an earlier checkpoint was chosen."""
    if run.method == "none":
        return dict.fromkeys(("updates", "examples", "generated tokens", "tokens", "device seconds", "device"))
    total_cost = cost(store, run)
    lengths = data.read_running_total(run.id, "completion_length").value
    batch = (run.config.get("optimization") or {}).get("batch_size")
    return {
        "updates": run.step,
        "examples": _whole(total_cost.at(run.step, "examples")),
        "generated tokens": _whole(lengths[-1] * batch) if len(lengths) and batch else None,
        "tokens": _whole(total_cost.at(run.step, "tokens")),
        "device seconds": _whole(total_cost.at(run.step, "device seconds")),
        "device": run.environment.get("device"),
    }


def _whole(value: float) -> int | None:
    return None if value != value else round(value)


def conditions_table(rows: Sequence[dict[str, Any]]) -> None:
    st.dataframe(
        {key: [row[key] for row in rows] for key in rows[0]},
        hide_index=True,
        placeholder=format.UNKNOWN,
        alt="Conditions and budgets of the compared runs",
    )
    st.caption(
        "Device seconds are those of updates, without evaluations and pauses. Tokens are all that were trained on, "
        "including prompts. Configurations tried are those with the same method, base model and dataset in this "
        "database."
    )


def config_table(groups: Sequence[Group]) -> None:
    """Show the fields in which the configurations differ."""
    by_name = names(groups)
    differences = comparison.config_differences([group.first for group in by_name.values()])
    columns = {name: [str(values[i]) for values in differences.values()] for i, name in enumerate(by_name)}
    st.dataframe(
        {"field": list(differences), **columns}, hide_index=True, alt="Fields in which the configurations differ"
    )
