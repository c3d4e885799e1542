"""The recorder of a foreign script: starts a run with its training, records it, and closes it at its end.

Everything that may wait for a database or a disk is done by a separate thread. No exception reaches the script.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from store.db.schema import JobState
from store.jobs import new_uid
from store.journal import RECORDED, Begun, Described, Ended, Process, Record, StepRecord
from store.trace import Form, form_of, opening
from trainer.datasets import pictures
from trainer.datasets.images import PictureError
from trainer.jobs.collective import agree
from trainer.launch import identity
from trainer.record import asked, capture
from trainer.record.capture import Generation, GenerationCapture
from trainer.record.courier import Courier
from trainer.record.spool import Spool, name_of
from trainer.record.step_recorder import StepRecorder

logger = logging.getLogger(__name__)

Value = TypeVar("Value")
BEGIN_SECONDS = 2.0
"""Seconds that the start waits for the database, so that a script learns at once if it is not recorded."""
END_SECONDS = 10.0
"""Seconds that the end of a training waits until everything is stored, or on the disk."""


def attach(trainer: Any, *, name: str, db: str | None, grammar: str | None) -> Attached | None:
    """Attach a recorder to a trainer; see `trainer.recorder.record`."""
    processes = getattr(trainer.args, "world_size", 1)
    if not trainer.is_world_process_zero():
        if capture.generates(trainer):
            GenerationCapture(trainer, None, _asked, opening, evaluations=True)
        trainer.add_callback(Agreeing())
        return None
    recorder = Attached(trainer, name, db, grammar, agrees=processes > 1)
    if capture.generates(trainer):
        GenerationCapture(trainer, recorder.keep, _asked, opening, evaluations=True)
    trainer.add_callback(recorder)
    recorder.open()
    return recorder


def _or(default: Value, take: Callable[..., Value], *given: Any) -> Value:
    """Return what a trainer says about itself, or the default if this one cannot say it."""
    try:
        return take(*given)
    except Exception as error:
        logger.warning("Something of this trainer cannot be recorded (%s); training goes on.", error)
        return default


def _asked(row: Any) -> asked.Asked | None:
    """Return what a row asks; None if it cannot be read: its completions are recorded without an example."""
    try:
        return asked.asked(row, _file_of)
    except Exception as error:
        logger.warning("A dataset row cannot be recorded (%s: %s); training goes on.", type(error).__name__, error)
        return None


def _file_of(picture: Any) -> bytes | None:
    """Return a picture's file, read as in our own datasets: a script's paths may lead anywhere."""
    try:
        return pictures.for_store(picture, (Path.cwd(), Path(Path.cwd().anchor)))
    except (PictureError, OSError) as error:
        logger.warning("A picture cannot be recorded (%s); training goes on.", error)
        return None


class Agreeing(TrainerCallback):
    """On the other processes: stops after the same step as the first process."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        agree(control)


class Attached(StepRecorder):
    """A recorder that starts a run with each training, beats during it, and closes the run at its end."""

    def __init__(self, trainer: Any, name: str, db: str | None, grammar: str | None, *, agrees: bool) -> None:
        samples = capture.generates(trainer)
        super().__init__(
            style=form_of("cot", grammar or "none"),
            weights=_or(dict[str, float](), capture.reward_weights, trainer) if samples else {},
            shared_names=frozenset(_or(set[str](), capture.shared_names, trainer)) if samples else frozenset(),
        )
        self._trainer, self._name, self._db, self._grammar, self._agrees = trainer, name, db, grammar, agrees
        self._runs = self._opened = 0
        self._courier: Courier | None = None
        self._is_training = self._is_open = False
        self._process = os.getpid()
        atexit.register(self.close)

    @property
    def run_uid(self) -> str | None:
        """Uid of the run that is being recorded; None before training."""
        return self._courier.begun.uid if self._courier else None

    def open(self) -> None:
        """Open the database for later records."""
        self._guarded(self._open)
        if self._courier is not None:
            self._courier.open(BEGIN_SECONDS)

    def keep(self, generation: Generation) -> None:
        if self._grammar is None and self.style == "none":
            self._guarded(lambda: self._tell_form(generation))
        super().keep(generation)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        super().on_train_begin(args, state, control)
        self._guarded(lambda: self._begin(state.global_step, state.max_steps))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        super().on_step_end(args, state, control)
        if self._courier is not None and self._courier.stop_requested:
            control.should_training_stop = True
        if self._agrees:
            agree(control)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        super().on_log(args, state, control, logs, **others)
        if logs and self._is_training and capture.sums_up(logs):
            self._guarded(lambda: self._take(Described(environment={"summary": capture.summary(logs)})))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        super().on_train_end(args, state, control)
        stopped = self._courier is not None and self._courier.stop_requested and state.global_step < state.max_steps
        self._guarded(lambda: self._end(state.global_step, JobState.STOPPED if stopped else JobState.FINISHED))

    def close(self) -> None:
        """Finish at the end of the script, leaving nothing behind that was sampled or logged."""
        if os.getpid() == self._process:  # not in a forked child
            self._guarded(self._close)

    def _close(self) -> None:
        self._send_pending()
        if self._is_training:
            error = getattr(sys, "last_value", None)
            told = f"{type(error).__name__}: {error}" if error else "The script ended before its training did."
            self._finish(JobState.FAILED, told)
        elif self._is_open:
            self._finish(JobState.FINISHED)
        if self._courier is not None:
            self._courier.close(END_SECONDS)

    def _begin(self, step: int, max_steps: int) -> None:
        """Begin a run for a training from step 0; from a checkpoint, continue the run it belongs to."""
        if self._is_training:
            self._send_pending()
            self._finish(JobState.FAILED, "The training was begun anew before it ended.")
        if self._courier is None or (self._runs and not step):
            self._open()
        self._runs += 1
        self._is_training = True
        self._take(replace(self._begun(), run=self._begun().run | {"max_steps": max_steps}, step=step))
        if self._courier is not None:
            self._courier.wait(BEGIN_SECONDS)

    def _begun(self) -> Begun:
        assert self._courier is not None
        return self._courier.begun

    def _open(self) -> None:
        """Open a run for the next records; the thread creates it at the first one."""
        trainer, me, uid = self._trainer, identity.current(), new_uid()
        if self._courier is not None:
            self._courier.close(END_SECONDS)
        self._opened += 1
        samples = capture.generates(trainer)
        run: dict[str, Any] = {
            "name": f"{self._name} ({self._opened})" if self._opened > 1 else self._name,
            "method": "grpo" if samples else "sft",
            "style": "direct" if self.style == "direct" else "cot",
            "grammar": self.style if self.style in ("boxed", "none") else "ours",
            "model": _or("unknown", capture.model_name, trainer.model),
            "dataset": RECORDED,
            "config": {"recorded": _or({}, lambda: trainer.args.to_sanitized_dict())},
            "reward_weights": self.weights,
            "lora_rank": _or(None, capture.adapter_rank, trainer.model),
            "seed": getattr(trainer.args, "seed", None),
            "output_dir": str(trainer.args.output_dir),
        }
        begun = Begun(uid, run, Process(me.host, me.boot_id, me.pid, me.started), at=time.time())
        self._courier = Courier(begun, self._db, Spool(Path(trainer.args.output_dir) / name_of(uid)))

    def _tell_form(self, generation: Generation) -> None:
        """Detect the grammar of texts from what the prompts ask for."""
        prompts = {str(row.prompt) for row in generation.rows if row is not None}
        form: Form | None = None
        if any("<answer>" in each for each in prompts):
            form = "cot" if any("<think>" in each for each in prompts) else "direct"
        elif any("boxed{" in each for each in prompts):
            form = "boxed"
        if form is not None:
            self.style = form
            grammar = "boxed" if form == "boxed" else "ours"
            self._take(Described({"grammar": grammar, "style": "direct" if form == "direct" else "cot"}))

    def _end(self, step: int, state: JobState) -> None:
        self._send_pending()
        left = self._named(_or({}, capture.left_over, self._trainer))
        if left:
            self._take(StepRecord(step, left, None, left.get("tokens")))
        self._finish(state)

    def _finish(self, state: JobState, error: str | None = None) -> None:
        self._is_training = self._is_open = False
        if self._courier is not None:
            self._courier.take(Ended(state, error))
            self._courier.settle(END_SECONDS)

    def _send_pending(self) -> None:
        """Send the completions of an update or an evaluation that never ended."""
        self._send_held()
        self._send_evaluated("")
        pending, self._pending = self._pending, []
        for generation in pending:
            self._take(self._record(generation.step or 0, [generation], {}))

    def _take(self, record: Record) -> None:
        if self._courier is None:
            self._open()
        assert self._courier is not None
        if isinstance(record, Begun):
            self._is_open = True
        elif not self._runs and not self._is_open:  # an evaluation before the first training
            self._is_open = True
            self._courier.take(self._courier.begun)
        self._courier.take(record)

    def _lose(self, error: object) -> None:
        if self._courier is not None:
            self._courier.delivery.lose(error)
        else:
            logger.warning("Part of the training could not be recorded (%s); training goes on.", error)
