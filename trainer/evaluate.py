"""One evaluation harness for every method and checkpoint: same prompt, pixels, parser and decoding.

Three uses: the probe (a few validation examples, greedy plus samples, every reward), the full validation
split, and the test split once at the end. Writes progress and predictions into the store as it goes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from store import write
from store.engine import Store
from store.rows import ExampleRow, PredictionRow
from trainer import generation, metrics, prompt, scoring, similarity
from trainer.config import RunConfig
from trainer.datasets.example import Example
from trainer.datasets.images import encode_png
from trainer.generation import Answer, Decoding
from trainer.rewards import Reward
from trainer.similarity import Encoder


@dataclass(frozen=True)
class Harness:
    """A model with everything that must be equal for two evaluations to be comparable."""

    model: Any
    processor: Any
    config: RunConfig
    rewards: tuple[Reward, ...]
    encoder: Encoder | None
    decoding: Decoding

    def conditions(self, example: Example) -> dict[str, Any]:
        """What must agree for a comparison, told by one rendered example."""
        pixels = pixel_settings(self.processor)
        rendered = generation.render(self.processor, example, self.config.style, self.config.instruction)
        template = rendered.replace(example.question, "{question}")
        return {
            "style": self.config.style,
            "prompt": template,
            "prompt_hash": prompt.fingerprint(template, pixels),
            "pixels": pixels,
            "decoding": asdict(self.decoding),
            "reference_rule": "malformed as NULL",
        }

    def predict(self, examples: Sequence[Example], decoding: Decoding, copies: int = 1) -> list[list[Answer]]:
        """`copies` answers for each example."""
        found: list[list[Answer]] = []
        for _, answers in self.batches(examples, decoding, copies):
            found += [answers[i : i + copies] for i in range(0, len(answers), copies)]
        return found

    def batches(self, examples: Sequence[Example], decoding: Decoding, copies: int) -> Any:
        return generation.answers(
            self.model,
            self.processor,
            examples,
            decoding,
            style=self.config.style,
            instruction=self.config.instruction,
            batch_size=max(1, self.config.evaluation.batch_size // copies),
            copies=copies,
        )

    def rows(
        self, examples: Sequence[Example], answers: Sequence[Answer], example_ids: Sequence[int], samples: Sequence[int]
    ) -> list[PredictionRow]:
        """Scored predictions, one for each answer."""
        texts = [answer.text for answer in answers]
        components = scoring.score(texts, examples, self.rewards)
        weights = {reward.name: reward.weight for reward in self.rewards}
        fields = [
            scoring.trace_fields(
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
            PredictionRow(**vars(field), example_id=example_id, sample=sample, similarity=cosine)
            for field, example_id, sample, cosine in zip(fields, example_ids, samples, cosines, strict=True)
        ]

    def _cosines(self, examples: Sequence[Example], fields: Sequence[Any]) -> list[float | None]:
        if self.encoder is None or self.config.style == "direct":
            return [None] * len(examples)
        known = [i for i, example in enumerate(examples) if example.reference]
        thinks = [fields[i].text[slice(*fields[i].think)] if fields[i].wellformed else None for i in known]
        values = similarity.cosines(self.encoder, thinks, [examples[i].reference or "" for i in known])
        found: list[float | None] = [None] * len(examples)
        for i, value in zip(known, values, strict=True):
            found[i] = float(value)
        return found


def pixel_settings(processor: Any) -> dict[str, Any]:
    """The image settings that change what the model sees."""
    image_processor = processor.image_processor
    names = ("size", "max_image_size", "min_pixels", "max_pixels", "do_image_splitting", "do_resize", "image_mean")
    found = {name: getattr(image_processor, name, None) for name in names}
    return {
        name: dict(value) if hasattr(value, "keys") else value for name, value in found.items() if value is not None
    }


def conditions_hash(conditions: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(conditions, sort_keys=True, default=str).encode()).hexdigest()[:16]


def store_examples(store: Store, examples: Sequence[Example]) -> list[int]:
    """Database ids of the examples, which are written if they are new."""
    return write.add_examples(
        store,
        [
            ExampleRow(
                dataset=e.dataset,
                split=e.split,
                key=e.key,
                question=e.question,
                answer=e.answer,
                reference=e.reference,
                difficulty=e.difficulty,
                meta=e.meta,
                images=tuple(encode_png(image) for image in e.images),
            )
            for e in examples
        ],
    )


def evaluate(
    store: Store, run_id: int, harness: Harness, examples: Sequence[Example], *, kind: str, step: int
) -> dict[str, float | int | None]:
    """Greedy predictions of all examples, stored batch by batch; returns the figures (`metrics.summarize`)."""
    ids = store_examples(store, examples)
    conditions = harness.conditions(examples[0])
    evaluation = write.begin_evaluation(
        store,
        run_id,
        benchmark=examples[0].dataset,
        split=examples[0].split,
        kind=kind,
        step=step,
        conditions=conditions,
        encoder=harness.encoder.name if harness.encoder else None,
        total=len(examples),
    )
    rows: list[PredictionRow] = []
    for first, answers in harness.batches(examples, harness.decoding, 1):
        part = slice(first, first + len(answers))
        batch = harness.rows(examples[part], answers, ids[part], [0] * len(answers))
        write.record_predictions(store, evaluation, batch)
        rows += batch
    figures = metrics.summarize(rows, [example.answer for example in examples])
    if harness.encoder is not None and harness.config.style == "cot":
        figures |= similarity_bounds(harness.encoder, examples)
        thinks = [row.text[slice(*row.think)] for row in rows if row.think is not None]
        figures["texts_cut"] = harness.encoder.cut(thinks) if thinks else 0
    write.finish_evaluation(store, evaluation, figures)
    return figures


def similarity_bounds(encoder: Encoder, examples: Sequence[Example]) -> dict[str, float | None]:
    """Floor (references shuffled among the examples) and ceiling (a second annotator's reference)."""
    references = [example.reference for example in examples if example.reference]
    if not references:
        return {}
    order = np.random.default_rng(0).permutation(len(references))
    floor = similarity.cosines(encoder, [references[i] for i in order], references)
    found: dict[str, float | None] = {
        "cos_floor": float(floor.mean()),
        "cos_at_0.8_floor": float((floor > similarity.CLOSE).mean()),
    }
    seconds = [e.meta.get("second_reference") for e in examples if e.reference]
    if all(seconds):
        ceiling = similarity.cosines(encoder, [str(s) for s in seconds], references)
        found |= {
            "cos_ceiling": float(ceiling.mean()),
            "cos_at_0.8_ceiling": float((ceiling > similarity.CLOSE).mean()),
        }
    return found


def probe(
    store: Store, run_id: int, harness: Harness, examples: Sequence[Example], *, step: int
) -> dict[str, float | None]:
    """Greedy plus K samples of a few validation examples, scored by every reward; returns `probe/...` metrics.

    Entropy is taken on the model's own samples and, apart, on the references; KL (k3) against the base.
    """
    settings = harness.config.evaluation
    ids = store_examples(store, examples)
    evaluation = write.begin_evaluation(
        store,
        run_id,
        benchmark=examples[0].dataset,
        split=examples[0].split,
        kind="probe",
        step=step,
        conditions=harness.conditions(examples[0]),
        encoder=None,
        total=len(examples) * (1 + settings.probe_samples),
    )
    quiet = replace(harness, encoder=None)
    greedy = [answers[0] for answers in harness.predict(examples, harness.decoding)]
    greedy_rows = quiet.rows(examples, greedy, ids, [0] * len(ids))
    write.record_predictions(store, evaluation, greedy_rows)
    found: dict[str, float | None] = {"probe/accuracy": float(np.mean([bool(row.correct) for row in greedy_rows]))}
    if settings.probe_samples:
        found |= _probe_samples(store, evaluation, quiet, examples, ids)
    write.finish_evaluation(store, evaluation, {name.removeprefix("probe/"): value for name, value in found.items()})
    return found


def _probe_samples(
    store: Store, evaluation: int, harness: Harness, examples: Sequence[Example], ids: Sequence[int]
) -> dict[str, float | None]:
    copies = harness.config.evaluation.probe_samples
    sampling = replace(harness.decoding, temperature=1.0, seed=harness.config.evaluation.seed, forced_prefix="")
    groups = harness.predict(examples, sampling, copies)
    flat = [answer for group in groups for answer in group]
    repeated = [example for example in examples for _ in range(copies)]
    rows = harness.rows(repeated, flat, [i for i in ids for _ in range(copies)], [*range(1, copies + 1)] * len(ids))
    write.record_predictions(store, evaluation, rows)
    own = generation.token_statistics(
        harness.model,
        harness.processor,
        repeated,
        [answer.ids for answer in flat],
        style=harness.config.style,
        instruction=harness.config.instruction,
        against_base=hasattr(harness.model, "disable_adapter"),
    )
    found = {
        "probe/reward": _mean([row.reward for row in rows]),
        "probe/wellformed": _mean([row.wellformed for row in rows]),
        "probe/steps": _mean([row.steps for row in rows]),
        "probe/length": _mean([row.tokens for row in rows]),
        "probe/clipped": _mean([row.truncated for row in rows]),
        "probe/sampled_accuracy": _mean([row.correct for row in rows]),
        "probe/entropy": own.entropy,
        "probe/kl": own.kl,
    }
    for reward in harness.rewards:
        found[f"probe/reward/{reward.name}"] = _mean([row.rewards[reward.name] for row in rows])
    return found | _reference_entropy(harness, examples)


def _reference_entropy(harness: Harness, examples: Sequence[Example]) -> dict[str, float | None]:
    known = [example for example in examples if example.reference]
    if not known:
        return {}
    tokenizer = harness.processor.tokenizer
    texts = [prompt.target(e.reference or "", e.answer, harness.config.style) for e in known]
    ids = [tokenizer(f" {text}", add_special_tokens=False)["input_ids"] for text in texts]
    statistics = generation.token_statistics(
        harness.model,
        harness.processor,
        known,
        ids,
        style=harness.config.style,
        instruction=harness.config.instruction,
        against_base=False,
    )
    return {"probe/entropy_reference": statistics.entropy}


def _mean(values: Sequence[float | bool | None]) -> float | None:
    present = [float(value) for value in values if value is not None]
    return float(np.mean(present)) if present else None
