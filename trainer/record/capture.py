"""Capture what a running TRL trainer samples and logs: generations, numbers, names. Imports nothing of this project.

TRL keeps only the latest generation batch in `_logs` and shuffles rows after scoring; therefore methods are wrapped on
the instance. Other versions of TRL may have other methods: what cannot be captured is missing and reported once, and no
exception of this module reaches the training. `tests/training/test_trl_contract.py` pins what this relies on.
"""

from __future__ import annotations

import inspect
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Real
from typing import Any, NamedTuple

logger = logging.getLogger(__name__)

PLAIN = (str, int, float, bool)
SUMMARY = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos")
"""Keys that summarize a training in its last entry; only that entry has `train_loss`."""
_EVERY_ENTRY = ("epoch", "total_flos")
_LAST = 32
"""Prompt tokens, counted from its end, among which the template's opening is looked for."""


@dataclass(frozen=True)
class Generation:
    """A generation batch in TRL's order: the G completions of a prompt are adjacent."""

    number: int
    inputs: Sequence[dict[str, Any]]
    """Dataset rows, repeated G times each, with plain values only."""
    ids: Sequence[Sequence[int]]
    """Generated tokens, including the end token."""
    texts: Sequence[str]
    """What was generated, after the prompt's opening."""
    lengths: Sequence[int]
    truncated: Sequence[bool]
    rewards: dict[str, list[float | None]]
    """Raw values by reward function name."""
    advantages: Sequence[float | None]
    group_size: int
    generation_seconds: float
    scoring_seconds: float
    step: int | None = None
    """The update that it was sampled for; None if that is the next one to be logged."""
    rows: Sequence[Any] = field(default_factory=tuple)
    """What `GenerationCapture` was asked to keep of each dataset row."""
    of_evaluation: bool = False
    """Whether it was sampled to evaluate the weights after `step` updates."""


class GenerationCapture:
    """Wraps a GRPOTrainer and passes each training generation to `sink`, with the rows of all processes.

    With `evaluations`, generations of evaluations are passed, too.

    Every process needs one; only the first has a sink. `keep` turns a dataset row into its entry in `Generation.rows`;
    the rows of a group share it. `opening` returns how a rendered prompt begins its completion, given the prompt's end:
    texts then start with it.
    """

    def __init__(
        self,
        trainer: Any,
        sink: Callable[[Generation], None] | None,
        keep: Callable[[Mapping[str, Any]], Any] | None = None,
        opening: Callable[[str], str] | None = None,
        evaluations: bool = False,
    ) -> None:
        self._trainer = trainer
        self._evaluations = evaluations
        self._opening = opening
        self._sink = sink
        self._keep = keep
        self._count = 0
        self._generation_seconds = 0.0
        self._scoring_seconds = 0.0
        self._ids: list[list[int]] | None = None
        self._openings: list[str] = []
        self._rewards: Any = None
        self._warned = False
        self._originals: dict[str, Callable[..., Any]] = {}
        for name, wrapper in (
            ("_generate", self._timed_generate),
            ("_calculate_rewards", self._timed_score),
            ("_generate_and_score_completions", self._captured),
        ):
            if callable(original := getattr(trainer, name, None)):
                self._originals[name] = original
                setattr(trainer, name, wrapper)
        if "_generate_and_score_completions" not in self._originals:
            self._warn("it has no _generate_and_score_completions")

    def _warn(self, why: object) -> None:
        if not self._warned:
            logger.warning("Completions of this TRL cannot be recorded in full (%s); training goes on.", why)
        self._warned = True

    def _timed_generate(self, *args: Any, **named: Any) -> Any:
        start = time.perf_counter()
        output = self._originals["_generate"](*args, **named)
        self._generation_seconds = time.perf_counter() - start
        try:
            if self._opening is not None:
                decode = _tokenizer(self._trainer).decode
                self._openings = [self._opening(decode(ids[-_LAST:])) for ids in output[0]]
        except Exception as error:
            self._warn(error)
        return output

    def _timed_score(self, *args: Any, **named: Any) -> Any:
        original = self._originals["_calculate_rewards"]
        start = time.perf_counter()
        rewards = original(*args, **named)
        self._scoring_seconds = time.perf_counter() - start
        try:
            given = inspect.signature(original).bind(*args, **named).arguments
            ids = next(given[name] for name in ("completion_ids_list", "completion_ids") if name in given)
            self._ids, self._rewards = [_whole_numbers(each) for each in ids], rewards
        except Exception as error:
            self._warn(error)
        return rewards

    def _captured(self, *args: Any, **named: Any) -> Any:
        self._ids = self._rewards = None
        self._openings = []
        self._generation_seconds = self._scoring_seconds = 0.0
        output = self._originals["_generate_and_score_completions"](*args, **named)
        try:
            if self._evaluations or self._trainer.model.training:
                self._hand_over(args[0] if args else named["inputs"], output)
        except Exception as error:
            self._warn(f"{type(error).__name__}: {error}")
        return output

    def _hand_over(self, inputs: Sequence[Mapping[str, Any]], output: Mapping[str, Any]) -> None:
        """Pass on a generation. Always gather: a process with a fault must not let the others wait for it."""
        own: _Part | None = None
        try:
            own = self._part(inputs, output)
        except Exception as error:
            self._warn(f"{type(error).__name__}: {error}")
        parts = _gathered([own])
        number = self._count
        self._count += bool(self._trainer.model.training)
        if self._sink is None:
            return
        if any(part is None for part in parts):
            raise ValueError("the completions of a step are missing")
        self._sink(self._assemble(number, parts))

    def _part(self, inputs: Sequence[Mapping[str, Any]], output: Mapping[str, Any]) -> _Part:
        """Return this process's part of a generation."""
        ids = self._ids
        if ids is None:
            kept = zip(output["completion_ids"].tolist(), output["completion_mask"].tolist(), strict=True)
            ids = [[token for token, used in zip(*row, strict=True) if used] for row in kept]
        advantages = output.get("advantages")
        if len(ids) != len(inputs):
            raise ValueError(f"{len(ids)} completions of {len(inputs)} rows")
        # A group may begin on one process and end on the next.
        first = self._trainer.accelerator.process_index * len(inputs)
        kept_rows: list[Any] = []
        for i, row in enumerate(inputs):
            same = i > 0 and (first + i) % self._group_size()
            kept_rows.append(None if self._keep is None else kept_rows[-1] if same else self._keep(row))
        return _Part(
            [{name: row[name] for name in row if isinstance(row[name], PLAIN)} for row in inputs],
            ids,
            [None] * len(ids) if advantages is None else advantages.tolist(),
            kept_rows,
            self._openings if len(self._openings) == len(ids) else [""] * len(ids),
        )

    def _assemble(self, number: int, parts: Sequence[_Part]) -> Generation:
        trainer = self._trainer
        tokenizer = _tokenizer(trainer)
        ends = end_tokens(trainer)
        ids = [each for part in parts for each in part.ids]
        columns = [] if self._rewards is None else self._rewards[: len(ids)].tolist()
        return Generation(
            number=number,
            inputs=[row for part in parts for row in part.inputs],
            ids=ids,
            texts=[
                begun + decoded(tokenizer, each, ends)
                for begun, each in zip((text for part in parts for text in part.openings), ids, strict=True)
            ],
            lengths=[len(each) for each in ids],
            truncated=[not each or each[-1] not in ends for each in ids],
            rewards={name: [_known(row[i]) for row in columns] for i, name in enumerate(reward_names(trainer))}
            if columns
            else {},
            advantages=[value for part in parts for value in part.advantages],
            group_size=self._group_size(),
            generation_seconds=self._generation_seconds,
            scoring_seconds=self._scoring_seconds,
            step=trainer.state.global_step + bool(trainer.model.training),
            rows=[row for part in parts for row in part.rows],
            of_evaluation=not trainer.model.training,
        )

    def _group_size(self) -> int:
        trainer = self._trainer
        training = trainer.num_generations
        return int(training if trainer.model.training else getattr(trainer, "num_generations_eval", None) or training)


class _Part(NamedTuple):
    """One process's part of a generation, an entry a completion."""

    inputs: list[dict[str, Any]]
    ids: list[list[int]]
    advantages: list[float | None]
    rows: list[Any]
    openings: list[str]


def _gathered(rows: list[Any]) -> list[Any]:
    from accelerate.utils import gather_object

    found: list[Any] = gather_object(rows)
    return found


def _whole_numbers(ids: Any) -> list[int]:
    return [int(token) for token in (ids.tolist() if hasattr(ids, "tolist") else ids)]


def _known(value: float) -> float | None:
    return None if value != value else value


def _tokenizer(trainer: Any) -> Any:
    processing = trainer.processing_class
    return getattr(trainer, "_tokenizer", None) or getattr(processing, "tokenizer", processing)


def end_tokens(trainer: Any) -> set[int]:
    """Return the ids that end a completion."""
    declared = getattr(trainer, "eos_token_ids", None)
    if declared is None:
        declared = getattr(trainer, "eos_token_id", None)
    if declared is None:
        declared = _tokenizer(trainer).eos_token_id
    ids = declared if isinstance(declared, list | tuple | set) else [declared]
    return {token for token in ids if token is not None}


def decoded(tokenizer: Any, ids: Sequence[int], ends: set[int]) -> str:
    """Return the text of token ids, without the end token; other special tokens stay visible."""
    kept = list(ids)
    while kept and (kept[-1] in ends or kept[-1] == tokenizer.pad_token_id):
        kept.pop()
    text: str = tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def generates(trainer: Any) -> bool:
    """Return whether a trainer samples completions while it trains."""
    return hasattr(trainer, "_generate_and_score_completions")


def reward_names(trainer: Any) -> list[str]:
    """Return the names of the reward functions; the second of a name has its number appended."""
    found: list[str] = []
    for name in map(str, trainer.reward_func_names):
        number = 1
        while (own := name if number == 1 else f"{name} ({number})") in found:
            number += 1
        found.append(own)
    return found


def shared_names(trainer: Any) -> set[str]:
    """Return names shared by several reward functions: TRL logs one mean for all of them."""
    names = [str(name) for name in trainer.reward_func_names]
    return {name for name in names if names.count(name) > 1}


def reward_weights(trainer: Any) -> dict[str, float]:
    weights = getattr(trainer, "reward_weights", None)
    names = reward_names(trainer)
    values = [1.0] * len(names) if weights is None else [float(weight) for weight in weights]
    return dict(zip(names, values, strict=True))


def adapter_rank(model: Any) -> int | None:
    adapters = getattr(model, "peft_config", None)
    return getattr(next(iter(adapters.values())), "r", None) if adapters else None


def model_name(model: Any) -> str:
    return str(getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__)


def sums_up(logs: Mapping[str, Any]) -> bool:
    """Return whether an entry is the last of a training, which holds its summary beside the remaining metrics."""
    return "train_loss" in logs and "train_runtime" in logs


def metrics(logs: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers of a log entry by name, without the summary in the last one.

    With several evaluation sets, TRL logs its own figures as `eval_…` for each: they get the set's prefix.
    """
    left_out = (*_EVERY_ENTRY, *SUMMARY) if sums_up(logs) else _EVERY_ENTRY
    prefix = next((name[:-8] for name in logs if name.endswith("_runtime") and name != "train_runtime"), "eval")
    found: dict[str, float | None] = {}
    for name, value in flattened(logs):
        if name not in left_out:
            strays = name.startswith("eval_") and not name.startswith(f"{prefix}_")
            found[f"{prefix}_{name[5:]}" if strays else name] = value
    return found


def summary(logs: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the summary of a training from its last entry."""
    return {name: value for name, value in flattened(logs) if name in SUMMARY}


def flattened(logs: Mapping[str, Any], before: str = "") -> list[tuple[str, float | None]]:
    """Return names and numbers, nested ones as `outer/inner`; other values are left out."""
    found: list[tuple[str, float | None]] = []
    for key, value in logs.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found += flattened(value, f"{name}/")
        elif (number := as_number(value)) is not None or value is None:
            found.append((name, number))
    return found


def as_number(value: Any) -> float | None:
    """Return the number in a Python, NumPy or torch scalar of any type, or None for anything else."""
    if callable(item := getattr(value, "item", None)):
        try:
            value = item()
        except Exception:  # several elements, or a tensor without data
            return None
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except ValueError:  # a signalling NaN
        return math.nan


def left_over(trainer: Any) -> dict[str, float | None]:
    """Return means of what TRL has gathered since its last entry: it never logs them if an evaluation comes last."""
    gathered = getattr(trainer, "_metrics", None)
    values = gathered.get("train", {}) if isinstance(gathered, Mapping) else {}
    found: dict[str, float | None] = {}
    for name, each in values.items():
        numbers = [number for number in map(as_number, each) if number is not None and number == number]
        if each:
            found[str(name)] = sum(numbers) / len(numbers) if numbers else None
    return found
