"""Turn a TRL trainer's callbacks and captured generations into records of its steps.

Completions belong to the update that they were sampled for, whenever the trainer logs; what it logs belongs to the step
that it names.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from store.completions.summary import right_share
from store.db.rows import CompletionRow, ExampleRow, TokenRow
from store.importing.trl_keys import metric_name
from store.journal import RECORDED, Evaluated, Record, StepRecord
from store.trace import Form
from trainer.evaluate import scoring
from trainer.record import asked, capture
from trainer.record.capture import Generation

MOST_EVALUATION_BYTES = 256 * 2**20
"""Bytes of pictures that one evaluation may hold until it ends; further examples are kept without theirs."""


class StepRecorder(TrainerCallback):
    """Gathers what belongs to each step and passes it on as records; it never raises into the training."""

    def __init__(
        self,
        *,
        style: Form = "cot",
        weights: dict[str, float] | None = None,
        measure: Callable[[Generation], list[TokenRow]] | None = None,
        shared_names: frozenset[str] = frozenset(),
    ) -> None:
        self.style: Form = style
        self.weights = weights or {}
        self.measure = measure
        """Measures policy and base on the tokens of a generation's first completions."""
        self.shared_names = shared_names
        """Names that several rewards have, for which TRL logs one mean."""
        self.seconds = 0.0
        """Seconds spent in recording so far."""
        self.last_tokens = 0.0
        """The trainer's token count at the last step."""
        self._pending: list[Generation] = []
        self._evaluated: list[Generation] = []
        """Samples of the current evaluation."""
        self._measured: dict[int, list[TokenRow]] = {}
        """Token figures by the number of their generation."""
        self._measuring = 0.0
        """Seconds spent measuring tokens in the current step."""
        self._held: StepRecord | None = None
        """A step that has ended, while its metrics may still come."""
        self._step_began: float | None = None
        self._since_tokens = 0.0
        """Seconds of the steps since tokens were last counted."""
        self._last_log = time.perf_counter()

    def _take(self, record: Record) -> None:
        """Pass on a record."""
        raise NotImplementedError

    def _lose(self, error: object) -> None:
        """Count what cannot be recorded."""
        raise NotImplementedError

    def keep(self, generation: Generation) -> None:
        """Take a generation, and measure it while the weights are those that sampled it.

        It is written with the step that it was sampled for.
        """
        if generation.of_evaluation:
            self._evaluated.append(generation)
            return
        start = time.perf_counter()
        self._pending.append(generation)
        if self.measure is not None:
            try:
                self._measured[generation.number] = self.measure(generation)
            except Exception as error:
                self._lose(error)
        self._measuring += time.perf_counter() - start

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._last_log = time.perf_counter()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._guarded(self._send_held)
        self._step_began = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.is_world_process_zero:
            self._guarded(lambda: self._end_step(state.global_step, will_log=control.should_log))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if logs and state.is_world_process_zero:
            self._guarded(lambda: self._log(state.global_step, logs))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._guarded(self._send_held)

    def _guarded(self, work: Callable[[], None]) -> None:
        start = time.perf_counter()
        try:
            work()
        except Exception as error:
            self._lose(f"{type(error).__name__}: {error}")
        self.seconds += time.perf_counter() - start

    def _end_step(self, step: int, *, will_log: bool) -> None:
        self._send_held()
        now = time.perf_counter()
        self._hold(step, now - (self._last_log if self._step_began is None else self._step_began))
        self._step_began, self._last_log = None, now
        if not will_log:
            self._send_held()

    def _log(self, step: int, logs: Mapping[str, Any]) -> None:
        metrics = self._named(capture.metrics(logs))
        evaluated = next((name[:-8] for name in logs if name.endswith("_runtime") and name != "train_runtime"), None)
        if evaluated is not None:
            self._send_evaluated(evaluated.removeprefix("eval").strip("_"))
        is_held = self._held is not None and self._held.step == step
        if not is_held and any(each.step is None for each in self._pending):  # a trainer that does not report steps
            self._end_step(step, will_log=True)
            is_held = True
        if is_held and self._held is not None and evaluated is None:
            tokens = metrics.get("tokens")
            self._held = replace(self._held, metrics=self._held.metrics | metrics | self._pace(tokens), tokens=tokens)
            metrics = {}
        self._send_held()
        if metrics:
            self._take(StepRecord(step, metrics, None, metrics.get("tokens")))
        self._last_log = time.perf_counter()

    def _named(self, metrics: Mapping[str, float | None]) -> dict[str, float | None]:
        """Return metrics under the store's names, without means that stand for several rewards."""
        theirs = {f"rewards/{name}/{figure}" for name in self.shared_names for figure in ("mean", "std")}
        return {metric_name(name): value for name, value in metrics.items() if name not in theirs}

    def _pace(self, tokens: float | None) -> dict[str, float | None]:
        """Return tokens per second of a training that does not sample."""
        if tokens is None:
            return {}
        seconds, self._since_tokens = self._since_tokens, 0.0
        counted, self.last_tokens = max(0.0, tokens - self.last_tokens), tokens
        samples = self._held is not None and bool(self._held.completions)
        return {"tokens_per_second": counted / seconds} if seconds and not samples else {}

    def _hold(self, step: int, elapsed: float) -> None:
        """Make the record of a step that has ended, and of earlier ones whose end was not reported."""
        due: dict[int, list[Generation]] = defaultdict(list)
        left: list[Generation] = []
        for generation in self._pending:
            own = step if generation.step is None else generation.step
            (due[own] if own <= step else left).append(generation)
        self._pending = left
        self._since_tokens += elapsed
        for own, generations in sorted(due.items()):
            if own < step:
                self._take(self._record(own, generations, {}))
        generations = due.get(step, [])
        self._held = self._record(step, generations, self._times(generations, elapsed))

    def _record(self, step: int, generations: Sequence[Generation], times: dict[str, float | None]) -> StepRecord:
        completions: list[CompletionRow] = []
        rows: list[dict[str, Any]] = []
        measured: dict[int, TokenRow] = {}
        examples: dict[str, tuple[int, ExampleRow]] = {}
        groups = 0
        for generation in generations:
            measured.update(enumerate(self._measured.pop(generation.number, []), len(completions)))
            completions += self._rows(generation, groups)
            groups += -(-len(generation.texts) // generation.group_size)
            for i, row in enumerate(generation.inputs):
                if not generation.rows or generation.rows[i] is None:
                    rows.append({"example": row.get("example")})
                    continue
                one = generation.rows[i]
                place, _ = examples.setdefault(one.key, (len(examples), _example(one)))
                rows.append({"example": place})
        found = times | (self._figures(generations, completions) if completions else {})
        return StepRecord(
            step, found, time.time(), None, completions, rows, measured, [row for _, row in examples.values()]
        )

    def _send_evaluated(self, name: str) -> None:
        """Pass on what was sampled for the evaluation set `name`; pictures are kept up to a limit."""
        generations, self._evaluated = self._evaluated, []
        rows: list[CompletionRow] = []
        places: list[int] = []
        examples: dict[str, tuple[int, ExampleRow]] = {}
        held = 0
        for generation in generations:
            for row, one in zip(self._rows(generation, 0), generation.rows, strict=False):
                if one is None:
                    self._lose("an example of an evaluation could not be read")
                    continue
                if one.key not in examples:
                    example = _example(one)
                    held += sum(map(len, example.images))
                    kept = example if held <= MOST_EVALUATION_BYTES else replace(example, images=())
                    examples[one.key] = (len(examples), kept)
                rows.append(row)
                places.append(examples[one.key][0])
        if rows:
            step = generations[0].step or 0
            self._take(Evaluated(step, name, rows, places, [each for _, each in examples.values()]))

    def _times(self, generations: Sequence[Generation], elapsed: float) -> dict[str, float | None]:
        found: dict[str, float | None] = {"time/step": elapsed}
        if generations:
            generating = sum(each.generation_seconds for each in generations)
            scoring_time = sum(each.scoring_seconds for each in generations)
            found |= {
                "time/generation": generating,
                "time/scoring": scoring_time,
                "time/tokens": self._measuring,
                "time/update": max(0.0, elapsed - generating - scoring_time - self._measuring),
            }
            if elapsed:
                found["tokens_per_second"] = sum(sum(each.lengths) for each in generations) / elapsed
        self._measuring = 0.0
        return found

    def _figures(
        self, generations: Sequence[Generation], completions: Sequence[CompletionRow]
    ) -> dict[str, float | None]:
        """Return the figures of a step's completions; unknown ones are absent."""
        n = len(completions)
        found: dict[str, float | None] = {}
        if self.style != "none":
            found["wellformed_share"] = sum(row.wellformed for row in completions) / n
        if self.style == "cot":
            found["reasoning_steps"] = sum(row.steps for row in completions) / n
        if (right := right_share(completions)) is not None:
            found["correct_share"] = right
        for name in self.weights:
            if any(name == shared or name.startswith(f"{shared} (") for shared in self.shared_names):
                values = [value for each in generations for value in each.rewards.get(name, []) if value is not None]
                found[f"reward/{name}"] = sum(values) / len(values) if values else None
        return found

    def _rows(self, generation: Generation, first_group: int) -> list[CompletionRow]:
        size = generation.group_size
        return [
            CompletionRow(
                **vars(
                    scoring.trace_fields(
                        text,
                        truth=self._truth(generation, i),
                        style=self.style,
                        tokens=generation.lengths[i],
                        truncated=generation.truncated[i],
                        components={name: values[i] for name, values in generation.rewards.items()},
                        weights=self.weights,
                    )
                ),
                generation=generation.number,
                group=first_group + i // size,
                index=i % size,
                advantage=generation.advantages[i],
            )
            for i, text in enumerate(generation.texts)
        ]

    def _truth(self, generation: Generation, i: int) -> int | None:
        """Return the true count of a completion's example, if it has one that its text is checked against."""
        if self.style == "none":
            return None
        row = generation.rows[i] if generation.rows else None
        return asked.count(generation.inputs[i].get("answer") if row is None else row.gold)

    def _send_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._take(held)


def _example(one: asked.Asked) -> ExampleRow:
    """Return what a foreign script's row asks, as the store holds it."""
    return ExampleRow(
        dataset=RECORDED,
        split="train",
        key=one.key,
        question=one.question,
        answer=asked.count(one.gold),
        gold=one.gold,
        prompt=one.prompt,
        columns=one.columns or None,
        images=one.images,
    )
