"""Data frames for notebooks: the page about them is run as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import store as package
from store import __main__ as command_line
from store.db.connection import StoreError
from store.db.engine import Store, open_store
from store.experiments import add_to_experiment, create_experiment
from store.frames import Frames
from store.runs import add_tag
from store.steps import record_metrics, record_step
from tests.store import make

GUIDE = Path(__file__).resolve().parents[2] / "docs/notebook.md"


def two_runs(store: Store) -> list[str]:
    """Two runs of an experiment, of ranks 8 and 16."""
    made = create_experiment(store, name="evidence", matrix={})
    uids = []
    for rank in (8, 16):
        run = make.run(store, name=f"r{rank}", config={"lora": {"rank": rank}, "seed": 0})
        add_to_experiment(store, made.id, run.id, f"arm {rank}")
        record_step(store, run.id, 1, {"reward": rank / 10, "kl": None}, at=1.0, completions=[make.completion(0)])
        record_metrics(store, run.id, 2, {"reward": 1.0, "val/accuracy": 0.5})
        uids.append(run.uid)
    return uids


def test_metrics_of_an_experiment_are_rows_with_their_groups(store: Store) -> None:
    uids = two_runs(store)
    frame = Frames(store).metrics("experiment:evidence", ["reward"], group_by=["lora.rank", "arm", "method"])
    assert list(frame.columns) == ["run", "name", "lora.rank", "arm", "method", "metric", "step", "value"]
    assert frame["run"].tolist() == [uids[0], uids[0], uids[1], uids[1]]
    assert frame["lora.rank"].tolist() == [8, 8, 16, 16] and frame["arm"].tolist()[::2] == ["arm 8", "arm 16"]
    assert frame["value"].tolist() == [0.8, 1.0, 1.6, 1.0]


def test_runs_are_named_in_every_way(store: Store) -> None:
    uids = two_runs(store)
    make.run(store, name="alone")
    add_tag(store, 2, "kept")
    frames = Frames(store)
    assert set(frames.metrics(["r8", uids[1]])["name"]) == {"r8", "r16"}
    assert set(frames.metrics("tag:kept")["name"]) == {"r16"}
    assert set(frames.metrics()["metric"]) == {"reward", "val/accuracy"}, "values that are not known are no rows"
    assert frames.metrics("alone").empty
    for wrong in ("tag:none", "experiment:none", "nobody"):
        with pytest.raises(StoreError):
            frames.metrics(wrong)
    with pytest.raises(StoreError, match="None of these runs has a setting"):
        frames.metrics(group_by=["lora.rnak"])


def test_the_guide_works_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    store = open_store(str(tmp_path / "data/vision-r1-zero.db"))
    two_runs(store)
    store.close()
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2 and len(blocks[0].splitlines()) == 3
    code = f"{blocks[0]}print(({blocks[1].strip()}).to_csv())"
    environment = os.environ | {"PYTHONPATH": str(GUIDE.parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "reward,16,1,1.6,,1" in done.stdout
    with package.open(str(tmp_path / "data/vision-r1-zero.db")) as frames:
        assert frames.runs()["config.lora.rank"].tolist() == [16, 8]
        assert len(frames.completions("r8")) == 1 and frames.predictions("r8").empty


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_command_writes_the_same_frame(
    suffix: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_runs(store)
    file = tmp_path / f"curves.{suffix}"
    line = ["metrics", "r8,r16", "reward", "--group-by", "lora.rank", "--to", str(file), "--db", store.url]
    assert command_line.main(line) == 0
    assert "4 values of 2 runs" in capsys.readouterr().out
    written = pd.read_csv(file) if suffix == "csv" else pd.read_parquet(file)
    assert written["value"].tolist() == Frames(store).metrics(["r8", "r16"], ["reward"])["value"].tolist()
    assert command_line.main(["metrics", "r8", "--to", str(tmp_path / "x.txt"), "--db", store.url]) == 2
    assert command_line.main(["metrics", "r8", "loss", "--to", str(file), "--db", store.url]) == 2
