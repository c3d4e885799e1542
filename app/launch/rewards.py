"""The rewards of the launch form: one row each, with a toggle, the weight, and the value for an editable text.

Rewards from a file are code. The browser may only choose files in the folder `VR1Z_REWARDS_DIR`, which is set by
whoever starts the server. Their functions are listed without importing them.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from app.launch import form_state
from app.shared import format
from trainer.spec.config import BUILT_IN_REWARDS, RewardConfig

FOLDER_VARIABLE = "VR1Z_REWARDS_DIR"
DEFAULT_WEIGHTS = {"format": 1.0, "accuracy": 2.0, "steps": 0.5, "keyword": 0.5, "cosine": 1.0, "random": 1.0}
PAYS_FOR = {
    "format": "1 if the completion is well-formed",
    "accuracy": "1 if the answer is the true count",
    "steps": "0.1 for each numbered reasoning step, at most 1",
    "keyword": "0.1 for each visual word in the thinking, at most 0.5",
    "cosine": "similarity of the thinking to the reference, 0 to 1",
    "random": "1 or 0 at random, as a control",
}


def folder() -> Path | None:
    """Return the folder for rewards from files; None if the server has none."""
    name = os.environ.get(FOLDER_VARIABLE)
    return Path(name).resolve() if name and Path(name).is_dir() else None


def list_reward_functions(root: Path | None) -> list[str]:
    """Return `FILE.py:function` for every public function in the folder's files, without importing them."""
    if root is None:
        return []
    return [f"{path}:{name}" for path in sorted(root.rglob("*.py")) if _inside(path, root) for name in _functions(path)]


def _inside(path: Path, root: Path) -> bool:
    """Return whether a path lies below the folder, after resolving links and `..`."""
    return path.resolve().is_relative_to(root) and path.is_file()


def _functions(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [name for name in functions if not name.startswith("_")]


def forbidden(rewards: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each reward with code that the browser may not choose."""
    names = [str(reward["name"]) for reward in rewards if reward["name"] not in BUILT_IN_REWARDS]
    return forbidden_code("rewards", names)


def forbidden_code(field: str, names: Iterable[object]) -> list[str]:
    """Return a sentence for each named function that the browser may not choose."""
    custom = [str(name) for name in names if ".py:" in str(name)]
    root = folder() if custom else None
    if root is None:
        advice = f"launch it from the command line, or name its folder in {FOLDER_VARIABLE}"
        return [f"{field}: {name} is code from a file; {advice}." for name in custom]
    allowed = list_reward_functions(root)
    return [f"{field}: {name} is not a function of a file in {root}." for name in custom if name not in allowed]


def values(rewards: Iterable[RewardConfig]) -> dict[str, Any]:
    """Return the form values for a config's rewards, by path."""
    weights = {reward.name: reward.weight for reward in rewards}
    custom = [name for name in weights if name not in BUILT_IN_REWARDS]
    values_by_path: dict[str, Any] = {"rewards.custom": custom}
    for name in (*BUILT_IN_REWARDS, *custom):
        values_by_path[f"rewards.{name}.on"] = name in weights
        values_by_path[f"rewards.{name}.weight"] = weights.get(name, DEFAULT_WEIGHTS.get(name, 1.0))
    return values_by_path


def collect() -> list[dict[str, Any]]:
    """Return the active rewards, with their weights."""
    return [
        {"name": name, "weight": form_state.value(f"rewards.{name}.weight", 1.0)} for name in _names() if is_on(name)
    ]


def is_on(name: str) -> bool:
    """Return whether a reward is on: built-in ones by their toggle, those from files once chosen."""
    return bool(form_state.value(f"rewards.{name}.on", name not in BUILT_IN_REWARDS))


def _names() -> list[str]:
    return [*BUILT_IN_REWARDS, *form_state.value("rewards.custom", [])]


def rows(pays: Mapping[str, tuple[float | None, str]]) -> None:
    """Show one row per reward; `pays` holds the raw value and reason for the example text, by reward name."""
    for name in _names():
        _row(name, pays.get(name))
    custom = form_state.filled_value("rewards.custom", [])
    choices = list(dict.fromkeys((*list_reward_functions(folder()), *custom)))
    if choices:
        st.multiselect(
            "Rewards from files",
            choices,
            default=custom,
            key=form_state.key("rewards.custom"),
            format_func=lambda choice: Path(choice).name,
            help="Functions in the server's rewards folder. They run in the training process.",
            persist_state="session",
        )


def _row(name: str, pay: tuple[float | None, str] | None) -> None:
    row = st.container(horizontal=True, vertical_alignment="center")
    title = name.capitalize() if name in BUILT_IN_REWARDS else format.literal(Path(name).name)
    path = f"rewards.{name}"
    on = row.toggle(
        title,
        form_state.filled_value(f"{path}.on", name not in BUILT_IN_REWARDS),
        key=form_state.key(f"{path}.on"),
        help=PAYS_FOR.get(name),
        persist_state="session",
        width=140,
    )
    weight = row.number_input(
        f"Weight of {title}",
        value=float(form_state.filled_value(f"{path}.weight", 1.0)),
        step=0.1,
        format="%g",
        key=form_state.key(f"{path}.weight"),
        disabled=not on,
        label_visibility="collapsed",
        persist_state="session",
        width=120,
    )
    row.container(width="stretch").caption(format.literal(_sentence(name, on, weight, pay)))


def _sentence(name: str, on: bool, weight: float, pay: tuple[float | None, str] | None) -> str:
    if not on or pay is None:
        return PAYS_FOR[name].capitalize() if name in PAYS_FOR else "From a file: scored in training"
    value, reason = pay
    if value is None:
        return reason.capitalize()
    if not weight:
        return f"Logged with weight 0: {value:.2g} · {reason}"
    return f"{weight:g} × {value:.2g} = {weight * value:.2g} · {reason}"
