"""Real architectures at toy size: loading, pixels, errors in words, a real update of each model and quantization."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, Idefics3Config, LlamaConfig, Qwen2VLConfig, SmolVLMConfig

from store.db.engine import Store
from store.events import list_checkpoints
from store.metrics import read_series
from store.runs import describe_run, get_run
from tests.training.conftest import Train
from tests.training.tiny_models import WRITERS
from trainer import launch
from trainer.evaluate import provenance
from trainer.models import hub, loading
from trainer.spec import config, prompt
from trainer.spec.config import ModelConfig
from trainer.spec.errors import TrainerError

pytestmark = pytest.mark.training


def encoded(processor: Any, images: list[Image.Image], questions: list[str]) -> Any:
    texts = [processor.apply_chat_template(prompt.messages(q, "cot"), add_generation_prompt=True) for q in questions]
    nested = [[image] for image in images]
    return processor(text=texts, images=nested, padding=True, return_tensors="pt")


def image_tokens(config: ModelConfig, width: int, height: int) -> tuple[int, int]:
    """Image place holders in the prompt and rows of pixel values for one image."""
    processor = loading.load_processor(config)
    inputs = encoded(processor, [Image.new("RGB", (width, height))], ["How many?"])
    image_id = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    pixels = inputs["pixel_values"]
    return int((inputs["input_ids"] == image_id).sum()), pixels.shape[1] if pixels.ndim == 5 else pixels.shape[0]


@pytest.mark.parametrize(("edge", "tiles"), [(None, 5), (192, 5), (96, 1), (288, 10)])
def test_the_longest_edge_decides_the_number_of_tiles(folders: dict[str, Path], edge: int | None, tiles: int) -> None:
    config = ModelConfig(id=str(folders["smolvlm"]), longest_edge=edge)
    assert image_tokens(config, 100, 100) == (9 * tiles, tiles)


@pytest.mark.parametrize(
    ("smallest", "largest", "tokens"), [(None, None, 16), (None, 28 * 28 * 4, 4), (28 * 28 * 9, 28 * 28 * 9, 9)]
)
def test_the_largest_area_decides_the_number_of_patches(
    folders: dict[str, Path], smallest: int | None, largest: int | None, tokens: int
) -> None:
    config = ModelConfig(id=str(folders["qwen2vl"]), min_pixels=smallest, max_pixels=largest)
    assert image_tokens(config, 500, 500) == (tokens, 4 * tokens)


@pytest.mark.parametrize(
    ("model", "settings", "advice"),
    [
        ("smolvlm", {"max_pixels": 1000}, "Leave model.max_pixels empty"),
        ("smolvlm", {"min_pixels": 1000}, "has longest_edge"),
        ("qwen2vl", {"longest_edge": 512}, "has min_pixels and max_pixels"),
        ("qwen2vl", {"min_pixels": 2000, "max_pixels": 1000}, "exceeds the largest"),
    ],
)
def test_a_pixel_setting_that_the_processor_does_not_know_is_refused(
    folders: dict[str, Path], model: str, settings: dict[str, int], advice: str
) -> None:
    with pytest.raises(TrainerError, match=advice):
        loading.load_processor(ModelConfig(id=str(folders[model]), **settings))


@pytest.mark.parametrize("model", WRITERS)
def test_a_batch_is_padded_on_the_left(folders: dict[str, Path], model: str) -> None:
    processor = loading.load_processor(ModelConfig(id=str(folders[model])))
    inputs = encoded(processor, [Image.new("RGB", (96, 96))] * 2, ["How?", "How many red circles?"])
    assert inputs["attention_mask"][0, 0] == 0
    assert inputs["attention_mask"][:, -1].tolist() == [1, 1]


@pytest.mark.parametrize("model", WRITERS)
def test_a_saved_processor_is_loaded_as_it_was(folders: dict[str, Path], model: str, tmp_path: Path) -> None:
    shutil.copytree(folders[model], tmp_path / "copy")
    processor = loading.load_processor(ModelConfig(id=str(folders[model])))
    processor.save_pretrained(tmp_path / "copy")
    again = loading.load_processor(ModelConfig(id=str(tmp_path / "copy")))
    assert again.image_processor.to_dict() == processor.image_processor.to_dict()
    assert again.chat_template == processor.chat_template
    assert json.loads((tmp_path / "copy/processor_config.json").read_text())["processor_class"] == type(again).__name__


@pytest.mark.parametrize("architecture", [Idefics3Config, SmolVLMConfig, Qwen2VLConfig])
def test_adapters_are_put_on_every_projection_of_the_language_model_and_on_nothing_else(architecture: Any) -> None:
    with init_empty_weights():
        model = AutoModelForImageTextToText.from_config(architecture())
    chosen = set(loading.projections(model))
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            is_language = re.match(r"model\.(text_model|language_model)\.layers\.", name) is not None
            assert (name in chosen) == is_language, name


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
@pytest.mark.parametrize("model", WRITERS)
def test_only_the_projections_of_the_language_model_are_quantized(
    folders: dict[str, Path], model: str, quantization: Any
) -> None:
    base = loading.load_base(ModelConfig(id=str(folders[model]), quantization=quantization))
    chosen = loading.projections(base.model)
    for name, module in base.model.named_modules():
        if isinstance(module, torch.nn.Linear):
            assert (type(module) is torch.nn.Linear) == (name not in chosen), name
    kind = {"nf4": "Linear4bit", "int8": "Linear8bitLt"}[quantization]
    assert {type(module).__name__ for module in chosen.values()} == {kind}


REWARD = "def length(completions, **columns):\n    return [len(said[0]['content']) / 100 for said in completions]\n"
SMALLER = {
    "optimization.steps": "1",
    "optimization.warmup_steps": "0",
    "optimization.batch_size": "4",
    "grpo.group_size": "2",
    "lora.rank": "4",
    "max_tokens": "12",
    "data.val_examples": "2",
    "data.test_examples": "2",
    "evaluation.probe_examples": "2",
}


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[loading.Base]:
    """The bases that a run loads, in order."""
    found: list[loading.Base] = []
    load: Callable[[ModelConfig], loading.Base] = loading.load_base

    def remember(config: ModelConfig) -> loading.Base:
        found.append(load(config))
        return found[-1]

    monkeypatch.setattr(loading, "load_base", remember)
    return found


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
@pytest.mark.parametrize("method", ["sft", "grpo"])
@pytest.mark.parametrize("model", WRITERS)
def test_one_real_update_changes_the_adapter_and_nothing_else(
    folders: dict[str, Path],
    store: Store,
    train: Train,
    loaded: list[loading.Base],
    tmp_path: Path,
    model: str,
    method: str,
    quantization: str,
) -> None:
    (tmp_path / "mine.py").write_text(REWARD)
    settings = SMALLER | {"model.id": str(folders[model]), "model.quantization": quantization}
    settings["rewards"] = f"[{{name: '{tmp_path}/mine.py:length'}}]"
    run = train(f"demo-{method}", settings)
    assert run.status == "finished", run.job
    loss = read_series(store, run.id, ["loss"])["loss"].value
    assert torch.isfinite(torch.tensor(loss)).all()
    [final] = [row for row in list_checkpoints(store, run.id) if row.kind == "final"]
    adapter = load_file(Path(final.path, "adapter_model.safetensors"))
    assert all("text_model" in name or "language_model" in name for name in adapter)
    assert any(weight.any() for name, weight in adapter.items() if "lora_B" in name)
    before = loading.load_base(ModelConfig(id=str(folders[model]), quantization=quantization)).model.state_dict()
    after = {
        name.replace("base_layer.", ""): weight
        for name, weight in loaded[0].model.state_dict().items()
        if "lora_" not in name
    }
    assert before.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def fails_with(config: ModelConfig, load: Callable[[ModelConfig], Any] = loading.load_base) -> TrainerError:
    with pytest.raises(TrainerError) as caught:
        load(config)
    assert caught.value.message.endswith(".")
    return caught.value


def test_a_model_that_is_nowhere_is_said(tmp_path: Path) -> None:
    assert "hub cannot be reached" in fails_with(ModelConfig(id="nobody/nothing")).message
    assert "The model '/nowhere/at/all' does not exist" in fails_with(ModelConfig(id="/nowhere/at/all")).message
    assert "model_type" in fails_with(ModelConfig(id=str(tmp_path))).message


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    LlamaConfig().save_pretrained(tmp_path)
    assert "is a llama model, which cannot read images" in fails_with(ModelConfig(id=str(tmp_path))).message


def test_code_from_a_repository_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "config.json").write_text('{"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}')
    fails_with(ModelConfig(id=str(tmp_path)))
    assert not (tmp_path / "ran").exists()


def test_weights_must_be_safetensors_and_whole(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(folders["qwen2vl"], tmp_path / "copy")
    (copy / "model.safetensors").write_text("junk")
    assert "damaged" in fails_with(ModelConfig(id=str(copy))).message
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "no safetensors weights" in fails_with(ModelConfig(id=str(copy))).message


def test_quantization_without_bitsandbytes_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    error = fails_with(ModelConfig(quantization="nf4"))
    assert error.kind == "dependency"
    assert "Install it" in error.message


def test_an_architecture_without_known_projections_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LANGUAGE_PROJECTIONS", r"decoder\.nothing")
    assert "no projections" in fails_with(ModelConfig()).message


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (GatedRepoError, "Accept its terms"),
        (RepositoryNotFoundError, "does not exist"),
        (RevisionNotFoundError, "has no revision 'v9'"),
    ],
)
def test_what_the_hub_answers_becomes_advice(kind: Any, words: str) -> None:
    response = SimpleNamespace(headers={}, request=None)
    wrapped = OSError("You are trying to access a gated repo.\nMake sure …")
    wrapped.__cause__ = kind("no", response=response)
    error = hub.failure(ModelConfig(id="a/b", revision="v9"), wrapped)
    assert error.kind == "model"
    assert words in error.message


def test_a_full_disk_while_downloading_is_not_the_models_fault() -> None:
    assert hub.failure(ModelConfig(id="a/b"), OSError(28, "No space left on device")).kind == "disk"


def test_later_jobs_load_the_commit_that_the_first_one_found(store: Store) -> None:
    run, _ = launch.create(store, config.from_dict({"model": {"id": "a/b"}}))
    assert provenance.config_of(get_run(store, run.id)).model.revision is None
    describe_run(store, run.id, environment={"model_revision": "c0ffee"})
    assert provenance.config_of(get_run(store, run.id)).model.revision == "c0ffee"
    pinned, _ = launch.create(store, config.from_dict({"model": {"id": "a/b", "revision": "v1"}}))
    describe_run(store, pinned.id, environment={"model_revision": "c0ffee"})
    assert provenance.config_of(get_run(store, pinned.id)).model.revision == "v1"
