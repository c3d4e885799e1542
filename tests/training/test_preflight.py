"""Preflight and a run's events say whether a group's prompt is computed once, and what it costs where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.db.engine import Store
from store.events import list_events
from tests.datasets.layouts import MAKERS
from tests.training.conftest import Train
from trainer.preflight import preflight
from trainer.spec import config
from trainer.spec.config import RunConfig

pytestmark = pytest.mark.training


def chosen(**settings: str) -> RunConfig:
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return config.override(config.preset(f"demo-{settings.pop('method', 'grpo')}"), named)


def sharing(tmp_path: Path, made: RunConfig) -> dict[str, str]:
    report = preflight(made, tmp_path)
    assert [check for check in report["checks"] if check["level"] == "fail"] == []
    return next((check for check in report["checks"] if check["name"] == "sharing"), {})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "A group's prompt and images are computed once for its 8 completions."),
        (
            {"optimization__gradient_checkpointing": "true"},
            "A group's prompt is computed once for its 8 completions in generation; in the update "
            "optimization.gradient_checkpointing recomputes them.",
        ),
        (
            {"optimization__accumulation": "64"},
            "A group's prompt is computed once for its 8 completions in generation; in the update a forward pass has a "
            "single completion.",
        ),
    ],
)
def test_a_model_that_shares(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    found = sharing(tmp_path, chosen(**settings))
    assert (found["level"], found["sentence"]) == ("ok", said)


@pytest.mark.parametrize("model", ["llava", "llavanext", "qwen35"])
def test_a_model_that_steps_aside(folders: dict[str, Path], tmp_path: Path, model: str) -> None:
    found = sharing(tmp_path, chosen(model__id=str(folders[model])))
    assert found["level"] == "warn"
    assert "are computed 8 times, once per completion, because " in found["sentence"]
    assert found["sentence"].endswith(" times as many tokens.")


@pytest.mark.parametrize("has_database", [True, False])
def test_an_adapter_that_is_not_there_fails(store: Store, tmp_path: Path, has_database: bool) -> None:
    report = preflight(chosen(model__adapter="nobody"), tmp_path, store=store if has_database else None)
    (found,) = [check for check in report["checks"] if check["name"] == "adapter"]
    told = "There is no run 'nobody'" if has_database else "nobody is neither a folder nor a run"
    assert found["level"] == "fail" and told in found["sentence"]


def test_sft_shares_nothing_and_says_nothing(tmp_path: Path) -> None:
    assert sharing(tmp_path, config.preset("shapes-sft")) == {}


@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_imitation_without_references_is_refused_as_by_the_run(tmp_path: Path, method: str) -> None:
    folder = MAKERS["tdiuc"](tmp_path)
    settings = {"data.dataset": "tdiuc", "data.path": str(folder), "optimization.batch_size": "8"}
    checks = preflight(config.override(config.preset(f"shapes-{method}"), settings), tmp_path)["checks"]
    failed = [check["sentence"] for check in checks if check["level"] == "fail" and "Choose style" in check["sentence"]]
    assert len(failed) == (method == "sft")


def test_a_model_that_cannot_be_loaded_is_named_once(tmp_path: Path) -> None:
    checks = preflight(chosen(model__id=str(tmp_path / "nothing")), tmp_path)["checks"]
    failed = {check["name"]: check["sentence"] for check in checks if check["level"] == "fail"}
    assert [*failed] == ["model", "data and prompt", "sharing", "memory"]
    assert failed["data and prompt"] == "No prompt was prepared, because the model cannot be loaded."
    assert sum("nothing'" in sentence for sentence in failed.values()) == 1


def test_every_model_gets_through_preflight(folders: dict[str, Path], tmp_path: Path) -> None:
    for folder in folders.values():
        sharing(tmp_path, chosen(model__id=str(folder)))


@pytest.mark.parametrize(
    ("model", "dataset", "said"),
    [
        ("tiny", "shapes-hard", None),
        ("tiny-board", "board-simple", None),
        (
            "tiny-board",
            "shapes-simple",
            "tiny-board was pre-trained on another world; choose board-simple, board-complex, board-h",
        ),
        (
            "tiny",
            "board-complex",
            "tiny was pre-trained on another world; choose shapes-simple, shapes-complex, shapes-hard.",
        ),
    ],
)
def test_an_embedded_model_is_warned_of_another_world(
    tmp_path: Path, model: str, dataset: str, said: str | None
) -> None:
    report = preflight(chosen(model__id=model, data__dataset=dataset), tmp_path)
    assert [check for check in report["checks"] if check["level"] == "fail"] == []
    (found,) = [check for check in report["checks"] if check["name"] == "data"]
    assert found["level"] == ("warn" if said else "ok")
    assert (said or "can be read") in found["sentence"]


@pytest.mark.parametrize("model", ["tiny", "llava"])
def test_a_run_says_it_among_its_events(
    store: Store, train: Train, folders: dict[str, Path], tmp_path: Path, model: str
) -> None:
    settings = {"model.id": str(folders.get(model, model)), "optimization.steps": "1", "max_tokens": "12"}
    run = train("shapes-grpo", settings)
    assert run.status == "finished", run.job
    [event] = [event for event in list_events(store, run.id) if event.kind == "sharing"]
    assert ("computed once" in event.message) == (model == "tiny")
