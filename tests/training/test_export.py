"""Exported folders hold what was trained: the same logits, a card that says what it is, and a base for a new run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

from store.db.engine import Store
from store.db.rows import RunDetail
from store.evaluations.records import list_evaluations
from store.events import list_checkpoints
from tests.training.conftest import Train
from trainer import launch
from trainer.__main__ import main
from trainer.datasets import shapes
from trainer.evaluate import generation
from trainer.models import adapters, loading
from trainer.spec import config
from trainer.spec.config import ModelConfig
from trainer.train.export import export

pytestmark = pytest.mark.training
ONE_STEP = {"optimization.steps": "1", "optimization.warmup_steps": "0", "lora.rank": "4"}


def logits(model: torch.nn.Module, processor: object) -> torch.Tensor:
    example = shapes.examples("simple", "val", 1, 0)[0]
    inputs = generation.encode(processor, [example], [generation.render(processor, example, "cot", None)])
    model.eval()
    with torch.no_grad():
        found: torch.Tensor = model(**inputs).logits
    return found


def trained(store: Store, run: RunDetail, base: str) -> torch.Tensor:
    """Logits of the base with the final adapter, unquantized."""
    assert run.status == "finished", run.job
    loaded = loading.load_base(ModelConfig(id=base))
    [path] = [row.path for row in list_checkpoints(store, run.id) if row.kind == "final"]
    return logits(adapters.with_adapter(loaded, config.LoraConfig(rank=4), Path(path)), loaded.processor)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("model", ["tiny", "qwen2vl"])
def test_a_merged_model_says_what_base_and_adapter_say_and_is_a_base_itself(
    store: Store, train: Train, folders: dict[str, Path], tmp_path: Path, model: str, quantization: str
) -> None:
    base = str(folders.get(model, model))
    run = train("shapes-sft", ONE_STEP | {"model.id": base, "model.quantization": quantization})
    export(store, run.id, "final", tmp_path / "out", merge=True)
    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", dtype=torch.float32)
    processor = loading.load_processor(ModelConfig(id=str(tmp_path / "out")))
    expected = trained(store, run, base)
    assert torch.allclose(logits(merged, processor), expected, atol=1e-4)
    assert not torch.allclose(logits(loading.load_base(ModelConfig(id=base)).model, processor), expected, atol=1e-4)
    again = train("shapes-sft", ONE_STEP | {"model.id": str(tmp_path / "out")})
    assert again.status == "finished", again.job


def test_an_exported_adapter_is_loaded_as_its_card_says(store: Store, train: Train, tmp_path: Path) -> None:
    run = train("shapes-sft", ONE_STEP)
    export(store, run.id, "final", tmp_path / "out", merge=False)
    base = AutoModelForImageTextToText.from_pretrained(loading.TINY_FOLDER)
    model = PeftModel.from_pretrained(base, tmp_path / "out")
    found = logits(model, AutoProcessor.from_pretrained(tmp_path / "out"))
    assert torch.allclose(found, trained(store, run, "tiny"), atol=1e-4)
    for file in (tmp_path / "out").glob("*.*"):
        assert str(loading.ROOT).encode() not in file.read_bytes(), f"{file.name} names a folder of this machine"
    assert "from_pretrained('trainer/tiny/base')" in (tmp_path / "out/README.md").read_text()


def test_the_card_states_base_config_data_figures_and_versions(store: Store, train: Train, tmp_path: Path) -> None:
    run = train("shapes-sft", ONE_STEP | {"name": "a <b>*bold*</b> name", "instruction": "'a fence: ``` and more'"})
    export(store, run.id, "best", tmp_path / "out", merge=False)
    text = (tmp_path / "out/README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front == {
        "base_model": "tiny",
        "library_name": "peft",
        "pipeline_tag": "image-text-to-text",
        "tags": ["vision-r1-zero", "sft"],
    }
    assert "<b>" not in text.split("## Configuration")[0]
    assert "\n````yaml\n" in text, "a fence in a setting closes the block"
    [test] = [e for e in list_evaluations(store, run.id) if e.kind == "test"]
    assert f"| shapes-simple | test | {test.step} | 6 | {test.metrics['exact_match']:.3f} (" in text
    for words in (
        "licence is stated",
        "transformers: 5.",
        "learning_rate: ",
        "PeftModel.from_pretrained(base, 'out')",
    ):
        assert words in text


def test_the_command_says_what_it_cannot_do(
    store: Store, train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train("shapes-sft", ONE_STEP)
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("kept")
    arguments = ["export", "--db", str(tmp_path / "runs.db"), "--run", run.uid, "--to"]
    assert main([*arguments, str(full)]) == 2
    assert "is not empty. Choose a new folder" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "out"), "--checkpoint", "77"]) == 2
    assert "Checkpoint '77' does not exist" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "out")]) == 0
    assert "wrote step 1 to" in capsys.readouterr().out
    idle, _ = launch.create(store, config.from_dict({"method": "none", "name": "idle"}))
    assert main(["export", "--db", str(tmp_path / "runs.db"), "--run", idle.uid, "--to", str(tmp_path / "x")]) == 2
    assert "has no training" in capsys.readouterr().err
