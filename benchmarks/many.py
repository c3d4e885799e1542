"""Create a database with very many small runs, as after years of work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import insert, select

from store.db.connection import Store, writing
from store.db.rows import ExampleRow
from store.db.schema import Checkpoint, Evaluation, Event, Job, Metric, MetricName, Prediction, Run, Step, Tag
from store.db.states import JobState
from store.examples import add_examples
from trainer.spec.config import RunConfig, from_dict, preset

RUNS, TAGS, STEPS, EXAMPLES, SEEDS = 2000, 5, 20, 8, 3
"""Number of runs; tags, steps and test questions per run; seeds per setting."""
NAMES = ("reward", "rewards/format", "rewards/accuracy", "kl", "loss", "learning_rate", "probe/accuracy")
PRESETS = ("shapes-grpo", "shapes-sft", "shapes-grpo-no-steps")
KINDS = (("probe", STEPS // 2), ("val", STEPS), ("test", STEPS))
DATASET = "shapes-simple"
BEGAN, HOUR = 1.7e9, 3600.0
TEXT = "<think>1. a red circle</think><answer>{}</answer>"
SPANS = {"think_start": 7, "think_end": 22, "answer_start": 38, "answer_end": 39}
CONDITIONS = {
    "style": "cot",
    "prompt": "User:<image>{question}\nAssistant:",
    "pixels": {"size": 64},
    "decoding": {"max_tokens": 112, "temperature": None, "seed": 0, "forced_prefix": ""},
}

Row = dict[str, Any]


def fill(store: Store, runs: int = RUNS) -> None:
    """Add finished runs of a few presets, tested on the same questions; every setting has its own learning rate."""
    example_rows = [
        ExampleRow(dataset=DATASET, split="test", key=str(i), question="?", answer=1) for i in range(EXAMPLES)
    ]
    examples = add_examples(store, example_rows)
    configs = [_config(number) for number in range(runs)]
    steps = range(1, STEPS + 1)
    with writing(store) as connection:

        def add(table: Any, rows: Iterable[Row]) -> None:
            connection.execute(insert(table), list(rows))

        add(Run, (_run(number, config) for number, config in enumerate(configs)))
        add(MetricName, ({"name": name} for name in NAMES))
        names = connection.scalars(select(MetricName.id)).all()
        ids = connection.scalars(select(Run.id).order_by(Run.id)).all()
        add(Tag, ({"run_id": id, "name": f"tag {id * TAGS + i}"} for id in ids for i in range(TAGS)))
        add(Job, (_job(id) for id in ids))
        add(
            Step,
            ({"run_id": id, "step": s, "at": BEGAN + HOUR * id + s, "tokens": 90.0 * s} for id in ids for s in steps),
        )
        add(
            Metric,
            ({"run_id": id, "name_id": n, "step": s, "value": s / n} for id in ids for n in names for s in steps),
        )
        add(Event, (_event(id, kind) for id in ids for kind in ("launched", "started", "finished")))
        add(Checkpoint, (_checkpoint(id, kind) for id in ids for kind in ("last", "best")))
        add(Evaluation, (_evaluation(id, kind, step) for id in ids for kind, step in KINDS))
        tests = connection.scalars(select(Evaluation.id).where(Evaluation.kind != "probe")).all()
        add(Prediction, (_prediction(id, example) for id in tests for example in examples))


def _config(number: int) -> RunConfig:
    values = preset(PRESETS[number % len(PRESETS)]).model_dump(mode="json")
    values["name"], values["seed"] = f"run {number}", number // len(PRESETS) % SEEDS
    values["optimization"]["learning_rate"] = 1e-5 * (1 + number // (len(PRESETS) * SEEDS))
    return from_dict(values)


def _run(number: int, config: RunConfig) -> Row:
    return {
        "uid": f"many{number:06d}",
        "name": config.name,
        "method": config.method,
        "style": config.style,
        "model": config.model.id,
        "dataset": DATASET,
        "lora_rank": config.lora.rank,
        "seed": config.seed,
        "config": config.model_dump(mode="json"),
        "reward_weights": {reward.name: reward.weight for reward in config.rewards},
        "environment": {"python": "3.11", "packages": {f"package {i}": "1.0" for i in range(30)}},
        "sources": {},
        "step": STEPS,
        "max_steps": STEPS,
        "created_at": BEGAN + HOUR * number,
    }


def _job(run_id: int) -> Row:
    began = BEGAN + HOUR * run_id
    times = {"created_at": began, "started_at": began, "ended_at": began + STEPS, "spoke_at": began + STEPS}
    rest = {"kind": "train", "arguments": {}, "state": JobState.FINISHED, "position": float(run_id), "host": "here"}
    return {"uid": f"job{run_id:06d}", "run_id": run_id, "exit_code": 0, **times, **rest}


def _event(run_id: int, kind: str) -> Row:
    return {"run_id": run_id, "at": BEGAN + HOUR * run_id, "kind": kind, "message": f"The run was {kind}."}


def _checkpoint(run_id: int, kind: str) -> Row:
    return {"run_id": run_id, "step": STEPS, "kind": kind, "path": f"/tmp/{run_id}/{kind}", "created_at": BEGAN}


def _evaluation(run_id: int, kind: str, step: int) -> Row:
    right = (run_id % (EXAMPLES + 1)) / EXAMPLES
    figures = {"n": EXAMPLES, "exact_match": right, "exact_match_low": right / 2, "exact_match_high": (1 + right) / 2}
    benchmark = {"benchmark": DATASET, "split": "test", "conditions": CONDITIONS, "conditions_hash": "same"}
    times = {"started_at": BEGAN + HOUR * run_id, "ended_at": BEGAN + HOUR * run_id + 9}
    rest = {"kind": kind, "step": step, "total": EXAMPLES, "done": EXAMPLES, "metrics": figures, "encoder": "tiny"}
    return {"run_id": run_id, **benchmark, **times, **rest}


def _prediction(evaluation_id: int, example_id: int) -> Row:
    right = (evaluation_id + example_id) % 3 > 0
    answer = {"text": TEXT.format(int(right)), "answer": int(right), "correct": right, "wellformed": True, **SPANS}
    scored = {"reasoning_steps": 1, "tokens": 14, "rewards": {}, "similarity": 0.5, "seconds": 0.02, "sample": 0}
    return {"evaluation_id": evaluation_id, "example_id": example_id, **answer, **scored}
