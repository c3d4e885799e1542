"""Keep a run's checkpoints: the last (to resume), the best on validation (to test), and the final adapter."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.db import ownership
from store.db.engine import Store
from store.events import list_checkpoints, set_checkpoint
from store.runs import get_run
from trainer.spec.errors import TrainerError

WEIGHTS, SHAPE = "adapter_model.safetensors", "adapter_config.json"
START = "start"
"""Subfolder of a run's output with the adapter from which it starts."""


@dataclass(frozen=True)
class Checkpoint:
    step: int
    path: Path


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run in its output folder, where TRL writes `checkpoint-STEP` folders."""

    store: Store
    run_id: int
    output: Path

    def saved(self, step: int, value: float | None, *, best: bool) -> None:
        """Record a checkpoint that TRL has written, and remove those that are no longer referenced."""
        if not ownership.reclaim(self.store, get_run(self.store, self.run_id).uid, self.output):
            raise TrainerError(
                "disk", f"{self.output} now belongs to another run. Resume this run; it will use a new folder."
            )
        path = self.output / f"checkpoint-{step}"
        set_checkpoint(self.store, self.run_id, kind="last", step=step, path=str(path), value=value, is_best=best)
        referenced = {Path(row.path) for row in list_checkpoints(self.store, self.run_id)}
        for folder in self.output.glob("checkpoint-*"):
            if folder not in referenced:
                shutil.rmtree(folder)

    def final(self, trainer: Any, step: int) -> None:
        """Save the final adapter."""
        path = self.output / "final"
        trainer.model.save_pretrained(str(path), selected_adapters=["default"])
        trainer.processing_class.save_pretrained(str(path))
        set_checkpoint(self.store, self.run_id, kind="final", step=step, path=str(path))

    def best(self) -> Checkpoint | None:
        return self._find("best")

    def resume_point(self) -> Checkpoint | None:
        """Return the last checkpoint, or None if the run has none. Raises TrainerError if its folder is missing."""
        return self._find("last")

    def get(self, name: str) -> Checkpoint:
        """Return the checkpoint `best`, `last`, `final` or that of a step. Raises TrainerError with a list."""
        rows = list_checkpoints(self.store, self.run_id)
        for row in rows:
            if name in (row.kind, str(row.step)):
                return Checkpoint(row.step, _existing(row.path))
        names = ", ".join(f"{row.kind} (step {row.step})" for row in rows) or "none"
        raise TrainerError("config", f"Checkpoint {name!r} does not exist. The run has: {names}.")

    def _find(self, kind: str) -> Checkpoint | None:
        rows = [row for row in list_checkpoints(self.store, self.run_id) if row.kind == kind]
        return Checkpoint(rows[0].step, _existing(rows[0].path)) if rows else None


def _existing(path: str) -> Path:
    folder = Path(path)
    if not folder.is_dir():
        raise TrainerError("disk", f"The checkpoint folder {folder} does not exist. Launch a new run.")
    return folder


def keep_start(source: Path, output: Path) -> None:
    """Copy the adapter from which a run starts: its run may train further, and a resumed run needs it again."""
    copy = output / START
    copy.mkdir(parents=True, exist_ok=True)
    for name in (SHAPE, WEIGHTS):
        shutil.copyfile(source / name, copy / name)
