"""Fills a database with runs in every state, for tests of pages and for screenshots. The numbers are made up."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

from store.completions import scored
from store.db import ownership
from store.db.engine import Store, open_store
from store.db.rows import CompletionRow, ExampleRow, JobRef, PredictionRow, RunRef, RunRow
from store.db.states import JobState
from store.evaluations.records import begin_evaluation, finish_evaluation, record_predictions
from store.events import set_checkpoint
from store.examples import add_examples
from store.jobs import add_job, beat_job, end_job, start_job
from store.runs import create_run, describe_run, list_runs
from store.steps import record_metrics, record_step
from trainer.datasets import shapes
from trainer.datasets.example import Example
from trainer.datasets.images import encode_png
from trainer.evaluate import metrics, scoring
from trainer.spec import rewards
from trainer.spec.config import RunConfig, from_dict, override, preset

NOW = 1_790_000_000.0
"""Seconds since the epoch at which the newest record was written, unless the caller says otherwise."""
GROUPS = 2
ELSEWHERE = "gpu-box-2"
"""Another host's jobs are left alone by whoever looks after dead ones here."""
TRACEBACK = """Traceback (most recent call last):
  File "trainer/train/training.py", line 88, in run_job
    trainer.train()
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB."""
LOG = (
    "loading the base model tiny\n\x1b[32m  0%|          |\r 12%|█▏        |\r100%|██████████| 170/170\x1b[0m\n"
    "a line from <script>alert(1)</script> the trainer\nsaved checkpoint at step 50\n"
)


class Clock:
    """Stands for `time.time` while runs of the past are written."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@contextmanager
def at(now: float) -> Iterator[Clock]:
    clock = Clock(now)
    with mock.patch("time.time", clock):
        yield clock


def seed_database(path: Path, *, now: float = NOW) -> None:
    """One finished GRPO run, one finished SFT run, one that runs, one out of memory, one in the queue."""
    store = open_store(str(path))
    train, val = examples(store, "train", 24), examples(store, "val", 24)
    with at(now - 7200) as clock:
        finished(store, clock, config("shapes-grpo"), train, val, pace=2.0)
        finished(store, clock, config("shapes-sft"), train, val, pace=0.6)
        out_of_memory(store, clock, train)
    with at(now - 87 * 1.4 - 20) as clock:
        running(store, clock, train, val)
        add_job(store, new_run(store, config("shapes-collapse", "seed=1")).id, "train", {})
    store.close()


def config(name: str, *settings: str) -> RunConfig:
    """A preset whose length, rewards and pace stay as they are here when presets are tuned."""
    steps, probe_every, val_every = (250, 25, 125) if name == "shapes-sft" else (170, 10, 50)
    fixed = (
        f"optimization.steps={steps}",
        "optimization.learning_rate=0.0003",
        f"evaluation.probe_every={probe_every}",
        f"evaluation.val_every={val_every}",
        "rewards.format=1.0",
        "rewards.accuracy=2.0",
        f"rewards.steps={0.0 if name == 'shapes-grpo-no-steps' else 0.5}",
    )
    return override(preset(name), dict(setting.split("=", 1) for setting in (*fixed, *settings)))


def new_run(store: Store, settings: RunConfig, *, output_dir: Path | None = None) -> RunRef:
    return create_run(
        store,
        name=settings.title,
        method=settings.method,
        style=settings.style,
        model=settings.model.id,
        dataset=settings.data.dataset,
        config=settings.model_dump(mode="json"),
        reward_weights={reward.label: reward.weight for reward in settings.rewards},
        lora_rank=settings.lora.rank,
        quantization=settings.model.quantization,
        seed=settings.seed,
        max_steps=settings.optimization.steps,
        output_dir=str(output_dir) if output_dir else None,
    )


def examples(store: Store, split: str, n: int) -> list[tuple[int, Example]]:
    """Stored examples of the drawn world with their database ids."""
    drawn = shapes.examples("simple", split, n, seed=0)
    rows = [
        ExampleRow(
            dataset=example.dataset,
            split=example.split,
            key=example.key,
            question=example.question,
            answer=example.answer,
            reference=example.reference,
            difficulty=example.difficulty,
            meta=example.meta,
            images=tuple(encode_png(image) for image in example.images),
        )
        for example in drawn
    ]
    return list(zip(add_examples(store, rows), drawn, strict=True))


Examples = Sequence[tuple[int, Example]]


def start(store: Store, run: RunRef, *, host: str = "here", folder: Path | None = None) -> JobRef:
    job = add_job(store, run.id, "train", {})
    log = None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "log.txt"
        log.write_text(LOG, encoding="utf-8")
        describe_run(store, run.id, output_dir=str(folder))
    path = str(log) if log else None
    start_job(store, job.id, host=host, boot_id="boot", pid=4242, pid_started=1.0, log_path=path)
    describe_run(
        store,
        run.id,
        prompt="<|im_start|>User:<image>How many red circles are there? First think step by step …",
        prompt_hash="5d41402abc4b2a76",
        environment={"host": host, "device": "cpu", "python": "3.11", "torch": "2.13.0", "trl": "1.16.0"},
    )
    return job


def finished(store: Store, clock: Clock, settings: RunConfig, train: Examples, val: Examples, *, pace: float) -> RunRef:
    run = new_run(store, settings)
    job = start(store, run, folder=store.media.parent / "runs" / run.uid)
    last = settings.optimization.steps
    learn(store, clock, run, job, settings, train, val, until=last, pace=pace)
    evaluate(store, run, settings, val, kind="test", step=last, skill=skill(last / last))
    set_checkpoint(store, run.id, kind="final", step=last, path="final", value=0.61)
    end_job(store, job.id, JobState.FINISHED, exit_code=0)
    return run


def running(store: Store, clock: Clock, train: Examples, val: Examples) -> RunRef:
    settings = config("shapes-grpo-no-steps", "seed=3")
    run = new_run(store, settings)
    job = start(store, run, host=ELSEWHERE, folder=store.media.parent / "runs" / run.uid)
    learn(store, clock, run, job, settings, train, val, until=87, pace=1.4)
    beat_job(store, job.id, "generating")
    return run


def out_of_memory(store: Store, clock: Clock, train: Examples) -> RunRef:
    values = config("shapes-grpo").model_dump(mode="json")
    model = values["model"] | {"id": "HuggingFaceTB/SmolVLM-256M-Instruct"}
    settings = from_dict(values | {"name": "smolvlm-256m-*r64*", "model": model, "lora": {"rank": 64}})
    run = new_run(store, settings)
    job = start(store, run)
    learn(store, clock, run, job, settings, train, (), until=31, pace=4.2)
    end_job(
        store,
        job.id,
        JobState.OUT_OF_MEMORY,
        exit_code=1,
        error_kind="out_of_memory",
        error="The GPU ran out of memory at step 32: halve optimization.batch_size or turn on gradient_checkpointing.",
        traceback=TRACEBACK,
    )
    return run


def learn(
    store: Store,
    clock: Clock,
    run: RunRef,
    job: JobRef,
    settings: RunConfig,
    train: Examples,
    val: Examples,
    *,
    until: int,
    pace: float,
) -> None:
    """Steps, metrics, completions and evaluations up to a step."""
    rng = random.Random(run.id)
    tokens, is_sampled = 0.0, settings.method == "grpo"
    for step in range(until + 1):
        level = skill(step / settings.optimization.steps)
        if val and step % settings.evaluation.probe_every == 0:
            record_metrics(store, run.id, step, probe(rng, settings, level))
        if val and step % settings.evaluation.val_every == 0:
            evaluate(store, run, settings, val, kind="val", step=step, skill=level)
            set_checkpoint(store, run.id, kind="best", step=step, path="best", value=level)
        if step:
            advance_step(store, clock, run, job, settings, train, step=step, tokens=tokens, pace=pace)
            tokens += 1500.0 if is_sampled else 1100.0


def advance_step(
    store: Store,
    clock: Clock,
    run: RunRef,
    job: JobRef,
    settings: RunConfig,
    train: Examples,
    *,
    step: int,
    tokens: float,
    pace: float,
) -> None:
    """One more step of a run, `pace` seconds after the last."""
    rng = random.Random(run.id * 100_000 + step)
    clock.now += pace * rng.uniform(0.8, 1.3)
    level = skill(step / settings.optimization.steps)
    is_sampled = settings.method == "grpo"
    measured = sampled(rng, settings, level, pace) if is_sampled else imitated(rng, level, pace)
    if step == 40:
        measured["grad_norm"] = 9.5
    rows = completions(rng, settings, train, step, level) if is_sampled else []
    record_step(store, run.id, step, measured, at=clock.now, tokens=tokens, completions=rows, job_id=job.id)


def skill(progress: float) -> float:
    """How much of the task is learnt, 0 to 1, at a share of the steps."""
    return 1 / (1 + math.exp(-9 * (progress - 0.45)))


def noisy(rng: random.Random, value: float, spread: float = 0.06) -> float:
    return max(0.0, value + rng.gauss(0, spread))


def parts(rng: random.Random, level: float) -> dict[str, float]:
    return {
        "format": min(1.0, noisy(rng, 0.12 + 0.86 * min(1.0, 2 * level), 0.03)),
        "accuracy": min(1.0, noisy(rng, 0.15 + 0.6 * level)),
        "steps": min(1.0, noisy(rng, 0.34 * level**2, 0.03)),
    }


def weigh(settings: RunConfig, values: dict[str, float]) -> float:
    return sum(reward.weight * values[reward.label] for reward in settings.rewards)


def sampled(rng: random.Random, settings: RunConfig, level: float, pace: float) -> dict[str, float | None]:
    values = parts(rng, level)
    return {
        "reward": weigh(settings, values),
        "reward_std": noisy(rng, 0.9 - 0.5 * level),
        **{f"reward/{name}": value for name, value in values.items()},
        "frac_reward_zero_std": min(1.0, noisy(rng, 0.1 + 0.4 * level)),
        "completion_length": noisy(rng, 16 + 24 * level, 1.5),
        "clipped_share": noisy(rng, 0.08 * (1 - level), 0.01),
        "wellformed_share": values["format"],
        "correct_share": values["accuracy"],
        "reasoning_steps": 10 * values["steps"],
        "entropy": noisy(rng, 0.9 * (1 - level) + 0.08, 0.03),
        "kl": noisy(rng, 0.4 * level, 0.02) if settings.grpo.beta else None,
        "loss": rng.gauss(0, 0.004),
        "grad_norm": noisy(rng, 0.7, 0.15),
        "learning_rate": 3e-4,
        "time/step": pace,
        "time/generation": pace * 0.61,
        "time/scoring": pace * 0.03,
        "time/update": pace * 0.36,
        "tokens_per_second": noisy(rng, 1500 / pace, 60),
    }


def imitated(rng: random.Random, level: float, pace: float) -> dict[str, float | None]:
    return {
        "loss": noisy(rng, 0.25 + 2.2 * (1 - level), 0.05),
        "mean_token_accuracy": min(1.0, noisy(rng, 0.5 + 0.42 * level, 0.02)),
        "entropy_reference": noisy(rng, 0.3 + 1.2 * (1 - level), 0.04),
        "grad_norm": noisy(rng, 1.1, 0.2),
        "learning_rate": 2e-3 * (1 - 0.9 * level),
        "time/step": pace,
        "tokens_per_second": noisy(rng, 1100 / pace, 50),
    }


def probe(rng: random.Random, settings: RunConfig, level: float) -> dict[str, float | None]:
    values = parts(rng, level)
    return {
        "probe/reward": weigh(settings, values),
        **{f"probe/reward/{name}": value for name, value in values.items()},
        "probe/wellformed": values["format"],
        "probe/accuracy": values["accuracy"],
        "probe/steps": 10 * values["steps"],
        "probe/length": noisy(rng, 16 + 24 * level, 1.0),
        "probe/entropy": noisy(rng, 0.9 * (1 - level) + 0.08, 0.03),
        "probe/kl": noisy(rng, 0.4 * level, 0.02),
    }


def completions(
    rng: random.Random, settings: RunConfig, train: Examples, step: int, level: float
) -> list[CompletionRow]:
    """GROUPS groups of answers to training examples."""
    found = []
    for group in range(GROUPS):
        example_id, example = train[(step * GROUPS + group) % len(train)]
        texts = [answer(rng, example, level) for _ in range(settings.grpo.group_size)]
        fields = [trace_fields(settings, example, text) for text in texts]
        scores = np.array([each["reward"] for each in fields])
        advantages = (scores - scores.mean()) / (scores.std() + 1e-4)
        found += [
            CompletionRow(
                **each, generation=step, group=group, index=index, example_id=example_id, advantage=float(advantage)
            )
            for index, (each, advantage) in enumerate(zip(fields, advantages, strict=True))
        ]
    return found


def trace_fields(settings: RunConfig, example: Example, text: str) -> dict:
    components = scoring.score([text], [example], rewards.build(settings))[0]
    return vars(
        scored.trace_fields(
            text,
            truth=example.answer,
            style=settings.style,
            tokens=len(text) // 3 + 1,
            truncated=False,
            components=components,
            weights={reward.label: reward.weight for reward in settings.rewards},
        )
    )


def answer(rng: random.Random, example: Example, level: float) -> str:
    """What a policy of this skill might say; early ones break the format in the ways that policies do."""
    is_right = rng.random() < 0.15 + 0.65 * level
    said = example.answer if is_right else max(0, example.answer + rng.choice((-2, -1, 1, 2)))
    if rng.random() > 0.12 + 0.86 * min(1.0, 2 * level):
        return rng.choice(
            (
                f"There are {said} of them.",
                f"<think>I count <</think><answer> top left {said}</answer>",
                f"<think>**{said}** ![x](http://example.org/x.png) <script>alert(1)</script></think> <answer>{said}",
                f"<answer>{said}</answer>",
            )
        )
    if rng.random() > level:
        return f"<think>I see {said} of them.</think><answer>{said}</answer>"
    places = [f"{row} {column}" for row in shapes.SHAPES.rows for column in shapes.SHAPES.columns]
    seen = rng.sample(places, min(said, len(places)))
    lines = [f"{number}. {example.meta['noun'].rstrip('s')} {place}" for number, place in enumerate(seen, 1)]
    return f"<think>{' '.join(lines) or 'there are none'}</think><answer>{said}</answer>"


def evaluate(
    store: Store, run: RunRef, settings: RunConfig, held_out: Examples, *, kind: str, step: int, skill: float
) -> None:
    rng = random.Random(run.id * 1000 + step)
    split = held_out[0][1].split
    evaluation = begin_evaluation(
        store,
        run.id,
        benchmark=settings.data.dataset,
        split=split,
        kind=kind,
        step=step,
        conditions={"prompt": "5d41402abc4b2a76", "temperature": 0.0, "max_tokens": settings.max_tokens},
        encoder="all-MiniLM-L6-v2",
        total=len(held_out),
    )
    rows = [
        PredictionRow(
            **trace_fields(settings, example, answer(rng, example, skill)),
            example_id=example_id,
            similarity=min(1.0, noisy(rng, 0.3 + 0.3 * skill, 0.1)),
        )
        for example_id, example in held_out
    ]
    record_predictions(store, evaluation, rows)
    figures = metrics.summarize(rows, [example.answer for _, example in held_out])
    finish_evaluation(store, evaluation, figures)
    names = {
        "accuracy": "exact_match",
        "accuracy_low": "exact_match_low",
        "accuracy_high": "exact_match_high",
        "wellformed": "wellformed",
        "steps": "mean_steps",
        "cos_mean": "cos_mean",
        "cos@0.8": "cos_at_0.8",
    }
    record_metrics(store, run.id, step, {f"{kind}/{name}": figures.get(key) for name, key in names.items()})


def find(store: Store, name: str) -> RunRow:
    """The run of this name."""
    return next(run for run in list_runs(store) if run.name == name)


def with_checkpoint(store: Store, name: str) -> Path:
    """Gives a run an output folder of its own, beside the database, with a checkpoint that it could go on from."""
    run = find(store, name)
    folder = ownership.folder_of(store, run.uid)
    assert ownership.claim(store, run.uid, folder)
    checkpoint = folder / f"checkpoint-{run.step}"
    checkpoint.mkdir()
    for file in ("trainer_state.json", "adapter_model.safetensors"):
        (checkpoint / file).touch()
    describe_run(store, run.id, output_dir=str(folder))
    set_checkpoint(store, run.id, kind="last", step=run.step, path=str(checkpoint))
    return folder
