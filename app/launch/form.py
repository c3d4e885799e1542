"""The launch form, generated from RunConfig: one widget per field, with the field's docstring as help.

`fill` puts a config into the widgets, `collect` reads it back. Rewards have rows of their own (`app.launch.rewards`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import streamlit as st

from app import places
from app.launch import form_state, rewards
from app.shared import format
from app.shared.fields import FIELDS, Field, sentence
from trainer.spec.config import DATASETS, EMBEDDED, ConfigError, RunConfig, from_dict

ESSENTIALS = (
    ("name", "model.id"),
    ("method", "style"),
    ("data.dataset", "model.quantization", "seed"),
    ("optimization.steps", "optimization.learning_rate", "lora.rank"),
)
SECTIONS = {
    "Optimization": ("optimization.", "lora."),
    "Generation and GRPO": ("max_tokens", "grpo."),
    "Evaluation": ("evaluation.",),
    "Data": ("imitate", "data."),
    "Model": ("model.",),
    "Prompt": ("instruction",),
}
MODELS = (
    *(*EMBEDDED, "HuggingFaceTB/SmolVLM-256M-Instruct", "HuggingFaceTB/SmolVLM-500M-Instruct"),
    "Qwen/Qwen2-VL-2B-Instruct",
)
SUGGESTIONS = {"model.id": MODELS, "data.dataset": DATASETS}
NAMES = {"grpo": "GRPO", "sft": "SFT", "none": "Evaluate only", "cot": "Think first", "direct": "Answer only"}


class Checked(NamedTuple):
    """The contents of the form: a config, or sentences that say what is wrong."""

    config: RunConfig | None
    errors: tuple[str, ...]


def fill(config: RunConfig) -> None:
    """Put a config into the widgets; call it before they are drawn, or from a callback."""
    values = config.model_dump(mode="json")
    leaves: dict[str, Any] = {}
    for path in FIELDS:
        value: Any = values
        for part in path.split("."):
            value = value[part]
        leaves[path] = value
    form_state.fill(leaves | rewards.values(config.rewards))


def collect() -> Checked:
    """Return the config in the widgets; everything is validated again, since the browser may send anything."""
    values: dict[str, Any] = {}
    for field in FIELDS.values():
        *parents, leaf = field.path.split(".")
        target = values
        for parent in parents:
            target = target.setdefault(parent, {})
        value = form_state.value(field.path, field.default)
        target[leaf] = None if value == "" and field.optional else value
    values["rewards"] = rewards.collect()
    outside = [
        *rewards.forbidden(values["rewards"]),
        *rewards.forbidden_code("data.dataset", [values["data"]["dataset"]]),
    ]
    try:
        config = from_dict(values)
    except ConfigError as error:
        return Checked(None, (*outside, *str(error).splitlines()))
    outside += places.outside_roots(config)
    return Checked(None if outside else config, tuple(outside))


def essentials() -> None:
    """Show the fields that nearly every launch sets."""
    for row in ESSENTIALS:
        for column, path in zip(st.columns(len(row)), row, strict=True):
            with column:
                widget(FIELDS[path])


def sections(errors: Iterable[str]) -> None:
    """Show the other fields in collapsed sections; a section with an error says so."""
    method = form_state.value("method")
    essential_paths = {path for row in ESSENTIALS for path in row}
    for title, prefixes in SECTIONS.items():
        faults = [error for error in errors if error.startswith(prefixes)]
        if title.startswith("Generation") and method != "grpo":
            prefixes = ("max_tokens",)
        fields = [
            f for p in prefixes for f in FIELDS.values() if f.path.startswith(p) and f.path not in essential_paths
        ]
        with st.expander(title, icon=":material/error:" if faults else None, key=f"section-{title}"):
            for fault in faults:
                st.error(format.literal(sentence(fault)))
            _grid(fields)


def _grid(fields: list[Field]) -> None:
    for start in range(0, len(fields), 3):
        row = fields[start : start + 3]
        for column, field in zip(st.columns(3 if len(fields) > 1 else 1), row, strict=False):
            with column, st.container():
                widget(field)


def widget(field: Field) -> None:
    """Show the widget that fits a field's type."""
    if field.choices:
        _choice(field)
    elif field.path in SUGGESTIONS:
        _suggestions(field)
    elif field.kind == "boolean":
        st.toggle(field.label, form_state.filled_value(field.path), **_common(field))
    elif field.kind in ("integer", "number"):
        _number(field)
    elif field.kind == "array":
        _words(field)
    elif field.path == "instruction":
        st.text_area(field.label, form_state.filled_value(field.path) or "", **_common(field))
    else:
        st.text_input(field.label, form_state.filled_value(field.path) or "", **_common(field))


def _common(field: Field) -> dict[str, Any]:
    return {"key": form_state.key(field.path), "help": field.help, "persist_state": "session"}


def _choice(field: Field) -> None:
    is_named = field.path in ("method", "style")

    def name(option: str) -> str:
        return NAMES.get(option, option) if is_named else option

    value = form_state.filled_value(field.path)
    if is_named:
        st.segmented_control(
            field.label, field.choices, default=value, format_func=name, required=True, wrap=True, **_common(field)
        )
    else:
        st.selectbox(field.label, field.choices, index=field.choices.index(value), format_func=name, **_common(field))


def _suggestions(field: Field) -> None:
    value = form_state.filled_value(field.path)
    options = list(dict.fromkeys((*SUGGESTIONS[field.path], value)))
    accepts_other = field.path in ("model.id", "data.dataset")
    st.selectbox(field.label, options, index=options.index(value), accept_new_options=accepts_other, **_common(field))


def _words(field: Field) -> None:
    value = form_state.filled_value(field.path)
    options = list(dict.fromkeys((*field.default, *value)))
    st.multiselect(field.label, options, default=value, accept_new_options=True, **_common(field))


def _number(field: Field) -> None:
    kind: Any = int if field.kind == "integer" else float
    step: Any = 1 if kind is int else 1e-4 if field.path.endswith("learning_rate") else 0.01
    value = form_state.filled_value(field.path)
    st.number_input(
        field.label,
        min_value=None if field.minimum is None else kind(field.minimum),
        max_value=None if field.maximum is None else kind(field.maximum),
        value=None if value is None else kind(value),
        step=step,
        format="%d" if kind is int else "%g",
        placeholder="automatic" if field.optional else None,
        **_common(field),
    )
