"""The two recorders: of our own trainer, and of somebody else's script.

For a script of your own, two lines (your `report_to` stays as it is):

    from trainer.recorder import record
    record(trainer, name="my run")          # before trainer.train()

A failure to record never stops training: records that the database does not take wait in a file, and an event tells
of them once it answers again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from transformers import TrainerControl, TrainerState, TrainingArguments

from store.db.engine import Store
from store.db.rows import TokenRow
from store.events import add_event
from store.journal import Happened, Record, StepRecord
from store.steps import record_step
from store.trace import Form
from trainer.record.attached import Attached, attach
from trainer.record.capture import Generation
from trainer.record.delivery import Delivery
from trainer.record.spool import Spool
from trainer.record.step_recorder import StepRecorder

__all__ = ["Recorder", "record"]


class Recorder(StepRecorder):
    """Recorder of an existing run: commits every step, or keeps it in the spool until the store answers."""

    def __init__(
        self,
        store: Store,
        run_id: int,
        job_id: int | None,
        spool: Spool,
        *,
        style: Form = "cot",
        weights: dict[str, float] | None = None,
        identify: Callable[[Sequence[dict[str, Any]]], list[int | None]] = lambda rows: [None] * len(rows),
        measure: Callable[[Generation], list[TokenRow]] | None = None,
    ) -> None:
        """`identify` returns database ids of the examples of dataset rows, which have the column `example` alone."""
        super().__init__(style=style, weights=weights, measure=measure)
        self.store, self.run_id, self.job_id, self.spool = store, run_id, job_id, spool
        self.identify = identify
        self.stop_requested = 0
        self.delivery = Delivery(self._put_at_once, spool)

    @property
    def failures(self) -> int:
        """Number of records lost since the last event that reported them."""
        return self.delivery.failures + self.spool.lost

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        super().on_train_end(args, state, control)
        self.settle()

    def settle(self) -> None:
        """Write what waits, as long as a patient store takes. Raises StoreError; then the rest keeps waiting."""
        self.delivery.put = self._put
        try:
            self.delivery.settle()
        finally:
            self.delivery.put = self._put_at_once

    def _take(self, record: Record) -> None:
        self.delivery.take(record)

    def _lose(self, error: object) -> None:
        self.delivery.lose(error)

    def _put_at_once(self, record: Record) -> None:
        self._put(record, replace(self.store, patience=0.0))

    def _put(self, record: Record, store: Store | None = None) -> None:
        """Store a record. Raises StoreError."""
        store = store or self.store
        if isinstance(record, Happened):
            add_event(store, self.run_id, record.kind, record.message, job_id=self.job_id)
        elif isinstance(record, StepRecord):
            self.stop_requested = record_step(
                store,
                self.run_id,
                record.step,
                record.metrics,
                at=record.at,
                tokens=record.tokens,
                completions=record.with_examples(self.identify(record.rows)),
                measured=record.measured,
                job_id=self.job_id,
            )


def record(
    trainer: Any, *, name: str, db: str | None = None, grammar: Literal["ours", "boxed", "none"] | None = None
) -> Attached | None:
    """Record a TRL trainer of your own script as a run, until the script ends.

    `db` is a path or an SQLAlchemy URL; the default is VR1Z_DATABASE_URL, else the dashboard's default. A GRPOTrainer's
    completions are recorded with their groups, prompts, pictures and columns. `grammar` says how texts are read: `ours`
    (`<think>`, `<answer>`), `boxed` (`\\boxed{…}`) or `none`; by default it follows from the prompts. *Stop* in the
    dashboard ends the training after the current step. With several processes, each calls this; the first one records,
    and the others get None.

    It never ends or delays the script. While the database is away, records wait in `unwritten-UID.jsonl` in the
    trainer's `output_dir`; what is left there at the end is imported by `python -m store import journal FILE`.
    """
    return attach(trainer, name=name, db=db, grammar=grammar)
