"""The launch form, made from RunConfig: one widget a field, its docstring as help. Knows nothing of databases.

Widgets keep their values in the session state under `launch.<path>`; `fill` writes them, `collect` reads them back.
Rewards have rows of their own (`reward_rows`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import streamlit as st

from app.components import reward_rows
from trainer.config import DATASETS, ConfigError, RunConfig, from_dict

PREFIX = "launch."
ESSENTIALS = (
    ("name", "model.id"),
    ("method", "style"),
    ("data.dataset", "model.quantization", "seed"),
    ("optimization.steps", "optimization.learning_rate", "lora.rank"),
)
SECTIONS = {
    "Optimization": ("optimization.", "lora."),
    "Generation and GRPO": ("grpo.", "max_tokens"),
    "Evaluation": ("evaluation.",),
    "Data": ("data.",),
    "Model": ("model.",),
    "Prompt": ("instruction",),
}
MODELS = (
    *("tiny", "HuggingFaceTB/SmolVLM-256M-Instruct", "HuggingFaceTB/SmolVLM-500M-Instruct"),
    "Qwen/Qwen2-VL-2B-Instruct",
)
SUGGESTIONS = {"model.id": MODELS, "data.dataset": DATASETS}
LABELS = {
    "model.id": "Base model",
    "data.dataset": "Dataset",
    "data.seed": "Seed of the data",
    "lora.rank": "LoRA rank",
    "lora.alpha": "LoRA alpha",
    "lora.dropout": "LoRA dropout",
    "grpo.beta": "KL weight (beta)",
    "grpo.entropy_coef": "Entropy bonus",
    "evaluation.seed": "Seed of the evaluation",
}
NAMES = {"grpo": "GRPO", "sft": "SFT", "none": "Evaluate only", "cot": "Think first", "direct": "Answer only"}


class Field(NamedTuple):
    """One leaf of RunConfig; `kind` is JSON schema's type, bounds are inclusive."""

    path: str
    kind: str
    help: str
    default: Any
    optional: bool
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None

    @property
    def key(self) -> str:
        return PREFIX + self.path

    @property
    def label(self) -> str:
        return LABELS.get(self.path) or self.path.rpartition(".")[2].replace("_", " ").capitalize()


class Checked(NamedTuple):
    """What the form holds: a config, or sentences that say what is wrong."""

    config: RunConfig | None
    errors: tuple[str, ...]


def describe() -> dict[str, Field]:
    """Path to field, in the order of the model; rewards are left out."""
    schema = RunConfig.model_json_schema()
    return {field.path: field for field in _leaves(schema, schema, "")}


def _leaves(schema: dict[str, Any], node: dict[str, Any], prefix: str) -> Iterator[Field]:
    for name, entry in node["properties"].items():
        if "$ref" in entry:
            yield from _leaves(schema, schema["$defs"][entry["$ref"].rpartition("/")[2]], f"{prefix}{name}.")
        elif name != "rewards":
            yield _leaf(prefix + name, entry)


def _leaf(path: str, entry: dict[str, Any]) -> Field:
    variants = [variant for variant in entry.get("anyOf", [entry]) if variant["type"] != "null"]
    kind = variants[0]
    return Field(
        path,
        kind["type"],
        entry.get("description", ""),
        entry.get("default"),
        optional="anyOf" in entry,
        choices=tuple(kind.get("enum", ())),
        minimum=kind.get("minimum"),
        maximum=kind.get("maximum"),
    )


FIELDS = describe()


def fill(config: RunConfig) -> None:
    """Puts a config into the widgets; before they are drawn, or from a callback."""
    values = config.model_dump(mode="json")
    for field in FIELDS.values():
        value: Any = values
        for part in field.path.split("."):
            value = value[part]
        st.session_state[field.key] = "" if value is None and field.kind == "string" else value
    reward_rows.fill(config.rewards)


def collect() -> Checked:
    """The config that the widgets hold; everything is checked again, whatever the browser sent."""
    values: dict[str, Any] = {}
    for field in FIELDS.values():
        *parents, leaf = field.path.split(".")
        target = values
        for parent in parents:
            target = target.setdefault(parent, {})
        value = st.session_state.get(field.key, field.default)
        target[leaf] = None if value == "" and field.optional else value
    values["rewards"] = reward_rows.collect()
    outside = reward_rows.forbidden(values["rewards"])
    try:
        config = from_dict(values)
    except ConfigError as error:
        return Checked(None, (*outside, *str(error).splitlines()))
    return Checked(None if outside else config, tuple(outside))


def essentials() -> None:
    """What nearly every launch decides."""
    for row in ESSENTIALS:
        for column, path in zip(st.columns(len(row)), row, strict=True):
            with column:
                widget(FIELDS[path])


def sections(errors: Iterable[str]) -> None:
    """The other fields, folded; a section with a fault says so."""
    method = st.session_state.get(PREFIX + "method")
    shown = {path for row in ESSENTIALS for path in row}
    for title, prefixes in SECTIONS.items():
        faults = [error for error in errors if error.startswith(prefixes)]
        if title.startswith("Generation") and method != "grpo":
            prefixes = ("max_tokens",)
        fields = [f for f in FIELDS.values() if f.path.startswith(prefixes) and f.path not in shown]
        with st.expander(title, icon=":material/error:" if faults else None, key=f"section-{title}"):
            for fault in faults:
                st.error(sentence(fault))
            _grid(fields)


def _grid(fields: list[Field]) -> None:
    for start in range(0, len(fields), 3):
        row = fields[start : start + 3]
        for column, field in zip(st.columns(3 if len(fields) > 1 else 1), row, strict=False):
            with column:
                widget(field)


def sentence(error: str) -> str:
    """A fault with the field's label in place of its path."""
    path, colon, rest = error.partition(":")
    if path not in FIELDS or not colon:
        return error
    return f"{FIELDS[path].label}: {rest.strip()}"


def widget(field: Field) -> None:
    """The widget that fits a field's type; its value lives in the session state only."""
    if field.choices:
        _choice(field)
    elif field.path in SUGGESTIONS:
        own = field.path == "model.id"
        options = list(dict.fromkeys((*SUGGESTIONS[field.path], st.session_state.get(field.key, field.default))))
        st.selectbox(
            field.label, options, key=field.key, help=field.help, accept_new_options=own, persist_state="session"
        )
    elif field.kind == "boolean":
        st.toggle(field.label, key=field.key, help=field.help, persist_state="session")
    elif field.kind in ("integer", "number"):
        _number(field)
    elif field.kind == "array":
        st.multiselect(
            field.label,
            list(dict.fromkeys((*field.default, *st.session_state.get(field.key, ())))),
            key=field.key,
            help=field.help,
            accept_new_options=True,
            persist_state="session",
        )
    elif field.path == "instruction":
        st.text_area(field.label, key=field.key, help=field.help, persist_state="session")
    else:
        st.text_input(field.label, key=field.key, help=field.help, persist_state="session")


def _choice(field: Field) -> None:
    def name(option: str) -> str:
        return NAMES.get(option, option) if field.path in ("method", "style") else option

    if len(field.choices) <= 3:
        st.segmented_control(
            field.label,
            field.choices,
            key=field.key,
            format_func=name,
            required=True,
            help=field.help,
            persist_state="session",
        )
    else:
        st.selectbox(
            field.label, field.choices, key=field.key, format_func=name, help=field.help, persist_state="session"
        )


def _number(field: Field) -> None:
    whole = field.kind == "integer"
    step = 1 if whole else 1e-4 if field.path.endswith("learning_rate") else 0.01
    lowest = None if field.minimum is None else int(field.minimum) if whole else float(field.minimum)
    highest = None if field.maximum is None else int(field.maximum) if whole else float(field.maximum)
    st.number_input(
        field.label,
        min_value=lowest,
        max_value=highest,
        value=None if field.optional else "min",
        step=step,
        format="%d" if whole else "%g",
        key=field.key,
        help=field.help,
        placeholder="automatic" if field.optional else None,
        persist_state="session",
    )
