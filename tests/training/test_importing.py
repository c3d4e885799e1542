"""The completions and the state that TRL itself writes become a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.completions.rows import list_groups
from store.db.engine import Store
from store.importing.saving import import_runs
from store.metrics import list_metric_names
from store.runs import get_run, resolve_run
from trainer import datasets
from trainer.models import loading
from trainer.spec import config
from trainer.spec.rewards import build
from trainer.train import grpo

pytestmark = pytest.mark.training
STEPS, PROMPTS, SIZE = 3, 4, 4
SETTINGS = {
    "optimization.steps": str(STEPS),
    "optimization.batch_size": str(PROMPTS * SIZE),
    "grpo.group_size": str(SIZE),
    "evaluation.encoder": "''",
    "data.train_examples": "24",
    "max_tokens": "24",
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_trl_writes_is_read(tmp_path: Path, store: Store) -> None:
    settings = config.override(config.preset("shapes-grpo"), SETTINGS)
    base = loading.load_base(settings.model)
    splits, _ = datasets.load_run(settings.data, imitates=False)
    trainer = grpo.build(settings, base, splits["train"], build(settings, None), tmp_path / "out")
    (tmp_path / "out/completions").mkdir(parents=True)
    trainer.log_completions = True
    trainer.train()
    trainer.save_state()

    (made,) = import_runs(store, "trl", str(tmp_path / "out")).runs
    assert (made.steps, made.completions) == (STEPS, STEPS * PROMPTS * SIZE)
    run = get_run(store, resolve_run(store, made.uid))
    assert (run.method, run.style, run.step, run.max_steps) == ("grpo", "cot", STEPS, STEPS)
    names = list_metric_names(store, run.id)
    assert {"reward", "reward/format", "reward/accuracy", "completion_length", "tokens", "loss"} <= set(names)
    blocks = [block for step in range(1, STEPS + 1) for block in list_groups(store, run.id, step)]
    assert all(len(block.completions) % SIZE == 0 for block in blocks)
    for block in blocks:
        assert (block.group is not None) == (len(block.completions) == SIZE)
        assert block.example is not None and block.example.question.startswith("How many")
    row = blocks[0].completions[0]
    assert set(row.rewards) == {"format", "accuracy", "steps"} and row.advantage is not None
