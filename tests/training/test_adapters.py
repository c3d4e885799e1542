"""Going on from the adapter of another run: what it starts with, what it is held to, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from store.db.engine import Store, StoreError
from store.db.rows import RunDetail
from store.evaluations.records import list_evaluations
from store.events import list_checkpoints, list_events
from store.jobs import get_job
from store.runs import get_run
from tests.training.conftest import SMALL, Train
from trainer import launch
from trainer.datasets import shapes
from trainer.jobs.job import execute
from trainer.models import adapters, loading
from trainer.spec import config, rewards
from trainer.spec.config import LoraConfig
from trainer.spec.errors import TrainerError
from trainer.train import grpo

pytestmark = pytest.mark.training


@pytest.fixture
def source(train: Train) -> RunDetail:
    run = train("shapes-sft", {"name": "source", "lora.rank": "8"})
    assert run.status == "finished", run.job
    return run


def best_of(store: Store, run: RunDetail) -> Path:
    return Path(next(row.path for row in list_checkpoints(store, run.id) if row.kind in ("best", "final")))


def probe_of(store: Store, run: RunDetail, step: int) -> dict[str, Any]:
    [found] = [e.metrics for e in list_evaluations(store, run.id) if (e.kind, e.step) == ("probe", step)]
    return found


def test_a_policy_can_be_asked_as_it_started_and_goes_on_as_it_was(store: Store, source: RunDetail) -> None:
    """With a copy of the adapter for TRL's own reference beside it, too."""
    start = best_of(store, source)
    base = loading.load_base(config.ModelConfig())
    model = adapters.with_adapter(base, LoraConfig(rank=8), start)
    model.add_adapter("ref", loading.adapter(LoraConfig(rank=8)))
    begun = load_file(start / adapters.WEIGHTS)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if ".default." in name:
                value.add_(0.5)
        moved = {name: value.clone() for name, value in model.named_parameters()}
        with pytest.raises(ZeroDivisionError), adapters.as_started(model, start):
            weights = dict(model.named_parameters())
            for name, value in begun.items():
                stem, _, kind = name.rpartition(".")
                assert torch.equal(weights[f"{stem}.default.{kind}"], value)
            raise ZeroDivisionError
    assert all(torch.equal(value, moved[name]) for name, value in model.named_parameters())


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_a_run_starts_from_the_best_checkpoint_of_another(
    store: Store, train: Train, source: RunDetail, method: str
) -> None:
    run = train(f"demo-{method}", {"model.adapter": "source", "lora.rank": "8", "optimization.steps": "1"})
    assert run.status == "finished", run.job
    chosen = adapters.find(store, source.uid)
    start = Path(str(run.environment["adapter"]))
    assert (start / adapters.WEIGHTS).read_bytes() == (chosen / adapters.WEIGHTS).read_bytes()
    assert run.config["model"]["adapter"] == source.uid
    assert any(event.kind == "adapter" and str(chosen) in event.message for event in list_events(store, run.id))
    first = probe_of(store, run, 0)
    assert first["kl"] == 0, "how far it moves is told from where it began"
    assert first["entropy"] != probe_of(store, source, 0)["entropy"], "the adapter was in the model when the run began"


def test_a_branch_starts_from_the_checkpoint_that_was_chosen_even_when_that_is_gone(
    store: Store, source: RunDetail
) -> None:
    last = next(row for row in list_checkpoints(store, source.id) if row.kind == "last")
    settings = SMALL | {"model.adapter": f"{source.name}:last", "lora.rank": "8", "optimization.steps": "1"}
    chosen = config.override(config.preset("shapes-sft"), settings | {"optimization.learning_rate": "0.001"})
    made, job = launch.create(store, chosen, parent_id=source.id)
    weights = (Path(last.path) / adapters.WEIGHTS).read_bytes()
    shutil.rmtree(last.path)
    assert execute(store, get_job(store, job.uid)) == 0
    run = get_run(store, made.id)
    assert run.config["model"]["adapter"] == f"{source.uid}:{last.step}" and run.parent_id == source.id
    assert (Path(str(run.environment["adapter"])) / adapters.WEIGHTS).read_bytes() == weights
    told = [event.message for event in list_events(store, run.id) if event.kind == "adapter"]
    assert told == [f"Starts from step {last.step} of run {source.uid}."]


@pytest.mark.parametrize("name", ["7", "best"])
def test_a_branch_needs_a_checkpoint_that_is_there(store: Store, name: str) -> None:
    made, _ = launch.create(store, config.preset("shapes-sft"))
    with pytest.raises(config.ConfigError, match=f"Checkpoint '{name}' does not exist. The run has: none"):
        launch.create(store, config.override(config.preset("shapes-sft"), {"model.adapter": f"{made.uid}:{name}"}))


def trainer_from(store: Store, run: RunDetail, output: Path, steps: int) -> tuple[Any, Path]:
    """A GRPO trainer that starts from the run's adapter, and the adapter's folder."""
    settings = SMALL | {"lora.rank": "8", "grpo.beta": "0.1", "optimization.steps": str(steps)}
    chosen = config.override(config.preset("shapes-grpo"), settings)
    start = adapters.find(store, run.uid)
    examples = shapes.examples("simple", "train", 8, 0)
    return grpo.build(chosen, loading.load_base(chosen.model), examples, rewards.build(chosen), output, start), start


def test_the_kl_reference_is_the_adapter_at_the_start_and_stays_it_after_a_resume(
    store: Store, source: RunDetail, tmp_path: Path
) -> None:
    trainer, start = trainer_from(store, source, tmp_path / "out", 1)
    begun = load_file(start / adapters.WEIGHTS)
    trainer.train()
    trainer._save_checkpoint(trainer.model, trial=None)
    [checkpoint] = (tmp_path / "out").glob("checkpoint-*")
    resumed, _ = trainer_from(store, source, tmp_path / "out", 2)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    weights = dict(resumed.model.named_parameters())
    moved = False
    for name, value in begun.items():
        stem, _, kind = name.rpartition(".")
        assert torch.equal(weights[f"{stem}.ref.{kind}"], value), name
        assert not weights[f"{stem}.ref.{kind}"].requires_grad
        moved |= not torch.equal(weights[f"{stem}.default.{kind}"], value)
    assert moved


def test_an_adapter_of_another_shape_is_refused(store: Store, source: RunDetail, tmp_path: Path) -> None:
    folder = best_of(store, source)
    with pytest.raises(TrainerError, match=r"has rank 8 and alpha 16, but the run has 4 and 8\. Set lora\.rank"):
        adapters.check_shape(folder, LoraConfig(rank=4))
    with pytest.raises(TrainerError, match="alpha 16, but the run has 8 and 8"):
        adapters.check_shape(folder, LoraConfig(rank=8, alpha=8))
    with pytest.raises(TrainerError, match=r"does not adapt the vision tower\. Set lora\.vision to false"):
        adapters.check_shape(folder, LoraConfig(rank=8, vision=True))
    (tmp_path / adapters.SHAPE).write_text(json.dumps({"peft_type": "IA3"}))
    with pytest.raises(TrainerError, match="not a plain LoRA"):
        adapters.check_shape(tmp_path, LoraConfig())
    (tmp_path / adapters.SHAPE).write_text("{")
    with pytest.raises(TrainerError, match="damaged"):
        adapters.check_shape(tmp_path, LoraConfig())


def test_an_adapter_of_another_base_is_refused(
    store: Store, source: RunDetail, tmp_path: Path, folders: dict[str, Path]
) -> None:
    base = loading.load_base(config.ModelConfig(id=str(folders["qwen2vl"])))
    with pytest.raises(TrainerError, match="does not fit the base model"):
        adapters.with_adapter(base, LoraConfig(rank=8), best_of(store, source))


def test_a_run_or_folder_that_gives_no_adapter_is_said_before_anything_is_queued(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no run 'nobody'"):
        launch.create(store, config.from_dict({"model": {"adapter": "nobody"}}))
    with pytest.raises(TrainerError, match=r"has no adapter_model\.safetensors"):
        adapters.find(store, str(tmp_path))
    fresh, _ = launch.create(store, config.from_dict({"name": "fresh"}))
    with pytest.raises(TrainerError, match="Checkpoint 'final' does not exist"):
        adapters.find(store, fresh.uid)
