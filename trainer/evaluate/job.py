"""Run an evaluation job on a run's checkpoint or an untrained model, and store its metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from transformers import set_seed

from store.completions import scored
from store.db.engine import Store
from store.db.rows import PredictionRow
from store.evaluations.records import begin_evaluation, finish_evaluation, record_predictions
from trainer import datasets
from trainer.datasets.example import Example
from trainer.datasets.storing import store_examples
from trainer.evaluate import baselines, faithfulness, metrics, provenance, recording, reward_trial
from trainer.evaluate.baselines import Baseline
from trainer.evaluate.harness import harness_for
from trainer.evaluate.similarity import Encoder
from trainer.jobs.activity import say, stop_if_asked
from trainer.launch import folders
from trainer.models import adapters, loading
from trainer.models.checkpoints import Checkpoints
from trainer.spec import benchmark, prompt
from trainer.spec.benchmark import Benchmark
from trainer.spec.config import DataConfig, RunConfig
from trainer.spec.errors import TrainerError
from trainer.spec.rewards import build


def run(store: Store, run_id: int, job_id: int, config: RunConfig, arguments: dict[str, Any]) -> None:
    """Run an evaluation; `arguments` may have those of `trainer.launch.evaluate`.

    Raises Stopped after the batch in which a stop was requested; another call with the same arguments continues there.
    """
    set_seed(config.seed)
    target = benchmark.find(config, arguments)
    baseline = _baseline(arguments.get("baseline"))
    split = str(arguments.get("split") or "test")
    limit = int(arguments.get("limit") or target.data.test_examples or DataConfig().test_examples)
    say(store, job_id, "reading the data")
    examples = datasets.load_role(target.data, split, limit, target.difficulty)
    if baseline == "majority":
        say(store, job_id, f"answering {target.name} by majority")
        answer_by_majority(store, run_id, config, examples, target)
        return
    say(store, job_id, "trying the rewards")
    reward_trial.try_rewards(config, examples[0], lambda: stop_if_asked(store, job_id))
    base, model, step = _load_model(store, run_id, job_id, config, str(arguments.get("checkpoint") or "best"))
    if arguments.get("thinking") and config.style != "cot":
        raise TrainerError("config", "A run of style direct has no reasoning to alter. Choose a run of style cot.")
    encoder = Encoder(config.evaluation.encoder) if config.evaluation.encoder else None
    rewards = tuple(build(config, encoder))
    harness = harness_for(config, model, base.processor, rewards, encoder, str(arguments.get("forced_prefix") or ""))
    if config.method == "none":
        provenance.describe(store, run_id, base, harness, rewards, examples[0])
    if arguments.get("thinking"):
        say(store, job_id, f"probing CoT faithfulness on {target.name}")
        faithfulness.probe(
            store,
            run_id,
            harness,
            examples,
            step=step,
            benchmark=target.name,
            pause=lambda: stop_if_asked(store, job_id),
        )
        return
    say(store, job_id, f"evaluating {target.name}")
    recording.evaluate(
        store,
        run_id,
        harness,
        examples,
        kind="baseline" if baseline else split,
        step=step,
        benchmark=target.name,
        samples=int(arguments.get("samples") or 0),
        baseline=baseline,
        pause=lambda: stop_if_asked(store, job_id),
        progress=lambda done, total: say(store, job_id, f"evaluating {target.name}", done, total),
    )


def _load_model(
    store: Store, run_id: int, job_id: int, config: RunConfig, checkpoint_name: str
) -> tuple[loading.Base, Any, int]:
    """Return the base model, the model at a checkpoint, and the checkpoint's step."""
    say(store, job_id, "loading the model")
    base = loading.load_base(config.model)
    output = folders.own_folder(store, run_id) if config.model.adapter is not None else Path()
    folder, step = adapters.starting_point(store, run_id, job_id, config, output), 0
    if config.method != "none" and checkpoint_name != "0":
        saved = Checkpoints(store, run_id, output).get(checkpoint_name)
        folder, step = saved.path, saved.step
    return base, adapters.with_adapter(base, config.lora, folder) if folder else base.model, step


def _baseline(name: str | None) -> Baseline | None:
    if name is None:
        return None
    for candidate in get_args(Baseline):
        if name == candidate:
            return candidate
    raise TrainerError("config", f"Unknown baseline {name!r}. Choose one of {', '.join(get_args(Baseline))}.")


def answer_by_majority(
    store: Store, run_id: int, config: RunConfig, examples: list[Example], target: Benchmark
) -> None:
    """Store the most frequent answer to training questions of the same type as predictions."""
    train = datasets.load_role(config.data, "train", config.data.train_examples)
    answers = baselines.majority(train, [example.question for example in examples])
    ids = store_examples(store, examples)
    evaluation = begin_evaluation(
        store,
        run_id,
        benchmark=target.name,
        split=examples[0].split,
        kind="baseline",
        step=0,
        conditions={"baseline": "majority", "style": "direct", "train": config.data.dataset},
        encoder=None,
        total=len(examples),
    )
    rows = []
    for example_id, example, answer in zip(ids, examples, answers, strict=True):
        fields = scored.trace_fields(
            prompt.target("", answer, "direct"),
            truth=example.answer,
            style="direct",
            tokens=0,
            truncated=False,
            components={},
            weights={},
        )
        rows.append(PredictionRow(**vars(fields), example_id=example_id))
    record_predictions(store, evaluation, rows)
    difficulties = [example.difficulty for example in examples]
    finish_evaluation(
        store, evaluation, metrics.summarize(rows, [example.answer for example in examples], difficulties)
    )
