"""Files of other tools as disks and editors leave them: pointers, encodings, figures in dicts."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.db.connection import StoreError
from store.db.engine import Store
from store.importing.saving import import_runs
from tests.store.test_importing import curve, only, write_state


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        ("trl", "trainer_state.json"),
        ("trl", "completions/completions_00001.parquet"),
        ("verl", "1.jsonl"),
        ("wandb", "run-a.wandb"),
        ("tensorboard", "events.out.tfevents.1700000000.host"),
        ("trackio", "a.db"),
    ],
)
def test_a_pointer_says_how_to_fetch_its_file(store: Store, tmp_path: Path, tool: str, name: str) -> None:
    file = tmp_path / "logs" / name
    file.parent.mkdir(parents=True)
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(StoreError) as caught:
        import_runs(store, tool, str(tmp_path / "logs"))
    assert (
        str(caught.value) == f"No file in {tmp_path}/logs can be read. {file} is a Git LFS pointer. Run `git lfs pull`."
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_a_state_of_trl_may_be_in_any_encoding(store: Store, tmp_path: Path, encoding: str) -> None:
    write_state(tmp_path / "out", [{"step": 1, "loss": 0.5}])
    (state,) = tmp_path.rglob("trainer_state.json")
    state.write_text(state.read_text(encoding="utf-8"), encoding=encoding)
    assert curve(store, only(store, "trl", tmp_path), "loss") == {1: 0.5}


def test_figures_in_dicts_come_by_both_names(store: Store, tmp_path: Path) -> None:
    objects = {"picture": {"_type": "image-file", "size": 9}, "none": {}}
    write_state(tmp_path / "out", [{"step": 1, "own": {"hits": 3, "deep": {"misses": 1}}, **objects}])
    run = only(store, "trl", tmp_path)
    assert curve(store, run, "own/hits") == {1: 3.0} and curve(store, run, "own/deep/misses") == {1: 1.0}
    assert "they are not numbers: picture (image-file), none." in "\n".join(run.config["imported"]["notes"])
