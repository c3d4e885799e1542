"""From any TRL trainer into the store: every step's metrics and completions, one commit a step.

For a script of your own, two lines (your `report_to` stays as it is):

    from trainer.recorder import record
    record(trainer, name="my run")          # before trainer.train()

Knows TRL's callbacks and the store's writes; knows nothing of models or prompts. A failure to record never stops
training: steps that the database does not take wait in a file, and an event tells of them once it answers again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from store import write
from store.connection import Unreachable
from store.engine import Store, StoreError, open_store
from store.rows import CompletionRow, TokenRow
from store.schema import JobState
from store.trl_keys import SKIPPED, metric_name
from trainer import scoring
from trainer.capture import Generation, GenerationCapture
from trainer.heartbeat import Heartbeat
from trainer.launch import identity, webhook
from trainer.prompt import Style
from trainer.spool import NAME, Spool, StepRecord
from trainer.stopping import StopFlag
from trainer.together import Follower, agree

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
"""A database that did not answer is left alone for so long: to ask it may take a while."""


@dataclass
class Recorder(TrainerCallback):
    """TrainerCallback that commits every logged step, or keeps it in the spool until the store answers."""

    store: Store
    run_id: int
    job_id: int | None
    spool: Spool
    style: Style = "cot"
    weights: dict[str, float] = field(default_factory=dict)
    identify: Callable[[Sequence[dict[str, Any]]], list[int | None]] = lambda rows: [None] * len(rows)
    """Database ids of the examples behind dataset rows, of which it may ask for `example` alone."""
    measure: Callable[[Generation], list[TokenRow]] = lambda generation: []
    """What policy and base think of the tokens of a generation's first completions."""
    failures: int = 0
    """What was lost since the last event that said so."""
    waited: int = 0
    """Steps in the spool."""
    seconds: float = 0.0
    """Time spent in recording so far."""
    stop_requested: int = 0
    last_tokens: float = 0.0
    """The trainer's count at the last step."""
    _pending: list[Generation] = field(default_factory=list)
    _measured: dict[int, TokenRow] = field(default_factory=dict)
    """By place among the completions of the pending generations."""
    _measuring: float = 0.0
    """Seconds since the last logged step."""
    _last_log: float = field(default_factory=time.perf_counter)
    _has_logged: bool = False
    _try_again_at: float = 0.0

    def keep(self, generation: Generation) -> None:
        """Takes a generation and measures it while the weights are those that sampled it.

        It is written with the next logged step.
        """
        start = time.perf_counter()
        place = sum(len(each.texts) for each in self._pending)
        self._pending.append(generation)
        try:
            self._measured.update(enumerate(self.measure(generation), place))
        except Exception as error:
            self.failures += 1
            logger.warning("The tokens of a generation could not be measured (%s); training goes on.", error)
        self._measuring += time.perf_counter() - start

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._last_log = time.perf_counter()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._has_logged:  # what other callbacks did since then, a validation for example, is no training
            self._last_log, self._has_logged = time.perf_counter(), False

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "train_runtime" in logs or not state.is_world_process_zero:
            return
        start = time.perf_counter()
        try:
            self._deliver(self._gathered(state.global_step, logs, start - self._last_log))
        except Exception as error:
            self.failures += 1
            logger.warning("Step %s could not be recorded (%s); training goes on.", state.global_step, error)
        self._last_log, self._has_logged = time.perf_counter(), True
        self.seconds += self._last_log - start

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.settle()

    def settle(self) -> None:
        """Writes what waits, for which a patient store waits too. Raises StoreError; then it waits on."""
        self.waited = 0
        for record in self.spool.waiting():
            self._write(self.store, record)
            self.waited += 1
        self._say_that_it_answers()

    def _gathered(self, step: int, logs: dict[str, Any], elapsed: float) -> StepRecord:
        metrics = {metric_name(key): value for key, value in logs.items() if key not in SKIPPED and _is_number(value)}
        generations, self._pending = self._pending, []
        measured, self._measured = self._measured, {}
        completions = [row for generation in generations for row in self._rows(generation)]
        metrics |= self._derived(metrics, generations, completions, elapsed)
        rows = [{"example": row.get("example")} for generation in generations for row in generation.inputs]
        return StepRecord(step, metrics, time.time(), metrics.get("tokens"), completions, rows, measured)

    def _deliver(self, record: StepRecord) -> None:
        """Commits a step after those that wait; without an answer it waits with them. Raises OSError."""
        at_once = replace(self.store, patience=0.0)
        try:
            if time.monotonic() < self._try_again_at:
                raise Unreachable("The database was away a moment ago.")
            for waiting in self.spool.waiting():
                self._write(at_once, waiting)
            self._write(at_once, record)
        except StoreError as error:
            self._try_again_at = time.monotonic() + RETRY_SECONDS
            self.spool.add(record)
            self.waited += 1
            logger.warning("Step %s waits in %s (%s); training goes on.", record.step, self.spool.path, error)
            return
        self._say_that_it_answers()

    def _write(self, store: Store, record: StepRecord) -> None:
        """A step that is written again replaces itself."""
        self.stop_requested = write.record_step(
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

    def _say_that_it_answers(self) -> None:
        """After something was written: what waited for it, and what was lost."""
        if self.waited:
            self.spool.clear()
            self._say("recording_resumed", f"{self.waited} steps waited in a file until the database answered.")
            self.waited = 0
        if self.failures:
            self._say("recording_failed", f"{self.failures} steps could not be recorded in full.")
            self.failures = 0

    def _say(self, kind: str, message: str) -> None:
        write.add_event(self.store, self.run_id, kind, message, job_id=self.job_id)

    def _derived(
        self,
        metrics: dict[str, float | None],
        generations: Sequence[Generation],
        completions: Sequence[CompletionRow],
        elapsed: float,
    ) -> dict[str, float | None]:
        whole = metrics.get("time/step") or elapsed
        found: dict[str, float | None] = {"time/step": whole}
        if not generations:
            tokens = metrics.get("tokens")
            if tokens is not None:
                found["tokens_per_second"] = max(0.0, tokens - self.last_tokens) / whole if whole else None
                self.last_tokens = tokens
            return found
        generating = sum(g.generation_seconds for g in generations)
        scoring_time = sum(g.scoring_seconds for g in generations)
        measuring, self._measuring = self._measuring, 0.0
        n = len(completions)
        return found | {
            "time/generation": generating,
            "time/scoring": scoring_time,
            "time/tokens": measuring,
            "time/update": max(0.0, whole - generating - scoring_time - measuring),
            "tokens_per_second": sum(sum(g.lengths) for g in generations) / whole if whole else None,
            "wellformed_share": sum(row.wellformed for row in completions) / n,
            "correct_share": sum(bool(row.correct) for row in completions) / n,
            "reasoning_steps": sum(row.steps for row in completions) / n,
        }

    def _rows(self, generation: Generation) -> list[CompletionRow]:
        size = generation.group_size
        return [
            CompletionRow(
                **vars(
                    scoring.trace_fields(
                        text,
                        truth=_truth(generation.inputs[i]),
                        style=self.style,
                        tokens=generation.lengths[i],
                        truncated=generation.truncated[i],
                        components={name: values[i] for name, values in generation.rewards.items()},
                        weights=self.weights,
                    )
                ),
                generation=generation.number,
                group=i // size,
                index=i % size,
                advantage=generation.advantages[i],
            )
            for i, text in enumerate(generation.texts)
        ]


def _truth(row: dict[str, Any]) -> int | None:
    """The true count of a dataset row, where it has one."""
    text = str(row.get("answer", "")).strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def record(trainer: Any, *, name: str, db: str | None = None) -> Recorder | None:
    """Records a TRL trainer of somebody else's script as a run of its own, from here to the end of its training.

    `db` is a path or an SQLAlchemy URL; by default VR1Z_DATABASE_URL, else the dashboard's default. A GRPOTrainer's
    completions are recorded with their groups. *Stop* in the dashboard ends the training after the step at hand. Of
    several processes each calls this, the first one records, and the others get None.
    """
    generates = hasattr(trainer, "_generate_and_score_completions")
    if not trainer.is_world_process_zero():
        if generates:
            GenerationCapture(trainer, None)
        trainer.add_callback(Follower())
        return None
    store = open_store(db)
    weights = _weights(trainer) if generates else {}
    run = write.create_run(
        store,
        name=name,
        method="grpo" if generates else "sft",
        style="cot",
        model=str(getattr(trainer.model.config, "_name_or_path", "") or type(trainer.model).__name__),
        dataset="(recorded)",
        config={"recorded": trainer.args.to_sanitized_dict()},
        reward_weights=weights,
        lora_rank=_rank(trainer.model),
        seed=trainer.args.seed,
        output_dir=trainer.args.output_dir,
    )
    job = write.add_job(store, run.id, "train", {"recorded": True})
    me = identity.current()
    write.start_job(store, job.id, host=me.host, boot_id=me.boot_id, pid=me.pid, pid_started=me.started, log_path=None)
    recorder = _Attached(store, run.id, job.id, Spool(Path(trainer.args.output_dir) / NAME), weights=weights)
    recorder.job_uid = job.uid
    if generates:
        GenerationCapture(trainer, recorder.keep)
    trainer.add_callback(recorder)
    return recorder


class _Attached(Recorder):
    """A Recorder that is its own job: it beats while training goes on and closes the job at its end."""

    _heart: Heartbeat | None = None
    job_uid: str = ""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        super().on_train_begin(args, state, control)
        assert self.job_id is not None
        write.describe_run(self.store, self.run_id, max_steps=state.max_steps)
        self._heart = Heartbeat(self.store, self.job_id, StopFlag())
        self._heart.__enter__()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        super().on_log(args, state, control, logs, **others)
        if logs and "train_runtime" not in logs:
            control.should_training_stop = control.should_training_stop or bool(self.stop_requested)
            agree(control)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        super().on_train_end(args, state, control)
        if self._heart is not None and self.job_id is not None:
            self._heart.__exit__(None, None, None)
            ended = JobState.STOPPED if self.stop_requested else JobState.FINISHED
            write.end_job(self.store, self.job_id, ended, exit_code=0)
            webhook.tell_end(self.store, self.job_uid)


def _weights(trainer: Any) -> dict[str, float]:
    return dict(zip(trainer.reward_func_names, trainer.reward_weights.tolist(), strict=True))


def _rank(model: Any) -> int | None:
    adapters = getattr(model, "peft_config", None)
    return next(iter(adapters.values())).r if adapters else None
