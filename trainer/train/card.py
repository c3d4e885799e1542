"""Write the model card of an exported checkpoint as Markdown, from the run's data in the database."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from store.db.rows import EvaluationRow, RunDetail
from trainer.spec import config as configs

LICENSE = (
    "No licence is stated here; it depends on the base model, the data and your own choice. "
    "Replace this sentence before you publish the folder."
)
EMBEDDED = "which Vision-R1-Zero contains in `{base}`"
LOCAL = "from a local folder"
_LOAD_ADAPTER = """from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

base = AutoModelForImageTextToText.from_pretrained({base})
model = PeftModel.from_pretrained(base, {folder!r})
processor = AutoProcessor.from_pretrained({folder!r})"""
_LOAD_MERGED = """from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained({folder!r})
processor = AutoProcessor.from_pretrained({folder!r})"""


def card(
    run: RunDetail, evaluations: Sequence[EvaluationRow], *, name: str, base: str, step: int, folder: str, merged: bool
) -> str:
    """Return the text of README.md.

    `name` and `base` are the base model's public name and location, and `step` is that of the checkpoint.
    """
    revision = run.environment.get("model_revision")
    config = {**run.config, "model": {**run.config.get("model", {}), "id": name}}
    where = "" if revision else EMBEDDED.format(base=base) if name in configs.EMBEDDED else LOCAL
    arguments = repr(base) + (f", revision={revision!r}" if revision else "")
    code = _LOAD_MERGED if merged else _LOAD_ADAPTER
    kind = "The full model with the adapter merged into it" if merged else "A LoRA adapter"
    front = {"base_model": name, "library_name": "transformers" if merged else "peft"}
    parts = [
        f"---\n{_yaml(front | {'pipeline_tag': 'image-text-to-text', 'tags': ['vision-r1-zero', run.method]})}---",
        f"# {_plain(run.name)}",
        f"{kind}, trained by {run.method.upper()} to count in images; checkpoint of step {step}, run `{run.uid}`.",
        f"Base model: {_plain(name)}, {where or f'revision {revision}'}.",
        LICENSE,
        f"## How to load it\n\n{_fence(code.format(base=arguments, folder=folder), 'python')}",
        f"## Evaluation\n\n{_table(evaluations)}",
        f"## Prompt\n\nThe rendered prompt of one training example:\n\n{_fence(run.prompt or '')}",
        f"## Data\n\n{_fence(_yaml(run.config.get('data', {}) | _data_facts(run)), 'yaml')}",
        f"## Configuration\n\n{_fence(_yaml(config), 'yaml')}",
        f"## Versions\n\n{_fence(_yaml({k: v for k, v in run.environment.items() if k != 'data'}), 'yaml')}",
    ]
    return "\n\n".join(parts) + "\n"


def _data_facts(run: RunDetail) -> dict[str, Any]:
    facts = run.environment.get("data")
    return {"loaded": facts} if facts else {}


def _table(evaluations: Sequence[EvaluationRow]) -> str:
    rows = [e for e in evaluations if e.kind in ("val", "test") and e.ended_at is not None]
    if not rows:
        return "The checkpoint has not been evaluated yet."
    lines = [
        "Greedy decoding; exact match with Wilson's 95 % interval.",
        "",
        "| benchmark | part | step | n | exact match | well-formed |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join(lines + [_row(e) for e in rows])


def _row(evaluation: EvaluationRow) -> str:
    m = evaluation.metrics
    match = f"{m['exact_match']:.3f} ({m['exact_match_low']:.3f}–{m['exact_match_high']:.3f})"
    cells = (_plain(evaluation.benchmark), evaluation.kind, evaluation.step, m["n"], match, f"{m['wellformed']:.3f}")
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _plain(text: str) -> str:
    """Return a name as one line without characters that Markdown or HTML would interpret."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&])", r"\\\1", " ".join(text.split()))


def _fence(text: str, language: str = "") -> str:
    """Return a code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
