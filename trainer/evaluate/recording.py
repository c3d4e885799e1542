"""Evaluate on probe examples, the validation split or a benchmark, and store predictions batch by batch.

All methods and checkpoints are evaluated by the same functions. An interrupted evaluation continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from store.db.engine import Store
from store.evaluations.predictions import iter_predictions_of
from store.evaluations.records import begin_evaluation, continue_evaluation, finish_evaluation, record_predictions
from trainer.datasets.example import Example
from trainer.datasets.storing import store_examples
from trainer.evaluate import baselines, generation, metrics, similarity
from trainer.evaluate.baselines import Baseline
from trainer.evaluate.harness import Harness
from trainer.evaluate.similarity import Encoder
from trainer.models import chat_template
from trainer.spec import prompt
from trainer.spec.similarity import ceiling_examples, close_share, floor

LOGGED = "logged/"
"""Prefix of metrics that a user's reward has logged."""


def evaluate(
    store: Store,
    run_id: int,
    harness: Harness,
    examples: Sequence[Example],
    *,
    kind: str,
    step: int,
    benchmark: str | None = None,
    samples: int = 0,
    baseline: Baseline | None = None,
    pause: Callable[[], None] = lambda: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Store a greedy prediction and `samples` sampled ones per example; return the evaluation's metrics.

    An interrupted evaluation with the same run, step, benchmark, conditions and examples is continued. `baseline`
    changes what the model sees, but not the stored example. `pause` is called after each stored batch and may raise,
    for example Stopped. `progress` is called with the numbers of stored and all answers.
    """
    ids = store_examples(store, examples)
    conditions = _conditions(harness, examples[0], samples)
    if baseline:
        conditions["baseline"] = baseline
    evaluation, recorded = continue_evaluation(
        store,
        run_id,
        benchmark=benchmark or examples[0].dataset,
        split=examples[0].split,
        kind=kind,
        step=step,
        conditions=conditions,
        encoder=harness.encoder.name if harness.encoder else None,
        total=len(examples) * (1 + samples),
        example_ids=ids,
    )
    shown, total = baselines.examples_shown(baseline, examples), len(examples) * (1 + samples)
    done = len(recorded)
    progress(done, total)
    for decoding, numbers in ((harness.decoding, [0]), (harness.sampling, [*range(1, samples + 1)])):
        left = [i for i, example_id in enumerate(ids) if numbers and (example_id, numbers[0]) not in recorded]
        for indices, answers in harness.batches([shown[i] for i in left], decoding, len(numbers) or 1):
            flat = [left[i] for i in indices for _ in numbers]
            part_examples, part_ids = [examples[i] for i in flat], [ids[i] for i in flat]
            rows = harness.rows(part_examples, answers, part_ids, numbers * len(indices), step=step)
            record_predictions(store, evaluation, rows)
            done += len(rows)
            progress(done, total)
            pause()
    figures = _figures(store, evaluation, harness, dict(zip(ids, examples, strict=True)))
    figures |= {f"{LOGGED}{name}": value for name, value in harness.take_logged().items()}
    finish_evaluation(store, evaluation, figures)
    return figures


def _conditions(harness: Harness, example: Example, samples: int) -> dict[str, Any]:
    sampled = {"samples": {"n": samples, "temperature": harness.sampling.temperature}} if samples else {}
    return harness.conditions(example) | sampled


def _figures(store: Store, evaluation: int, harness: Harness, examples: dict[int, Example]) -> dict[str, Any]:
    """Return the metrics of all stored predictions, including those from before an interruption."""
    rows = list(iter_predictions_of(store, evaluation))
    greedy = [row for row in rows if row.sample == 0]
    sampled = [row for row in rows if row.sample]
    figures = metrics.summarize(
        greedy,
        [examples[row.example_id].answer for row in greedy],
        [examples[row.example_id].difficulty for row in greedy],
    )
    if sampled:
        figures |= metrics.sampled_figures(sampled, [examples[row.example_id].answer for row in sampled])
    thinks = [row.think_text for row in greedy if row.think_text is not None]
    if thinks:
        lengths = [len(ids) for ids in harness.processor.tokenizer(thinks, add_special_tokens=False)["input_ids"]]
        figures["mean_think_tokens"] = float(np.mean(lengths))
    if harness.encoder is not None and harness.config.style == "cot":
        figures |= similarity_bounds(harness.encoder, list(examples.values()))
        figures["texts_cut"] = harness.encoder.cut(thinks) if thinks else 0
    return figures


def similarity_bounds(encoder: Encoder, examples: Sequence[Example]) -> dict[str, float | None]:
    """Return floor (references of other examples) and ceiling (a second annotator's references), if known."""
    referenced = [example for example in examples if example.reference]
    references = [example.reference or "" for example in referenced]
    bounds: dict[str, float | None] = {}
    if len(references) > 1 and (lowest := floor(encoder(references))):
        bounds = {"cos_floor": lowest[0], "cos_at_0.8_floor": lowest[1]}
    spread = ceiling_examples(len(referenced))
    seconds = [referenced[i].meta.get("second_reference") for i in spread]
    if seconds and all(seconds):
        cosines = similarity.cosines(encoder, [str(s) for s in seconds], [references[i] for i in spread])
        bounds |= {"cos_ceiling": float(cosines.mean()), "cos_at_0.8_ceiling": close_share(cosines)}
    return bounds


def probe(
    store: Store, run_id: int, harness: Harness, examples: Sequence[Example], *, step: int
) -> dict[str, float | None]:
    """Answer a few validation examples, greedily and with K samples, and score all rewards; return `probe/...` metrics.

    Entropy is measured on the model's own samples and separately on the references. KL (k3) is to the run's initial
    policy.
    """
    settings = harness.config.evaluation
    ids = store_examples(store, examples)
    evaluation = begin_evaluation(
        store,
        run_id,
        benchmark=examples[0].dataset,
        split=examples[0].split,
        kind="probe",
        step=step,
        conditions=_conditions(harness, examples[0], settings.probe_samples),
        encoder=None,
        total=len(examples) * (1 + settings.probe_samples),
    )
    quiet = replace(harness, encoder=None)
    greedy = [answers[0] for answers in harness.predict(examples, harness.decoding)]
    greedy_rows = quiet.rows(examples, greedy, ids, [0] * len(ids), step=step)
    record_predictions(store, evaluation, greedy_rows)
    figures_found: dict[str, float | None] = {
        "probe/accuracy": float(np.mean([bool(row.correct) for row in greedy_rows]))
    }
    if settings.probe_samples:
        figures_found |= _probe_samples(store, evaluation, quiet, examples, ids, step)
    figures_found |= {f"probe/{name}": value for name, value in harness.take_logged().items()}
    figures = metrics.summarize(greedy_rows, [example.answer for example in examples])
    finish_evaluation(
        store, evaluation, figures | {name.removeprefix("probe/"): value for name, value in figures_found.items()}
    )
    return figures_found


def _probe_samples(
    store: Store, evaluation: int, harness: Harness, examples: Sequence[Example], ids: Sequence[int], step: int
) -> dict[str, float | None]:
    copies = harness.config.evaluation.probe_samples
    sampling = replace(harness.sampling, forced_prefix="")
    groups = harness.predict(examples, sampling, copies)
    flat = [answer for group in groups for answer in group]
    repeated = [example for example in examples for _ in range(copies)]
    repeated_ids, numbers = [i for i in ids for _ in range(copies)], [*range(1, copies + 1)] * len(ids)
    rows = harness.rows(repeated, flat, repeated_ids, numbers, step=step)
    record_predictions(store, evaluation, rows)
    statistics = generation.token_statistics(
        harness.model,
        harness.processor,
        repeated,
        [answer.ids for answer in flat],
        style=harness.config.style,
        instruction=harness.config.instruction,
        reference=harness.as_started if hasattr(harness.model, "disable_adapter") else None,
        batch_size=harness.config.micro_batch,
    )
    figures = {
        "probe/reward": _mean([row.reward for row in rows]),
        "probe/wellformed": _mean([row.wellformed for row in rows]),
        "probe/steps": _mean([row.reasoning_steps for row in rows]),
        "probe/length": _mean([row.tokens for row in rows]),
        "probe/clipped": _mean([row.truncated for row in rows]),
        "probe/sampled_accuracy": _mean([row.correct for row in rows]),
        "probe/entropy": statistics.entropy,
        "probe/kl": statistics.kl,
    }
    for reward in harness.rewards:
        figures[f"probe/reward/{reward.name}"] = _mean([row.rewards[reward.name] for row in rows])
    return figures | _reference_entropy(harness, examples)


def _reference_entropy(harness: Harness, examples: Sequence[Example]) -> dict[str, float | None]:
    referenced = [example for example in examples if example.reference]
    if not referenced:
        return {}
    turn, tokenizer = chat_template.read(harness.processor), harness.processor.tokenizer
    targets = [prompt.target(e.reference or "", e.answer, harness.config.style) for e in referenced]
    ids = [tokenizer(turn.generated(text), add_special_tokens=False)["input_ids"] for text in targets]
    statistics = generation.token_statistics(
        harness.model,
        harness.processor,
        referenced,
        ids,
        style=harness.config.style,
        instruction=harness.config.instruction,
        reference=None,
        batch_size=harness.config.micro_batch,
    )
    return {"probe/entropy_reference": statistics.entropy}


def _mean(values: Sequence[float | bool | None]) -> float | None:
    present = [float(value) for value in values if value is not None]
    return float(np.mean(present)) if present else None
