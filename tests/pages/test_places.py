"""A page may name what lies below the allowed folders, and nothing else, whatever links and dots say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from app import places
from app.shared import intents
from store.db.engine import Store
from store.runs import get_run
from tests import seeded
from trainer.spec.config import ConfigError, ModelConfig, RunConfig, from_dict


@pytest.fixture
def allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "allowed"
    (root / "photos").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (root / "link").symlink_to(tmp_path / "secret")
    monkeypatch.setenv(places.VARIABLE, str(root))
    return root


@pytest.mark.parametrize("name", ["photos", ".", "not-there-yet", "photos/../photos"])
def test_what_lies_inside_may_be_named(allowed: Path, name: str) -> None:
    assert Path(places.check("data.path", str(allowed / name))).resolve().is_relative_to(allowed)


@pytest.mark.parametrize("name", ["..", "../secret", "link", "link/deeper", "/etc", "~root", "photos/../../secret"])
def test_what_lies_outside_may_not(allowed: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.path: .* (is outside of|is not a valid path)"):
        places.check("data.path", name if name.startswith(("/", "~")) else str(allowed / name))


def test_a_name_that_no_path_can_have_is_a_sentence(allowed: Path) -> None:
    with pytest.raises(ConfigError, match="is not a valid path"):
        places.check("data.path", "a\0b")


def test_every_path_of_a_configuration_is_looked_at(allowed: Path) -> None:
    data = {"dataset": "quantity-23k", "path": "/etc", "traces": "/etc/passwd"}
    evaluation = {"encoder": "~root/encoder"}
    model = {"id": "/etc", "adapter": "../secret"}
    config = from_dict({"method": "none", "data": data, "model": model, "evaluation": evaluation})
    assert [sentence.partition(":")[0] for sentence in places.outside_roots(config)] == [
        "data.path",
        "data.traces",
        "model.id",
        "model.adapter",
        "evaluation.encoder",
    ]


def test_every_field_that_is_text_is_known_to_hold_a_path_or_none() -> None:
    """A new field that holds a path must not be forgotten."""
    none = {"name", "method", "style", "instruction", "grpo.vllm_server", "data.dataset", "model.revision"}
    none |= {"data.revision", "rewards.name", "visual_words"}  # code from files: `reward_rows.forbidden`
    paths = {"data.path", "data.traces", "model.id", "model.adapter", "evaluation.encoder"}
    assert set(texts(RunConfig)) - none == paths


def texts(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        if str in inner:
            yield f"{prefix}{name}"
        for kind in inner:
            if issubclass(kind, BaseModel):
                yield from texts(kind, f"{prefix}{name}.")


def test_a_name_as_long_as_no_path_is_a_sentence(allowed: Path) -> None:
    for name in ("x" * 300, "a/" * 3000):
        config = RunConfig.model_construct(**dict(from_dict({}))).model_copy(
            update={"model": ModelConfig.model_construct(id=name, adapter=None)}
        )
        [sentence] = places.outside_roots(config)
        assert sentence.startswith("model.id: ") and len(sentence) < 600


def test_what_embeds_is_confined(seeded_store: Store, allowed: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.encoder: /etc is outside of"):
        intents.embed([], "/etc")


def test_names_of_the_hub_and_of_runs_are_no_paths(allowed: Path) -> None:
    config = from_dict({"model": {"id": "HuggingFaceTB/SmolVLM-256M-Instruct", "adapter": "shapes-grpo"}})
    assert places.outside_roots(config) == []


def test_home_the_present_and_the_databases_folder_may_be_named_where_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(places.VARIABLE, raising=False)
    monkeypatch.setenv("VR1Z_DATABASE_URL", f"sqlite:///{tmp_path}/runs.db")
    assert places.roots() == (Path.home().resolve(), Path.cwd().resolve(), tmp_path.resolve())


def test_an_index_and_an_evaluation_are_confined(seeded_store: Store, allowed: Path) -> None:
    with pytest.raises(ConfigError, match="is outside of"):
        intents.index("folder", "/etc", "train", 5)
    run = get_run(seeded_store, seeded.find(seeded_store, "shapes-sft").id)
    with pytest.raises(ConfigError, match="is outside of"):
        intents.evaluate(run, {"benchmark": "folder", "path": "/etc"})
