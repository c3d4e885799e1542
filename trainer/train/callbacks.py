"""Run probes and validations, save checkpoints, and stop on request, between updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from store.db.engine import Store
from store.evaluations.records import list_evaluations
from store.steps import record_metrics
from trainer.datasets.example import Example
from trainer.evaluate import recording
from trainer.evaluate.base_answers import BaseAnswers
from trainer.evaluate.harness import Harness
from trainer.jobs.activity import is_asked_to_stop, say
from trainer.jobs.collective import agree
from trainer.models.checkpoints import Checkpoints
from trainer.recorder import Recorder
from trainer.spec.config import RunConfig
from trainer.spec.errors import Stopped


class Interrupted(Stopped):
    """Raised if a stop is requested during a validation, which the resumed run will finish."""


@dataclass
class Watch(TrainerCallback):
    """Probes and validates when due, keeps checkpoints, and stops on request, after each recorded step."""

    store: Store
    run_id: int
    job_id: int
    config: RunConfig
    harness: Harness
    val: Sequence[Example]
    recorder: Recorder
    checkpoints: Checkpoints
    best: float = -1.0
    accuracy: float | None = None
    """Validation accuracy at this step, if it was validated."""
    was_interrupted: bool = False
    knows_base: bool = False
    """Whether the initial policy has been probed and validated."""

    def remember(self, step: int) -> None:
        """Restore the best validation accuracy up to `step` after a resume."""
        values = [
            e.metrics.get("exact_match")
            for e in list_evaluations(self.store, self.run_id)
            if e.kind == "val" and 0 < e.step <= step
        ]
        self.best = max([value for value in values if value is not None], default=-1.0)

    def look_at_start(self) -> None:
        """Probe and validate the initial policy as step 0, unless that is done. Raises Interrupted.

        This happens after the first update, so that the run shows a step early; `harness.as_started` restores the
        policy.
        """
        if self.knows_base:
            return
        done = {e.kind for e in list_evaluations(self.store, self.run_id) if e.step == 0 and e.ended_at is not None}
        trained = self.harness
        if trained.start is None:
            conditions = trained.conditions(self.val[0])
            base_answers = BaseAnswers(self.store.folder, trained.model, self.config.model, conditions)
            self.harness = replace(trained, kept=base_answers)
        try:
            with trained.as_started():
                if "probe" not in done:
                    self.probe(0)
                if "val" not in done:
                    self.validate(0)
        finally:
            self.harness = trained
        self.knows_base, self.accuracy = True, None

    def look(self, step: int) -> bool:
        """Run the probe and validation that are due at `step`; return whether it was validated. Raises Interrupted."""
        settings, last = self.config.evaluation, self.config.optimization.steps
        if step % settings.probe_every == 0 or step == last:
            self.probe(step)
        due = step % settings.val_every == 0 or step == last
        if due:
            self.validate(step)
        say(self.store, self.job_id, "training")
        return due

    def probe(self, step: int) -> None:
        say(self.store, self.job_id, "probing the base" if step == 0 else "probing")
        examples = self.val[: self.config.evaluation.probe_examples]
        figures = recording.probe(self.store, self.run_id, self.harness, examples, step=step)
        record_metrics(self.store, self.run_id, step, figures)

    def validate(self, step: int) -> None:
        """Evaluate on the validation split. Raises Interrupted after the batch in which a stop was requested."""
        activity = "validating the base" if step == 0 else "validating"
        figures = recording.evaluate(
            self.store,
            self.run_id,
            self.harness,
            self.val,
            kind="val",
            step=step,
            pause=self._pause,
            progress=lambda done, total: say(self.store, self.job_id, activity, done, total),
        )
        record_metrics(self.store, self.run_id, step, curves("val", figures))
        self.accuracy = figures["exact_match"]

    def _pause(self) -> None:
        if is_asked_to_stop(self.store, self.job_id):
            raise Interrupted

    def catch_up(self, step: int) -> None:
        """Finish validations that a stop interrupted, with the same weights, after a resume."""
        self.look_at_start()
        validations = [e for e in list_evaluations(self.store, self.run_id) if (e.kind, e.step) == ("val", step)]
        if any(evaluation.ended_at is None for evaluation in validations):
            self.validate(step)
            self._saved(step)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step:
            self.catch_up(state.global_step)
            say(self.store, self.job_id, "training")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "train_runtime" in logs:
            return
        validated, self.accuracy = False, None
        try:
            self.look_at_start()
            validated = self.look(state.global_step)
        except Interrupted:
            self.was_interrupted = True
        if self.recorder.stop_requested or self.was_interrupted:
            control.should_training_stop = True
        control.should_save = validated or control.should_training_stop or control.should_save
        agree(control)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._saved(state.global_step)

    def _saved(self, step: int) -> None:
        improved = self.accuracy is not None and self.accuracy > self.best
        if improved:
            self.best = float(self.accuracy or 0.0)
        self.checkpoints.saved(step, self.accuracy, best=improved)
        self.accuracy = None


def curves(prefix: str, figures: dict[str, Any]) -> dict[str, float | None]:
    """Return the metrics of an evaluation that are drawn over steps."""
    chosen = {
        "accuracy": "exact_match",
        "accuracy_low": "exact_match_low",
        "accuracy_high": "exact_match_high",
        "wellformed": "wellformed",
        "steps": "mean_steps",
        "length": "mean_tokens",
        "cos_mean": "cos_mean",
        "cos@0.8": "cos_at_0.8",
    }
    metrics = {f"{prefix}/{name}": figures[key] for name, key in chosen.items() if key in figures}
    logged = {key.removeprefix(recording.LOGGED): value for key, value in figures.items() if recording.LOGGED in key}
    return metrics | {f"{prefix}/{name}": value for name, value in logged.items()}
