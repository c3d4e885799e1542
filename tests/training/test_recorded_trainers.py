"""`vr1z.record` on each kind of trainer that a script may have: all of it is kept, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed
from trl import DPOConfig, DPOTrainer, RLOOConfig, RLOOTrainer, SFTConfig, SFTTrainer

from store.completions.rows import iter_completions, list_groups
from store.contents import read_contents
from store.db.engine import open_store
from store.metrics import list_metric_names, read_series
from store.runs import get_run, resolve_run
from trainer.models.loading import TINY_FOLDER
from trainer.record import vr1z
from trainer.record.direct import Database

pytestmark = pytest.mark.training
STEPS = 3
LINES = ["How many dots? 3", "How many stars? 2", "How many rings? 5", "How many bars? 1"]


def arguments(kind: Any, folder: Path, **settings: Any) -> Any:
    common: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "logging_steps": 1,
        "per_device_train_batch_size": 4,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 3,
    }
    return kind(**common | settings)


def model_and_tokenizer(folder: Path) -> tuple[Any, Any]:
    """A model that lies in a folder, from where DPO loads its reference."""
    tokenizer = AutoTokenizer.from_pretrained(TINY_FOLDER)
    set_seed(3)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes, **ends)).save_pretrained(folder / "base")
    return LlamaForCausalLM.from_pretrained(folder / "base"), tokenizer


def sft(folder: Path) -> Any:
    model, tokenizer = model_and_tokenizer(folder)
    rows = Dataset.from_list([{"text": line} for line in LINES])
    return SFTTrainer(model, arguments(SFTConfig, folder), train_dataset=rows, processing_class=tokenizer)


def dpo(folder: Path) -> Any:
    model, tokenizer = model_and_tokenizer(folder)
    rows = Dataset.from_list([{"prompt": line[:-1], "chosen": line[-1], "rejected": "9"} for line in LINES])
    return DPOTrainer(model, None, arguments(DPOConfig, folder), train_dataset=rows, processing_class=tokenizer)


def short(completions: list[str], **columns: Any) -> list[float]:
    return [-float(len(text)) for text in completions]


def rloo(folder: Path) -> Any:
    model, tokenizer = model_and_tokenizer(folder)
    rows = Dataset.from_list([{"prompt": line[:-1], "answer": line[-1]} for line in LINES])
    sampling = {"num_generations": 2, "max_completion_length": 6, "beta": 0.0}
    return RLOOTrainer(
        model,
        reward_funcs=short,
        args=arguments(RLOOConfig, folder, **sampling),
        train_dataset=rows,
        processing_class=tokenizer,
    )


def plain(folder: Path) -> Any:
    model, tokenizer = model_and_tokenizer(folder)
    ids = [torch.tensor(tokenizer(line)["input_ids"][:5]) for line in LINES]
    rows = [{"input_ids": each, "labels": each} for each in ids]
    return Trainer(model, arguments(TrainingArguments, folder), train_dataset=rows)


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize(
    ("make", "method", "metrics"),
    [
        (sft, "sft", {"loss", "mean_token_accuracy", "grad_norm"}),
        (dpo, "dpo", {"loss", "reward/margins", "grad_norm"}),
        (rloo, "rloo", {"loss", "reward", "reward/short", "completion_length"}),
        (plain, "unknown", {"loss", "grad_norm", "learning_rate"}),
    ],
)
def test_a_trainer_is_recorded_and_not_changed(
    make: Callable[[Path], Any], method: str, metrics: set[str], tmp_path: Path
) -> None:
    without = make(tmp_path / "without")
    without.train()
    trainer = make(tmp_path / "out")
    database = tmp_path / "runs.db"
    recorder = vr1z.record(trainer, name="theirs", dashboard=Database(str(database)))
    assert recorder is not None
    trainer.train()
    recorder.log({"own": 2.0})
    recorder.summary["best"] = 0.5
    recorder.close()
    assert losses(trainer) == losses(without) and len(losses(trainer)) == STEPS and trainer.args.report_to == []

    store = open_store(str(database))
    run = get_run(store, resolve_run(store, "theirs"))
    assert (run.method, run.status, run.step, run.max_steps, run.seed) == (method, "finished", STEPS, STEPS, 3)
    assert run.config["recorded"]["per_device_train_batch_size"] == 4 and run.environment["summary"].keys() >= {
        "train_loss",
        "best",
    }
    assert metrics <= set(list_metric_names(store, run.id))
    assert read_series(store, run.id, ["loss"])["loss"].value.tolist() == pytest.approx(losses(trainer))
    own = read_series(store, run.id, ["own"])["own"]
    assert (own.step.tolist(), own.value.tolist()) == ([STEPS], [2.0]), "of the present update"
    has = read_contents(store, run.id)
    assert has.sampled.any == (make is rloo) and not has.evaluated.any
    if make is rloo:
        assert has.sampled.groups and has.sampled.rewarded and has.sampled.lengths and not has.sampled.images
        assert len(list(iter_completions(store, run.id))) == 4 * STEPS
        groups = list_groups(store, run.id, 1)
        asked = {(group.example.prompt, group.example.gold) for group in groups if group.example}
        assert asked and asked <= {(line[:-1], line[-1]) for line in LINES}
