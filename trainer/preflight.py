"""Check without training whether a configuration will run, and show the prompt exactly as the model will see it.

It needs torch, so the dashboard runs it in a separate process (`python -m trainer preflight --config FILE --json`).
"""

from __future__ import annotations

import base64
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch

from store.db.engine import Store, StoreError
from trainer import datasets
from trainer.datasets.example import Example
from trainer.datasets.images import encode_png
from trainer.datasets.splits import Role
from trainer.evaluate import generation, harness, reward_trial
from trainer.fit import memory, sharing
from trainer.models import adapters, chat_template, loading
from trainer.patches import prefix_sharing
from trainer.spec import paths, prompt
from trainer.spec.config import DRAWN_DATASETS, EMBEDDED, ConfigError, RunConfig
from trainer.spec.errors import TrainerError
from trainer.spec.rewards import build
from trainer.train import calibration, grpo

Level = Literal["ok", "warn", "fail"]
LITTLE_DISK = 2 * 1024**3
CHECKPOINT_SHARE = 7
"""Size of checkpoints on disk in quarters of the adapter's memory.

Weights and two moments in `last` and `best`, weights in `final`."""
TOKEN_BYTES, ROW_BYTES = 4, 300
"""Bytes of a text in the database, and of its row with indexes."""
TIGHT = 0.85
"""Fraction of the free memory above which an estimate is uncomfortably close."""
THINKING = "1. A red boat, on the left.\n2. Six blue boats, behind it."
"""A target for trying a chat template."""
SHOWN_EDGE = 512
"""Size in pixels of the example's image in the report."""


@dataclass(frozen=True)
class Check:
    name: str
    level: Level
    sentence: str


def preflight(config: RunConfig, folder: Path, *, store: Store | None = None, measure: bool = False) -> dict[str, Any]:
    """Return `checks`, `prompt`, `prompt_hash`, `image` (data URI), `image_tokens`, `prompt_tokens` and `memory`.

    `memory` has the estimate's `peak`, `available`, `phase`, `parts` and `parameters`, in bytes. Checks after a failed
    one are left out. `folder` is where the run's output will go, and `store` has the run whose adapter it starts from.
    With `measure`, also do one real update.
    """
    checks = [_device(config), *([] if config.model.adapter is None else [_adapter(config, store)])]
    report: dict[str, Any] = {}
    # Only GRPO passes a prompt to the model several times.
    further = ([_sharing] if config.method == "grpo" else []) + [_memory] + ([_pace] if measure else [])
    first = [_vllm] if config.method == "grpo" and config.grpo.vllm != "off" else []
    has_model = True
    for step in (*first, _chat_template, _data_and_prompt, _rewards, *further):
        name = step.__name__.strip("_").replace("_", " ")
        try:
            if step is _data_and_prompt and not has_model:
                # Asking an unreachable hub again takes half a minute; the data can be tried without it.
                _examples(config, 1)
                raise TrainerError("model", "No prompt was prepared, because the model cannot be loaded.")
            check, facts = step(config, report)
        except (TrainerError, ConfigError) as error:
            if step is _chat_template and isinstance(error, TrainerError) and error.kind == "model":
                name, has_model = "model", False
            check, facts = Check(name, "fail", str(error)), {}
        checks.append(check)
        report |= facts
    disk, facts = _disk(config, folder, report.get("memory", {}).get("parts", {}).get("adapter and optimizer", 0))
    return {"checks": [asdict(check) for check in (*checks, disk)], **report, **facts}


def _pace(config: RunConfig, report: dict[str, Any]) -> tuple[Check, dict[str, Any]]:
    if config.method == "none":
        raise ConfigError("method none has no updates to time.")
    if "memory" not in report:
        raise TrainerError("data", "No update was timed, because an earlier check failed.")
    measured = calibration.calibrate(config)
    minutes = measured.seconds * config.optimization.steps / 60
    sentence = (
        f"The first update, which is the slowest, took {measured.seconds:.1f} s; {config.optimization.steps} updates "
        f"take at most {minutes:,.0f} min without evaluations. Peak memory was {memory.gib(measured.peak)} GiB."
    )
    return Check("pace", "ok", sentence), {"pace": measured._asdict()}


def _disk(config: RunConfig, folder: Path, adapter: int) -> tuple[Check, dict[str, Any]]:
    """Check the disk space for checkpoints and rows; `adapter` is its size with gradient and moments, in bytes."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        sentence = f"{existing} is not writable. Change its permissions, or choose another database."
        return Check("disk", "fail", sentence), {}
    need = {"checkpoints": adapter * CHECKPOINT_SHARE // 4, "database": 1000 * _row_bytes(config)}
    rows = need["database"] * config.optimization.steps // 1000
    free = shutil.disk_usage(existing).free
    sentence = (
        f"{memory.gib(free)} GiB are free; the checkpoints take {memory.gib(need['checkpoints'])} and 1,000 updates "
        f"{memory.gib(need['database'])} in the database."
    )
    if free < LITTLE_DISK + need["checkpoints"] + rows:
        return Check("disk", "warn", f"{sentence} Free some space, or choose another database."), {"disk": need}
    return Check("disk", "ok", sentence), {"disk": need}


def _row_bytes(config: RunConfig) -> int:
    """Return the most bytes that an update adds to the database, including its share of probes and validations."""
    each = config.max_tokens * TOKEN_BYTES + ROW_BYTES
    evaluation = config.evaluation
    probed = evaluation.probe_examples * (1 + evaluation.probe_samples) / evaluation.probe_every
    validated = config.data.val_examples / evaluation.val_every
    completions = config.optimization.batch_size if config.method == "grpo" else 0
    return int((completions + probed + validated) * each)


def _device(config: RunConfig) -> Check:
    if torch.cuda.is_available():
        return Check("device", "ok", f"{torch.cuda.get_device_name()} with {loading.dtype_of(config.model)}.")
    if config.model.id in EMBEDDED:
        return Check("device", "ok", "No GPU was found; the embedded model is designed for the CPU.")
    return Check("device", "warn", "No GPU was found; a step of this model will take minutes on the CPU.")


def _adapter(config: RunConfig, store: Store | None) -> Check:
    """Check that the adapter from which the run starts is there and has the run's shape."""
    adapter = str(config.model.adapter)
    try:
        if store is None and not paths.is_dir(adapter):
            raise ConfigError(f"model.adapter: {adapter} is neither a folder nor a run, because there is no database.")
        found = adapters.find(cast(Store, store), adapter)
        adapters.check_shape(found, config.lora)
    except (ConfigError, StoreError, TrainerError) as error:
        return Check("adapter", "fail", str(error))
    return Check("adapter", "ok", f"The run starts from {found}.")


def _rewards(config: RunConfig, report: dict[str, Any]) -> tuple[Check, dict[str, Any]]:
    custom = [reward.name for reward in config.paid if ".py:" in reward.name]
    # Try them in another process before this one imports them, so that their side effects do not happen here.
    tried = 0
    if custom and config.try_rewards:
        if "prompt" not in report:
            raise TrainerError("data", "Your own rewards were not tried, because no example could be prepared.")
        tried = reward_trial.try_rewards(config, _examples(config, 1)[0])
    rewards = build(config, lambda texts: torch.zeros(len(texts), 1).numpy())
    weighted = ", ".join(f"{reward.name} × {reward.weight:g}" for reward in rewards)
    if custom and not tried:
        return Check("rewards", "warn", f"{weighted}. Your own rewards were not tried, because try_rewards is off."), {}
    return Check("rewards", "ok", f"{weighted}.{' Your own rewards were tried on an example.' if tried else ''}"), {}


def _examples(config: RunConfig, n: int) -> list[Example]:
    """Return examples of the run's first role. Raises TrainerError if any of its roles would be empty."""
    data_config = config.data
    if config.method == "none":
        return datasets.load_role(data_config, "test", n)
    counts: dict[Role, int] = {
        "train": n,
        "val": min(1, data_config.val_examples),
        "test": min(1, data_config.test_examples),
    }
    return datasets.load_roles(data_config, counts, imitates=config.imitates).examples["train"]


def _vllm(config: RunConfig, report: dict[str, Any]) -> tuple[Check, dict[str, Any]]:
    grpo.check_vllm(config)
    return Check("vllm", "warn", "Sampling with vLLM is untested, and its memory is not estimated."), {}


def _chat_template(config: RunConfig, report: dict[str, Any]) -> tuple[Check, dict[str, Any]]:
    """Check how the chat template renders the run's prompts and, for imitation, its targets."""
    processor = loading.load_processor(config.model)
    turn = chat_template.read(processor)
    chat_template.check_style(turn, config.style, repr(config.model.id))
    if config.method == "sft":
        conversation = prompt.messages(chat_template.QUESTION, config.style, instruction=config.instruction)
        target = prompt.target(THINKING, 7, config.style)
        chat_template.imitated_turn(processor, conversation, target, config.style, repr(config.model.id))
    if turn.closed:
        sentence = "It closes an empty think block before the completion, so the model's reasoning comes after it."
        return Check("chat template", "warn" if config.style == "cot" else "ok", sentence), {}
    if turn.opening:
        return Check("chat template", "ok", "It opens <think> itself; completions are recorded with that tag."), {}
    return Check("chat template", "ok", "It adds nothing to the completion."), {}


def _data_and_prompt(config: RunConfig, report: dict[str, Any]) -> tuple[Check, dict[str, Any]]:
    count = max(memory.SAMPLE, config.prompts_per_step)
    examples = _examples(config, min(count, config.data.train_examples) if config.method == "grpo" else memory.SAMPLE)
    grpo.check_enough(config, len(examples))
    example = examples[0]
    processor = loading.load_processor(config.model)
    text = generation.render(processor, example, config.style, config.instruction)
    inputs = generation.encode(processor, [example], [text])
    length = inputs["input_ids"].shape[1]
    picture = example.images[0]
    picture.thumbnail((SHOWN_EDGE, SHOWN_EDGE))
    image_id = processor.tokenizer.convert_tokens_to_ids(getattr(processor, "image_token", "<image>"))
    facts = {
        "prompt": text,
        "prompt_hash": prompt.fingerprint(
            text.replace(prompt.escape_tags(example.question), "{question}"), harness.pixel_settings(processor)
        ),
        "prompt_tokens": length,
        "largest": asdict(memory.largest(processor, examples, config)),
        "image_tokens": int((inputs["input_ids"] == image_id).sum()),
        "image": "data:image/png;base64," + base64.b64encode(encode_png(picture)).decode(),
    }
    sentence = f"{example.dataset} can be read; a prompt has {length} tokens."
    dataset, world = config.data.dataset, EMBEDDED.get(config.model.id)
    if world and dataset in DRAWN_DATASETS and not dataset.startswith(world):
        choices = ", ".join(name for name in DRAWN_DATASETS if name.startswith(world))
        sentence = f"{sentence} {config.model.id} was pre-trained on another world; choose {choices}."
        return Check("data", "warn", sentence), facts
    if config.data.split_rule == "row":
        sentence = f"{sentence} It is split by row, as in the original, so splits share images."
        return Check("data", "warn", sentence), facts
    return Check("data", "ok", sentence), facts


def _sharing(config: RunConfig, report: dict[str, Any]) -> tuple[Check, dict[str, Any]]:
    if "largest" not in report:
        raise TrainerError("data", "The savings of prompt sharing are unknown, because no example could be prepared.")
    described = loading.architecture(config.model)
    refused = prefix_sharing.refusal(described) is not None
    sentence = sharing.in_words(config, described, memory.Workload(**report["largest"]))
    return Check("sharing", "warn" if refused else "ok", sentence), {}


def _memory(config: RunConfig, report: dict[str, Any]) -> tuple[Check, dict[str, Any]]:
    """Check the memory for the largest example seen; without one, the cost of images is unknown."""
    if "largest" not in report:
        raise TrainerError("data", "Memory was not estimated, because no example could be prepared.")
    estimate = memory.estimate(config, memory.Workload(**report["largest"]))
    level: Level = "ok"
    sentence = memory.in_words(estimate)
    if estimate.peak > TIGHT * estimate.available:
        level = "fail" if estimate.peak > estimate.available else "warn"
        sentence = f"{sentence} {memory.ADVICE[estimate.phase]}"
    numbers = {"peak": estimate.peak, "available": estimate.available, "phase": estimate.phase, "parts": estimate.parts}
    return Check("memory", level, sentence), {"memory": numbers | {"parameters": estimate.parameters}}
