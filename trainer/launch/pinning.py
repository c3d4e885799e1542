"""Make a configuration independent of time and place: absolute paths, run uids, and a copy of the adapter.

The job may start in another folder, run names are not unique, and the run with the adapter may train further.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from store.db.engine import Store
from store.db.rows import RunRef
from store.events import add_event
from store.runs import get_run, resolve_run
from trainer.models.checkpoints import Checkpoint, Checkpoints, keep_start
from trainer.spec import checkpoint, paths
from trainer.spec.config import EMBEDDED, ConfigError, DataConfig, RunConfig
from trainer.spec.errors import TrainerError

MOST_SHOWN = 300
"""Most characters of a path in an error message."""


def pin_config(store: Store, config: RunConfig) -> RunConfig:
    """Return the config with absolute paths and run uids.

    Raises ConfigError for a missing file or checkpoint, StoreError for an unknown run.
    """
    rewards = []
    for reward in config.rewards:
        path, is_file, function = reward.name.rpartition(":")
        if is_file and not paths.is_file(path):
            raise ConfigError(f"rewards: the file {path[:MOST_SHOWN]} does not exist. Check the path.")
        name = f"{paths.absolute(path)}:{function}" if is_file else reward.name
        rewards.append(reward.model_copy(update={"name": name}))
    model = config.model
    if model.id not in EMBEDDED and paths.is_dir(model.id):
        model = model.model_copy(update={"id": str(paths.absolute(model.id))})
    if model.adapter is not None:
        model = model.model_copy(update={"adapter": _pinned_adapter(store, model.adapter)})
    return config.model_copy(update={"rewards": tuple(rewards), "model": model, "data": _pinned_data(config.data)})


def _pinned_data(data: DataConfig) -> DataConfig:
    path, is_file, function = data.dataset.rpartition(":")
    pinned: dict[str, str] = {}
    if is_file:
        pinned["dataset"] = f"{_there('data.dataset', path, paths.is_file)}:{function}"
    if data.path:
        pinned["path"] = _there("data.path", data.path, paths.is_dir)
    if data.traces:
        pinned["traces"] = _there("data.traces", data.traces, paths.is_file)
    return data.model_copy(update=pinned)


def _there(field: str, text: str, is_right: Callable[[str], bool]) -> str:
    """Return the absolute path of a file or folder. Raises ConfigError if it does not exist."""
    if not is_right(text):
        noun = "folder" if is_right is paths.is_dir else "file"
        raise ConfigError(f"{field}: the {noun} {text[:MOST_SHOWN]} does not exist. Check the path.")
    return str(paths.absolute(text))


def _pinned_adapter(store: Store, reference: str) -> str:
    if paths.is_dir(reference):
        return str(paths.absolute(reference))
    name, checkpoint_name = checkpoint.parse(reference)
    run = get_run(store, resolve_run(store, name))
    return run.uid if checkpoint_name is None else f"{run.uid}:{_checkpoint(store, run.id, checkpoint_name).step}"


def _checkpoint(store: Store, run_id: int, name: str) -> Checkpoint:
    try:
        return Checkpoints(store, run_id, Path()).get(name)
    except TrainerError as error:
        raise ConfigError(f"model.adapter: {error.message}") from None


def keep_adapter(store: Store, run: RunRef, adapter: str, output: Path) -> None:
    """Copy the checkpoint that a run starts from, which may be deleted before the job starts. Raises ConfigError."""
    name, checkpoint_name = checkpoint.parse(adapter)
    if checkpoint_name is None:
        return
    source = _checkpoint(store, resolve_run(store, name), checkpoint_name)
    try:
        keep_start(source.path, output)
    except OSError as error:
        raise ConfigError(
            f"model.adapter: {source.path} cannot be copied ({error.strerror}). Choose another adapter."
        ) from None
    add_event(store, run.id, "adapter", f"Starts from step {source.step} of run {name}.")
