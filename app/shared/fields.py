"""The fields of RunConfig for the screen: label, help and bounds, from its JSON schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from trainer.spec.config import RunConfig

LABELS = {
    "model.id": "Base model",
    "data.dataset": "Dataset",
    "data.seed": "Data seed",
    "data.path": "Data folder",
    "data.revision": "Data revision",
    "data.traces": "Reasoning traces file",
    "data.references_only": "Only examples with a reference",
    "lora.rank": "LoRA rank",
    "lora.alpha": "LoRA alpha",
    "lora.dropout": "LoRA dropout",
    "lora.vision": "Adapt the vision tower",
    "grpo.beta": "KL weight (beta)",
    "grpo.entropy_coef": "Entropy bonus",
    "optimization.max_grad_norm": "Gradient clipping",
    "max_tokens": "Max completion tokens",
    "evaluation.val_every": "Validate every",
    "evaluation.encoder": "Sentence encoder",
    "evaluation.batch_size": "Evaluation batch size",
    "evaluation.seed": "Evaluation seed",
    "try_rewards": "Test reward functions first",
}


class Field(NamedTuple):
    """A leaf of RunConfig; `kind` is its JSON schema type, bounds are inclusive."""

    path: str
    kind: str
    help: str
    default: Any
    optional: bool
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None

    @property
    def label(self) -> str:
        return LABELS.get(self.path) or self.path.rpartition(".")[2].replace("_", " ").capitalize()


def describe() -> dict[str, Field]:
    """Return the fields by path, in the order of the model; rewards are left out."""
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
_PATHS = re.compile("|".join(rf"(?<![\w.]){re.escape(path)}(?![\w])" for path in FIELDS if "." in path))


def sentence(error: str) -> str:
    """Return an error message with labels in place of field paths."""
    return _PATHS.sub(lambda match: f"“{FIELDS[match.group()].label}”", error)
