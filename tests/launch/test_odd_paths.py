"""What is written where a path belongs is a path, or is refused in a sentence, however long or odd it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.db.connection import StoreError
from store.db.engine import Store
from trainer import launch
from trainer.spec import config, paths
from trainer.spec.config import ConfigError

ODD = ("x" * 300, "/" + "y" * 5000, "a\0b", "~nobody-of-this-name/x", "x" * 300 + ".py:f", "z" * 256 + ":7", "\ud800")
FIELDS = ("data.path", "data.traces", "data.dataset", "model.adapter", "rewards.{}.py:f")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_an_odd_path_is_refused_in_a_sentence(store: Store, field: str, text: str) -> None:
    change = {field.format(text): "1"} if "{}" in field else {field: text}
    with pytest.raises((ConfigError, StoreError)) as caught:
        launch.create(store, config.override(config.preset("shapes-grpo"), change))
    assert len(str(caught.value)) < 6000


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_an_odd_text_names_neither_file_nor_folder(text: str) -> None:
    assert not paths.is_file(text) and not paths.is_dir(text)
    assert not paths.is_dir(Path(text))
