"""Whole generations out of a running TRL GRPOTrainer: every completion with its group, rewards and advantage.

TRL keeps only the latest generation batch in `_logs` and shuffles rows after scoring; so three of its
methods are wrapped on the instance. `tests/training/test_trl_contract.py` pins what is relied on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.generation import decode
from trainer.together import gathered
from trainer.trace import opening

_PLAIN = (str, int, float, bool)
_LAST = 32
"""Tokens of a prompt among which is what its template opens."""


@dataclass(frozen=True)
class Generation:
    """One generation batch in TRL's order: the G completions of a prompt stand side by side."""

    number: int
    inputs: Sequence[dict[str, Any]]
    """Dataset rows, repeated G times each; of what they hold, plain values alone."""
    ids: Sequence[Sequence[int]]
    """Generated tokens, end token included."""
    texts: Sequence[str]
    """What was generated, after what the prompt had opened."""
    lengths: Sequence[int]
    truncated: Sequence[bool]
    rewards: dict[str, list[float | None]]
    """Raw values by reward function name."""
    advantages: Sequence[float]
    group_size: int
    generation_seconds: float
    scoring_seconds: float


class GenerationCapture:
    """Wraps a GRPOTrainer and hands each generation of training mode to `sink`, with the rows of all processes.

    Every process must have one; only the first has a sink.
    """

    def __init__(self, trainer: Any, sink: Callable[[Generation], None] | None) -> None:
        self._trainer = trainer
        self._sink = sink
        self._count = 0
        self._generation_seconds = 0.0
        self._scoring_seconds = 0.0
        self._ids: list[list[int]] = []
        self._openings: list[str] = []
        self._rewards: Any = None
        self._generate = trainer._generate
        self._score = trainer._calculate_rewards
        self._whole = trainer._generate_and_score_completions
        trainer._generate = self._timed_generate
        trainer._calculate_rewards = self._timed_score
        trainer._generate_and_score_completions = self._captured

    def _timed_generate(self, prompts: list[Any]) -> Any:
        start = time.perf_counter()
        output = self._generate(prompts)
        self._generation_seconds = time.perf_counter() - start
        self._openings = [opening(self._trainer._tokenizer.decode(ids[-_LAST:])) for ids in output[0]]
        return output

    def _timed_score(self, inputs: Any, prompts: Any, completions: Any, completion_ids: list[list[int]]) -> Any:
        start = time.perf_counter()
        rewards = self._score(inputs, prompts, completions, completion_ids)
        self._scoring_seconds = time.perf_counter() - start
        self._ids, self._rewards = completion_ids, rewards
        return rewards

    def _captured(self, inputs: list[dict[str, Any]]) -> Any:
        output = self._whole(inputs)
        if self._trainer.model.training:
            generation = self._assemble(inputs, output)
            self._count += 1
            if self._sink is not None:
                self._sink(generation)
        return output

    def _assemble(self, inputs: list[dict[str, Any]], output: dict[str, Any]) -> Generation:
        trainer = self._trainer
        ends = set(trainer.eos_token_ids)
        names = trainer.reward_func_names
        rows = gathered([{name: row[name] for name in row if isinstance(row[name], _PLAIN)} for row in inputs])
        ids = gathered(self._ids)
        columns = self._rewards[: len(rows)].tolist()
        return Generation(
            number=self._count,
            inputs=rows,
            ids=ids,
            texts=[
                begun + decode(trainer._tokenizer, each, ends)
                for begun, each in zip(gathered(self._openings), ids, strict=True)
            ],
            lengths=[len(each) for each in ids],
            truncated=[not each or each[-1] not in ends for each in ids],
            rewards={name: [_number(row[i]) for row in columns] for i, name in enumerate(names)},
            advantages=gathered(output["advantages"].tolist()),
            group_size=trainer.num_generations,
            generation_seconds=self._generation_seconds,
            scoring_seconds=self._scoring_seconds,
        )


def _number(value: float) -> float | None:
    return None if value != value else value
