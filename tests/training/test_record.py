"""Two lines record any TRL script: somebody else's GRPO script becomes a run, its own reporting untouched."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from store.completions.rows import get_step_bounds, list_groups
from store.db.engine import open_store
from store.metrics import list_metric_names
from store.runs import get_run, resolve_run
from tests.store import make

pytestmark = pytest.mark.training

SCRIPT = """
import sys
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig, GRPOTrainer
from trainer.datasets.shapes import examples
from trainer.recorder import record

folder, output = sys.argv[1:]
rows = [
    {"prompt": [{"role": "user", "content": e.question}], "image": e.images[0], "answer": str(e.answer), "level": "a"}
    for e in examples("simple", "train", 8, 0)
]

def short(completions, **columns):
    return [-float(len(c[0]["content"])) for c in completions]

trainer = GRPOTrainer(
    model=AutoModelForImageTextToText.from_pretrained(folder),
    reward_funcs=short,
    args=GRPOConfig(output_dir=output, per_device_train_batch_size=4, num_generations=4, max_completion_length=12,
                    max_steps=2, logging_steps=2, report_to=[], use_cpu=True, bf16=False, save_strategy="no"),
    train_dataset=Dataset.from_list(rows),
    processing_class=AutoProcessor.from_pretrained(folder, padding_side="left"),
    peft_config=LoraConfig(target_modules=["q_proj"]),
)
record(trainer, name="my script")
trainer.train()
assert trainer.args.report_to == []
"""


def test_a_foreign_grpo_script_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.models.loading import TINY_FOLDER

    root = Path(__file__).resolve().parents[2]
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    monkeypatch.setenv("VR1Z_DATABASE_URL", url)
    monkeypatch.setenv("PYTHONPATH", str(root))
    done = subprocess.run(
        [sys.executable, str(script), str(TINY_FOLDER), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    store = open_store(url, readonly=True)
    run = get_run(store, resolve_run(store, "my script"))
    assert (run.method, run.status, run.step, run.max_steps) == ("grpo", "finished", 2, 2)
    assert run.reward_weights == {"short": 1.0}
    [group] = list_groups(store, run.id, 2)
    assert len(group.completions) == 4
    assert all(c.reward == c.rewards["short"] for c in group.completions)
    assert group.example is not None and len(group.example.images) == 1
    assert group.example.question.startswith("How many") and group.example.gold == str(group.example.answer)
    assert group.example.columns == {"level": "a"}
    assert len(list_groups(store, run.id, 1)[0].completions) == 4, "what was sampled for a step that was not logged"
    assert list((tmp_path / "out").glob("*.jsonl")) == []
    assert {"reward", "reward/short", "completion_length", "time/generation"} <= set(list_metric_names(store, run.id))


def test_recording_many_completions_keeps_none_of_them_in_memory(tmp_path: Path) -> None:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from trainer.record.spool import Spool
    from trainer.record.vr1z import Generation
    from trainer.recorder import Recorder

    store = open_store(str(tmp_path / "runs.db"))
    run = make.run(store)
    recorder = Recorder(store, run.id, None, Spool(tmp_path / "unwritten.jsonl"), weights={"format": 1.0})
    arguments, control = TrainingArguments(output_dir=str(tmp_path / "out"), report_to=[]), TrainerControl()

    def step(number: int) -> None:
        texts = [f"<think>{number} {i} {'word ' * 200}</think><answer>1</answer>" for i in range(64)]
        fields = {field.name: None for field in dataclasses.fields(Generation)}
        generation = Generation(
            **fields
            | {
                "number": number,
                "inputs": [{"answer": "1"}] * 64,
                "texts": texts,
                "lengths": [200] * 64,
                "truncated": [False] * 64,
                "rewards": {"format": [1.0] * 64},
                "advantages": [0.0] * 64,
                "group_size": 8,
                "generation_seconds": 0.0,
                "scoring_seconds": 0.0,
            }
        )
        recorder.keep(generation)
        recorder.on_log(arguments, TrainerState(global_step=number), control, {"loss": 0.0})

    for number in range(1, 6):
        step(number)
    tracemalloc.start()
    for number in range(6, 26):
        step(number)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert get_step_bounds(store, run.id).count == 25 and not recorder.failures
    assert grown < 500_000, "twenty steps hold more than a megabyte of texts"
    assert recorder.seconds / 25 < 1, "a step of two seconds would be noticeably slower"
