"""Reward functions for completions, with TRL's signature `f(completions, **columns)`.

All built-in rewards parse texts with `store.trace.parse`. Torch-free: the cosine reward takes its encoder as an
argument.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.trace import Trace, parse, read_count
from trainer.spec import foreign, own_reward
from trainer.spec.config import BUILT_IN_REWARDS, ConfigError, RewardConfig, RunConfig
from trainer.spec.presets import VISUAL_WORDS
from trainer.spec.prompt import Style

Completion = str | Sequence[Mapping[str, Any]]
RewardFunction = Callable[..., list[float | None]]
Encoder = Callable[[list[str]], NDArray[Any]]
"""Maps texts to unit vectors, shape (texts, dimensions)."""

STEPS_CAP = 10
KEYWORDS_CAP = 5
_WORD = re.compile(r"\w+")


class Reward(NamedTuple):
    """A reward component, ready to be called."""

    name: str
    weight: float
    function: RewardFunction
    """Its `__name__` is `name`."""
    source: str | None = None
    """Source of a custom reward's file."""
    sha256: str | None = None
    """Hash of that file and of the user's files that it imports."""
    helpers: Mapping[str, str] = MappingProxyType({})
    """Source of the imported files, by path relative to the folder of that file."""

    @property
    def is_own(self) -> bool:
        """Whether it is a user's function."""
        return self.source is not None


class Explained(NamedTuple):
    """Explains a completion's value from one component."""

    name: str
    value: float | None
    weight: float
    reason: str


def format_reward(completions: Sequence[Completion], *, style: Style = "cot", **columns: Any) -> list[float | None]:
    """Return 1.0 for a well-formed completion, and 0.0 otherwise."""
    return [float(trace.wellformed) for trace in _traces(completions, style)]


def accuracy_reward(
    completions: Sequence[Completion], *, answer: Sequence[Any], style: Style = "cot", **columns: Any
) -> list[float | None]:
    """Return 1.0 if the answer equals the true count in column `answer` (int or str), 0.0 if not, None if unknown."""
    traces = _traces(completions, style)
    return [_accuracy(trace, truth) for trace, truth in zip(traces, answer, strict=True)]


def steps_reward(completions: Sequence[Completion], *, style: Style = "cot", **columns: Any) -> list[float | None]:
    """Return 0.1 per counted reasoning step, up to 1.0."""
    return [min(trace.counted_steps, STEPS_CAP) / 10 for trace in _traces(completions, style)]


def keyword_reward(
    completions: Sequence[Completion],
    *,
    words: Sequence[str] = VISUAL_WORDS,
    style: Style = "cot",
    **columns: Any,
) -> list[float | None]:
    """Return 0.1 for each of `words` that occurs in the think body as a whole word, in any case, up to 0.5."""
    return [min(len(_keywords(trace, words)), KEYWORDS_CAP) / 10 for trace in _traces(completions, style)]


def cosine_reward(
    completions: Sequence[Completion],
    *,
    encoder: Encoder,
    reference: Sequence[str | None] | None = None,
    style: Style = "cot",
    **columns: Any,
) -> list[float | None]:
    """Return the think body's cosine similarity to column `reference`, at least 0.

    Malformed completions get 0.0, and examples without a reference None.
    """
    references = [(text or "").strip() for text in reference or [None] * len(completions)]
    thoughts = [trace.think_text for trace in _traces(completions, style)]
    rows = [i for i, (thought, text) in enumerate(zip(thoughts, references, strict=True)) if thought and text]
    values: list[float | None] = [0.0 if text else None for text in references]
    if rows:
        vectors = np.asarray(encoder([str(thoughts[i]) for i in rows] + [references[i] for i in rows]))
        similarities = (vectors[: len(rows)] * vectors[len(rows) :]).sum(axis=1)
        for i, similarity in zip(rows, similarities.tolist(), strict=True):
            values[i] = max(0.0, similarity)
    return values


def random_reward(
    completions: Sequence[Completion], *, question: Sequence[str], seed: int = 0, **columns: Any
) -> list[float | None]:
    """Return 1.0 or 0.0 by a coin toss that ignores the completion's quality, as a control.

    The toss is a hash of seed, question, text and position in the batch, so that a resumed run repeats it and equal
    texts in a group get tosses of their own.
    """
    names = (f"{seed}/{i}/{text}/{_text(c)}" for i, (c, text) in enumerate(zip(completions, question, strict=True)))
    return [float(hashlib.sha256(name.encode(errors="replace")).digest()[0] % 2) for name in names]


def _traces(completions: Sequence[Completion], style: Style) -> list[Trace]:
    return [parse(_text(completion), style) for completion in completions]


def _text(completion: Completion) -> str:
    """Return the assistant's text of a completion: a string, or a list of messages in TRL's format."""
    if isinstance(completion, str):
        return completion
    parts = []
    for message in completion:
        content = message.get("content") or ""
        if message.get("role", "assistant") == "assistant":
            parts += [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    return "".join(parts)


def _accuracy(trace: Trace, truth: Any) -> float | None:
    if truth is None:
        return None
    count = read_count(truth) if isinstance(truth, str) else truth
    return float(trace.answer is not None and trace.answer == count)


def _keywords(trace: Trace, words: Sequence[str]) -> list[str]:
    """Return the distinct words of the list that occur in the think body, sorted."""
    think_words = _WORD.findall((trace.think_text or "").casefold())
    return sorted({word.casefold() for word in words}.intersection(think_words))


def build(config: RunConfig, encoder: Encoder | None = None) -> list[Reward]:
    """Return a run's components in the order of its configuration; style `direct` leaves out those that need thinking.

    Raises ConfigError if a custom reward cannot be loaded, or if cosine has no encoder.
    """
    return [_build(reward, config, encoder) for reward in config.paid]


def _build(reward: RewardConfig, config: RunConfig, encoder: Encoder | None) -> Reward:
    if ".py:" in reward.name:
        return load_custom(reward)
    if reward.name == "cosine" and encoder is None:
        raise ConfigError("rewards: cosine needs a sentence encoder. Set evaluation.encoder, or remove cosine.")
    functions: dict[str, tuple[RewardFunction, dict[str, Any]]] = {
        "format": (format_reward, {}),
        "accuracy": (accuracy_reward, {}),
        "steps": (steps_reward, {}),
        "keyword": (keyword_reward, {"words": config.visual_words}),
        "cosine": (cosine_reward, {"encoder": encoder}),
        "random": (random_reward, {"seed": config.seed}),
    }
    function, settings = functions[reward.name]
    return Reward(reward.name, reward.weight, _bind(reward.label, function, style=config.style, **settings))


def _bind(label: str, function: RewardFunction, **settings: Any) -> RewardFunction:
    """Return `function` under the name that TRL logs, with settings that dataset columns cannot override."""

    def bound(completions: Sequence[Completion], **columns: Any) -> list[float | None]:
        return function(completions, **{**columns, **settings})

    bound.__name__ = bound.__qualname__ = label
    return bound


def load_custom(reward: RewardConfig, *, strict: bool = False) -> Reward:
    """Load the reward in `FILE.py:function`, with its source; it takes TRL's arguments by name.

    With `strict`, NaN is an error. Raises ConfigError.
    """
    foreign_function = foreign.load(reward.name, "rewards", "(completions, **columns)")
    function = own_reward.wrap(foreign_function, reward.label, strict=strict)
    return Reward(
        reward.label,
        reward.weight,
        function,
        foreign_function.source,
        foreign_function.sha256,
        foreign_function.helpers,
    )


def explain(
    text: str,
    answer: int | None,
    config: RunConfig,
    *,
    recorded: Mapping[str, float | None] | None = None,
) -> list[Explained]:
    """Explain each component's value for a completion whose true count is `answer`.

    Components that need an encoder, a batch or a user's code are not computed; their values come from `recorded`.
    """
    trace = parse(text, config.style)
    explanations = []
    for reward in config.paid:
        if reward.name in BUILT_IN_REWARDS and reward.name not in ("cosine", "random"):
            value, reason = _explain(reward.name, trace, answer, config.visual_words)
        else:
            value = (recorded or {}).get(reward.label)
            reason = _explain_recorded(reward, value, trace, config.evaluation.encoder)
        explanations.append(Explained(reward.label, value, reward.weight, reason))
    return explanations


def _explain(name: str, trace: Trace, truth: int | None, words: Sequence[str]) -> tuple[float | None, str]:
    if name == "format":
        return float(trace.wellformed), trace.violation.message if trace.violation else "well-formed"
    if name == "accuracy":
        return _accuracy(trace, truth), _explain_answer(trace, truth)
    if not trace.wellformed:
        return 0.0, "not well-formed"
    if name == "steps":
        return min(trace.counted_steps, STEPS_CAP) / 10, _explain_steps(trace)
    keywords = _keywords(trace, words)
    keyword_list = f": {', '.join(keywords)}" if keywords else ""
    return min(len(keywords), KEYWORDS_CAP) / 10, _times(len(keywords), KEYWORDS_CAP) + keyword_list


def _explain_answer(trace: Trace, truth: int | None) -> str:
    if truth is None:
        return "the true count is unknown"
    if trace.answer is None:
        body = trace.answer_text
        return "no single <answer>…</answer>" if body is None else f"{body.strip()[:40]!r} is not a count"
    return f"answers {trace.answer}, " + ("which is correct" if trace.answer == truth else f"the true count is {truth}")


def _explain_steps(trace: Trace) -> str:
    if not trace.reasoning_steps:
        return "no numbered steps"
    idle = [f"step {step.number} {step.why}" for step in trace.reasoning_steps if step.why]
    more = [f"{len(idle) - 3} more steps do not count"] if len(idle) > 3 else []
    return "; ".join([_times(trace.counted_steps, STEPS_CAP), *idle[:3], *more])


def _times(count: int, cap: int) -> str:
    return f"{count} × 0.1" + (f", capped at {cap}" if count > cap else "")


def _explain_recorded(reward: RewardConfig, value: float | None, trace: Trace, encoder: str) -> str:
    if reward.name == "random":
        return "a coin toss that ignores the text"
    if reward.name != "cosine":
        return f"computed by {reward.name}"
    if not trace.wellformed:
        return "not well-formed"
    return "no reference to compare with" if value is None else f"similarity to the reference, by {encoder}"
