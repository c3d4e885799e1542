"""The evaluation harness: a model with all settings that must be equal for evaluations to be comparable.

In float32, answers do not depend on the batch size or the order of examples. In 16-bit precision, ties between tokens
may be broken differently in another batch; `python -m benchmarks.gpu --part 'answers by batch size'` counts that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from store.completions import scored
from store.db.rows import PredictionRow
from trainer.datasets.example import Example
from trainer.evaluate import decoding, generation, reward_arguments, scoring, similarity
from trainer.evaluate.base_answers import BaseAnswers
from trainer.evaluate.generation import Decoding, GeneratedAnswer
from trainer.evaluate.similarity import Encoder
from trainer.models import adapters, chat_template
from trainer.spec import prompt
from trainer.spec.config import RunConfig
from trainer.spec.rewards import Reward
from trainer.spec.similarity import compared_text


@dataclass(frozen=True)
class Harness:
    """A model with all settings that must be equal for evaluations to be comparable."""

    model: Any
    processor: Any
    config: RunConfig
    rewards: tuple[Reward, ...]
    encoder: Encoder | None
    decoding: Decoding
    start: Path | None = None
    """Folder of the adapter from which the run started; None if it started from the base."""
    kept: BaseAnswers | None = None
    """Cached answers of the base model from earlier runs."""
    logged: dict[str, list[float]] = field(default_factory=dict)
    """Values that rewards have logged with `log_metric`."""

    def conditions(self, example: Example) -> dict[str, Any]:
        """Return the conditions that must agree for a comparison, determined from one rendered example."""
        pixels = pixel_settings(self.processor)
        rendered = generation.render(self.processor, example, self.config.style, self.config.instruction)
        template = rendered.replace(prompt.escape_tags(example.question), "{question}")
        return {
            "style": self.config.style,
            "prompt": template,
            "prompt_hash": prompt.fingerprint(template, pixels),
            "pixels": pixels,
            "decoding": asdict(self.decoding),
            "rules": decoding.rules(self.model, self.processor),
            "reference_rule": "malformed as NULL",
        }

    def as_started(self) -> AbstractContextManager[None]:
        """Temporarily turn the model, which must be a PEFT model, into the run's initial policy."""
        return adapters.as_started(self.model, self.start)

    @property
    def sampling(self) -> Decoding:
        """Decoding of sampled answers, in addition to greedy ones."""
        return replace(self.decoding, temperature=1.0)

    def predict(self, examples: Sequence[Example], decoding: Decoding, copies: int = 1) -> list[list[GeneratedAnswer]]:
        """Return `copies` answers per example."""
        by_index: dict[int, list[GeneratedAnswer]] = {}
        for indices, answers in self.batches(examples, decoding, copies):
            for place, i in enumerate(indices):
                by_index[i] = answers[place * copies : (place + 1) * copies]
        return [by_index[i] for i in range(len(examples))]

    def batches(
        self, examples: Sequence[Example], decoding: Decoding, copies: int, prefixes: Sequence[str] | None = None
    ) -> Iterator[tuple[list[int], list[GeneratedAnswer]]]:
        """Yield the indices of a batch's examples with `copies` answers each, short questions first.

        `prefixes` has one forced prefix per example, in place of the decoding's.
        """
        left = list(range(len(examples)))
        if self.kept is not None and prefixes is None:
            saved_answers = {
                i: saved for i in left if (saved := self.kept.find(examples[i], decoding, copies)) is not None
            }
            if saved_answers:
                yield [*saved_answers], [answer for answers in saved_answers.values() for answer in answers]
            left = [i for i in left if i not in saved_answers]
        for places, answers in self._generated([examples[i] for i in left], decoding, copies, prefixes):
            indices = [left[place] for place in places]
            if self.kept is not None and prefixes is None:
                self.kept.keep([examples[i] for i in indices], decoding, answers)
            yield indices, answers

    def _generated(
        self, examples: Sequence[Example], decoding: Decoding, copies: int, prefixes: Sequence[str] | None
    ) -> Iterator[tuple[list[int], list[GeneratedAnswer]]]:
        order = sorted(range(len(examples)), key=lambda i: (len(examples[i].pictures), len(examples[i].question)))
        batches = generation.answers(
            self.model,
            self.processor,
            [examples[i] for i in order],
            decoding,
            style=self.config.style,
            instruction=self.config.instruction,
            batch_size=max(1, self.config.evaluation.batch_size // copies),
            copies=copies,
            prefixes=None if prefixes is None else [prefixes[i] for i in order],
        )
        for first, answers in batches:
            yield order[first : first + len(answers) // copies], answers

    def rows(
        self,
        examples: Sequence[Example],
        answers: Sequence[GeneratedAnswer],
        example_ids: Sequence[int],
        samples: Sequence[int],
        *,
        step: int,
    ) -> list[PredictionRow]:
        """Return a scored prediction for each answer with the weights after `step` updates."""
        texts = [answer.text for answer in answers]
        components = scoring.score(
            texts, examples, self.rewards, lambda: self._reward_arguments(examples, answers, step)
        )
        weights = {reward.name: reward.weight for reward in self.rewards}
        fields = [
            scored.trace_fields(
                answer.text,
                truth=example.answer,
                style=self.config.style,
                tokens=len(answer.ids),
                truncated=answer.truncated,
                components=parts,
                weights=weights,
            )
            for answer, example, parts in zip(answers, examples, components, strict=True)
        ]
        cosines = self._cosines(examples, fields)
        return [
            PredictionRow(
                **vars(field), example_id=example_id, sample=sample, similarity=cosine, seconds=answer.seconds
            )
            for field, answer, example_id, sample, cosine in zip(
                fields, answers, example_ids, samples, cosines, strict=True
            )
        ]

    def _reward_arguments(
        self, examples: Sequence[Example], answers: Sequence[GeneratedAnswer], step: int
    ) -> dict[str, Any]:
        def log_metric(name: str, value: float) -> None:
            self.logged.setdefault(name, []).append(float(value))

        return reward_arguments.arguments(
            self.processor, self.config, examples, answers, step=step, log_metric=log_metric
        )

    def take_logged(self) -> dict[str, float]:
        """Return the means of metrics that rewards have logged since the last call."""
        means = {name: sum(values) / len(values) for name, values in self.logged.items()}
        self.logged.clear()
        return means

    def _cosines(self, examples: Sequence[Example], fields: Sequence[Any]) -> list[float | None]:
        if self.encoder is None or self.config.style == "direct":
            return [None] * len(examples)
        with_reference = [i for i, example in enumerate(examples) if example.reference]
        texts = [compared_text(fields[i].text, fields[i].think) for i in with_reference]
        values = similarity.cosines(self.encoder, texts, [examples[i].reference or "" for i in with_reference])
        cosines: list[float | None] = [None] * len(examples)
        for i, value in zip(with_reference, values, strict=True):
            cosines[i] = float(value)
        return cosines


def pixel_settings(processor: Any) -> dict[str, Any]:
    """Return the image settings that affect what the model sees."""
    image_processor = processor.image_processor
    names = ("size", "max_image_size", "min_pixels", "max_pixels", "do_image_splitting", "do_resize", "image_mean")
    settings = {name: getattr(image_processor, name, None) for name in names}
    return {
        name: dict(value) if hasattr(value, "keys") else value for name, value in settings.items() if value is not None
    }


def harness_for(
    config: RunConfig,
    model: Any,
    processor: Any,
    rewards: Sequence[Reward],
    encoder: Encoder | None,
    prefix: str = "",
    start: Path | None = None,
) -> Harness:
    """Return a run's harness; `prefix` is the forced beginning of completions, and `start` is that of `Harness`.

    Raises TrainerError if the model's chat template makes an answer in the run's style impossible.
    """
    chat_template.check_style(chat_template.read(processor), config.style, repr(config.model.id))
    decoding = Decoding(max_tokens=config.max_tokens, seed=config.evaluation.seed, forced_prefix=prefix)
    return Harness(model, processor, config, tuple(rewards), encoder, decoding, start)
