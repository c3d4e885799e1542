"""Find the adapter from which a run starts, keep a copy of it, and load its weights into a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file

from store.db.engine import Store
from store.events import add_event
from store.runs import resolve_run
from trainer.models import loading
from trainer.models.checkpoints import SHAPE, START, WEIGHTS, Checkpoints, keep_start
from trainer.models.loading import Base
from trainer.patches import quantized
from trainer.spec import checkpoint, paths
from trainer.spec.config import LoraConfig, RunConfig
from trainer.spec.errors import TrainerError


def starting_point(store: Store, run_id: int, job_id: int, config: RunConfig, output: Path) -> Path | None:
    """Return a folder with a copy of the adapter from which the run starts; None if it starts from the base.

    It is copied at the first start, unless the launch did so. Raises TrainerError if it is missing, or if its shape
    differs from the run's.
    """
    if config.model.adapter is None:
        return None
    copy = output / START
    if not (copy / WEIGHTS).is_file():
        source = find(store, config.model.adapter)
        keep_start(source, output)
        add_event(store, run_id, "adapter", f"Starts from the adapter in {source}.", job_id=job_id)
    check_shape(copy, config.lora)
    return copy


def find(store: Store, reference: str) -> Path:
    """Return the folder of an adapter: `reference` itself, or the checkpoint that it names (`trainer.spec.checkpoint`).

    A run without a named checkpoint means its best, or its final one if it has no best.
    """
    if paths.is_dir(reference):
        folder = paths.absolute(reference)
        if (folder / WEIGHTS).is_file() and (folder / SHAPE).is_file():
            return folder
        raise TrainerError("config", f"model.adapter: {folder} has no {WEIGHTS} with {SHAPE}. Choose another adapter.")
    name, checkpoint_name = checkpoint.parse(reference)
    checkpoints = Checkpoints(store, resolve_run(store, name), Path())
    if checkpoint_name is not None:
        return checkpoints.get(checkpoint_name).path
    chosen = checkpoints.best() or checkpoints.get("final")
    return chosen.path


def check_shape(folder: Path, lora: LoraConfig) -> None:
    """Raise TrainerError unless the adapter is a LoRA of this rank and scaling."""
    try:
        saved = json.loads((folder / SHAPE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise TrainerError("data", f"{folder / SHAPE} is damaged. Choose another adapter.") from error
    if saved.get("peft_type") != "LORA" or saved.get("use_dora") or saved.get("use_rslora"):
        raise TrainerError("config", f"model.adapter: {folder} is not a plain LoRA adapter. Choose another adapter.")
    if saved.get("target_modules") == loading.adapter_targets(lora.model_copy(update={"vision": not lora.vision})):
        does, value = ("does not adapt", "false") if lora.vision else ("adapts", "true")
        raise TrainerError(
            "config", f"The adapter in {folder} {does} the vision tower. Set lora.vision to {value}, as it was trained."
        )
    expected = loading.adapter(lora)
    if (saved.get("r"), saved.get("lora_alpha")) != (expected.r, expected.lora_alpha):
        raise TrainerError(
            "config",
            f"The adapter in {folder} has rank {saved.get('r')} and alpha {saved.get('lora_alpha')}, but the run has "
            f"{expected.r} and {expected.lora_alpha}. Set lora.rank and lora.alpha to the adapter's.",
        )


def policy(base: Base, lora: LoraConfig, start: Path | None) -> dict[str, Any]:
    """Return `model` and `peft_config` for a TRL trainer.

    TRL creates a new adapter itself and then uses the base as the KL reference. Of an adapter in a PEFT model, it keeps
    a frozen copy. So the reference is always the run's initial policy. Raises TrainerError if the tower is to be
    adapted, but has no layer of a known name.
    """
    if lora.vision and not loading.projections(base.model, loading.VISION_PROJECTIONS):
        kind = base.model.config.model_type
        raise TrainerError("config", f"lora.vision: the vision tower of {kind} has no known layers. Set it to false.")
    if start is None:
        return {"model": base.model, "peft_config": loading.adapter(lora)}
    return {"model": with_adapter(base, lora, start), "peft_config": None}


def with_adapter(base: Base, lora: LoraConfig, folder: Path) -> Any:
    """Return the base as a PEFT model with an adapter of this shape and the weights in the folder."""
    model = get_peft_model(base.model, loading.adapter(lora))
    load_adapter(model, folder)
    return model


def in_float32(model: Any, start: Path | None) -> None:
    """Undo TRL's cast of a quantized base's adapter to bfloat16. Call it before the optimizer is created.

    `start` is the folder of the initial weights, which are loaded again because the cast has rounded them.
    """
    was_cast = quantized.adapter_in_float32(model)
    if was_cast and start is not None:
        load_adapter(model, start)


@contextmanager
def as_started(model: Any, start: Path | None) -> Iterator[None]:
    """Temporarily turn a PEFT model into the run's initial policy: the base, or the adapter in `start`.

    Gradients must be off.
    """
    if start is None:
        # PEFT would turn adapters on again at the end of the inner of two nested blocks.
        is_off = any(isinstance(module, LoraLayer) and module.disable_adapters for module in model.modules())
        with nullcontext() if is_off else model.disable_adapter():
            yield
        return
    now = get_peft_model_state_dict(model, save_embedding_layers=False)
    saved = {name: value.detach().clone() for name, value in now.items()}
    load_adapter(model, start)
    try:
        yield
    finally:
        set_peft_model_state_dict(model, saved)


def load_adapter(model: Any, folder: Path) -> None:
    """Load a saved adapter's weights into a PEFT model. Raises TrainerError if the file is missing or does not fit."""
    path = folder / WEIGHTS
    if not path.exists():
        raise TrainerError("disk", f"The checkpoint {folder} has no adapter. Choose another checkpoint.")
    try:
        result = set_peft_model_state_dict(model, load_file(path))
    except RuntimeError as error:
        raise TrainerError(
            "model", f"The adapter in {folder} does not fit the base model: its sizes differ."
        ) from error
    missing = [key for key in result.missing_keys if ".default." in key]
    if missing or result.unexpected_keys:
        raise TrainerError("model", f"The adapter in {folder} does not fit the base model: its layers differ.")
