"""Record training into the database: that of our own trainer, and that of your own script.

In your own script, add two lines (your `report_to` stays as it is):

    from trainer.recorder import record
    record(trainer, name="my run")          # before trainer.train()

They write directly to the database. To record through the dashboard, from any environment, copy the file
`trainer/record/vr1z.py` next to your script instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from store.completions import gold
from store.db.engine import Store
from store.db.rows import TokenRow
from store.db.values import clean, finite
from store.events import add_event
from store.recording import rows
from store.recording.records import EventRecord, Sampled, StepRecord
from store.recording.rows import Known
from store.steps import record_step
from store.trace import Form
from trainer.record import vr1z
from trainer.record.delivery import Delivery
from trainer.record.direct import Database
from trainer.record.spool import Spool
from trainer.record.vr1z import Gatherer, Generation, HeldStep

__all__ = ["Recorder", "record"]


class Recorder(Gatherer, TrainerCallback):
    """Records into an existing run: commits every step, or keeps it in the spool until the store answers."""

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
        """Record `trainer`.

        `identify` returns the database ids of dataset rows' examples; the rows have only the column `example`.
        `measure` measures policy and base on the tokens of a generation's first completions.
        """
        super().__init__()
        self.store, self.run_id, self.job_id, self.spool = store, run_id, job_id, spool
        self.style: Form = style
        self.weights = weights or {}
        self.identify = identify
        self.measure = measure
        self.stop_requested = 0
        self.delivery = Delivery(self._put_at_once, spool)
        self._measured: dict[int, list[TokenRow]] = {}
        """Token measurements by generation number."""

    @property
    def failures(self) -> int:
        """Number of records lost since the last event that reported them."""
        return self.delivery.failures + self.spool.lost

    def keep(self, generation: Generation) -> None:
        """Accept a generation, and measure it while the weights are still those that sampled it."""
        super().keep(generation)
        start = time.perf_counter()
        if self.measure is not None and not generation.of_evaluation:
            try:
                self._measured[generation.number] = self.measure(generation)
            except Exception as error:
                self.lose(error)
        self.measuring_seconds += time.perf_counter() - start

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        super().on_train_end(args, state, control)
        self.settle()

    def settle(self) -> None:
        """Write what is pending, waiting for the store if necessary. Raises StoreError; the rest then stays pending."""
        self.delivery.put = self._put
        try:
            self.delivery.settle()
        finally:
            self.delivery.put = self._put_at_once

    def take_step(self, step: HeldStep) -> None:
        completions: list[Sampled] = []
        measured: dict[int, TokenRow] = {}
        for generation in step.generations:
            measured.update(enumerate(self._measured.pop(generation.number, []), len(completions)))
            completions += _sampled(generation, -(-len(completions) // generation.group_size))
        metrics = {name: finite(value) for name, value in step.metrics.items()}
        record = StepRecord(
            step=step.step, at=step.at, metrics=metrics, completions=tuple(completions), measured=measured
        )
        self.delivery.take(record)

    def take_metrics(self, step: int, metrics: dict[str, float | None]) -> None:
        self.delivery.take(StepRecord(step=step, metrics={name: finite(value) for name, value in metrics.items()}))

    def lose(self, error: object) -> None:
        self.delivery.lose(error)

    def _put_at_once(self, record: StepRecord | EventRecord) -> None:
        self._put(record, replace(self.store, patience=0.0))

    def _put(self, record: StepRecord | EventRecord, store: Store | None = None) -> None:
        """Store a record. Raises StoreError."""
        store = store or self.store
        if isinstance(record, EventRecord):
            add_event(store, self.run_id, record.kind, record.message, job_id=self.job_id)
            return
        numbers = list(dict.fromkeys(each.row for each in record.completions if each.row is not None))
        ids = self.identify([{"example": number} for number in numbers])
        examples: dict[str | int, Known] = {
            number: Known(id, None) for number, id in zip(numbers, ids, strict=True) if id is not None
        }
        completions = rows.completion_rows(record.completions, self.style, self.weights, examples)
        metrics = rows.store_names(record.metrics)
        self.stop_requested = record_step(
            store,
            self.run_id,
            record.step,
            metrics | rows.figures(completions, self.style),
            at=record.at,
            tokens=metrics.get("tokens"),
            completions=completions,
            measured=record.measured,
            job_id=self.job_id,
        )


def _sampled(generation: Generation, first_group: int) -> list[Sampled]:
    size = generation.group_size
    return [
        Sampled(
            text=clean(text),
            row=generation.inputs[i].get("example"),
            truth=gold.count(generation.inputs[i].get("answer")),
            generation=generation.number,
            group=first_group + i // size,
            index=i % size,
            advantage=finite(generation.advantages[i]),
            tokens=generation.lengths[i],
            truncated=generation.truncated[i],
            rewards={name: finite(values[i]) for name, values in generation.rewards.items()},
        )
        for i, text in enumerate(generation.texts)
    ]


def record(
    trainer: Any, *, name: str, db: str | None = None, grammar: Literal["ours", "boxed", "none"] | None = None
) -> vr1z.TrainerRecorder | None:
    """Record the TRL trainer of your own script as a run, until the script ends.

    `db` is a path or an SQLAlchemy URL; the default is VR1Z_DATABASE_URL, or else the dashboard's default. For
    everything else see `vr1z.record`, which this uses; only delivery differs, as it goes directly to the database.
    """
    return vr1z.record(trainer, name=name, grammar=grammar, dashboard=Database(db))
