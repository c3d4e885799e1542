"""Sets of the hub: read from its cache at a commit that is recorded; without one, a sentence says what to do."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from tests.datasets.layouts import MAKERS
from trainer import datasets
from trainer.datasets.source import open_source
from trainer.spec.config import HUB_DATASETS, DataConfig
from trainer.spec.errors import TrainerError

COMMIT = "f92cc6fe46542c61e2916e3d2ae9a911e2216b1a"


@pytest.mark.parametrize("name", HUB_DATASETS)
def test_a_copy_in_the_cache_is_read_and_its_commit_recorded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / f"datasets--{HUB_DATASETS[name][0].replace('/', '--')}"
    MAKERS[name](repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    config = DataConfig(dataset=name)
    assert open_source(config).revision == COMMIT
    assert datasets.load_roles(config, {"test": 2}).facts["revision"] == COMMIT
    shutil.rmtree(repository / "refs")
    assert open_source(config.model_copy(update={"revision": COMMIT})).revision == COMMIT


def test_without_a_copy_and_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TrainerError, match=r"No copy of the dataset .* Go online, or set data.path"):
        open_source(DataConfig(dataset="countqa"))


class Response:
    """What the hub's errors want of an answer."""

    headers: Mapping[str, str] = MappingProxyType({})
    request = None
    status_code = 403


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.GatedRepoError, "must be requested.*hf auth login"),
        (errors.RevisionNotFoundError, "Revision 'v1' of .* does not exist. Correct data.revision"),
        (errors.RepositoryNotFoundError, "no longer has .*: set data.path"),
        (errors.HfHubHTTPError, r"failed \(server says no\)\. Try again"),
    ],
)
def test_each_answer_of_the_hub_has_its_sentence(
    error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub cannot be had here; its refusals are the library's own exceptions."""

    def refuse(*_: Any, **__: Any) -> str:
        raise error("server says no", response=Response())

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(TrainerError, match=words):
        open_source(DataConfig(dataset="countqa", revision="v1"))
