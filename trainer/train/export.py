"""Export a run's checkpoint to a folder: the adapter or the merged model, with a model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from store.db.engine import Store
from store.evaluations.records import list_evaluations
from store.runs import get_run
from trainer.evaluate import provenance
from trainer.models import adapters, loading
from trainer.models.checkpoints import Checkpoints
from trainer.spec.config import RunConfig
from trainer.spec.errors import TrainerError
from trainer.train import card


def export(store: Store, run_id: int, checkpoint: str, folder: Path, *, merge: bool) -> int:
    """Write safetensors, processor and README.md to an empty or new folder; return the checkpoint's step.

    `checkpoint` is best, last, final or a step number. Raises TrainerError if the folder is not empty, if the run has
    no training, or if the base model cannot be loaded.
    """
    run = get_run(store, run_id)
    config = provenance.config_of(run)
    if config.method == "none":
        raise TrainerError("config", f"{run.name} has no training, so it has no adapter to export.")
    _make_empty(folder)
    saved = Checkpoints(store, run_id, Path(str(run.output_dir))).get(checkpoint)
    if merge:
        _write_merged(config, saved.path, folder)
    else:
        _write_adapter(config, saved.path, folder)
    text = card.card(
        run,
        list_evaluations(store, run_id),
        name=loading.public_name(config.model),
        base=loading.public_location(config.model),
        step=saved.step,
        folder=folder.name,
        merged=merge,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    return saved.step


def _make_empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise TrainerError("disk", f"Cannot write to {folder} ({error.strerror}). Choose another folder.") from error
    if not is_empty:
        raise TrainerError("config", f"{folder} is not empty. Choose a new folder.")


def _write_adapter(config: RunConfig, checkpoint: Path, folder: Path) -> None:
    shutil.copyfile(checkpoint / adapters.WEIGHTS, folder / adapters.WEIGHTS)
    shape = json.loads((checkpoint / adapters.SHAPE).read_text(encoding="utf-8"))
    shape |= {"base_model_name_or_path": loading.public_name(config.model), "revision": config.model.revision}
    (folder / adapters.SHAPE).write_text(json.dumps(shape, indent=2), encoding="utf-8")
    loading.load_processor(config.model).save_pretrained(folder)


def _write_merged(config: RunConfig, checkpoint: Path, folder: Path) -> None:
    """Merge in float32, even if the base was quantized, and save in the base's own precision."""
    exact = config.model.model_copy(update={"quantization": "none", "dtype": "float32"})
    base = loading.load_base(exact)
    merged = adapters.with_adapter(base, config.lora, checkpoint).merge_and_unload()
    merged.to(loading.architecture(config.model).dtype or torch.float32).save_pretrained(folder)
    base.processor.save_pretrained(folder)
