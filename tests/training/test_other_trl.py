"""`vr1z.py` in environments with other versions of TRL: everything is recorded, and the training is the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.recording import recorder
from scripts import browsing, trl_environments
from store.completions.rows import iter_completions, list_groups
from store.db.engine import Store, open_store
from store.evaluations.predictions import iter_predictions_of
from store.evaluations.records import list_evaluations
from store.metrics import list_metric_names, read_series
from store.recording import token
from store.runs import get_run, resolve_run
from trainer.models.loading import TINY_FOLDER

pytestmark = pytest.mark.training
SCRIPT = Path(__file__).parent / "other_trl" / "script.py"


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[browsing.Server, Store]]:
    folder = tmp_path_factory.mktemp("dashboard")
    store = open_store(str(folder / "runs.db"))
    with browsing.serving(store.url, folder / "server.log", jobs_end=True) as server:
        yield server, store
    store.close()


def older(folder: Path) -> Path:
    """The embedded model's files as transformers 4 names and lays them out."""
    shutil.copytree(TINY_FOLDER, folder)
    processor = json.loads((folder / "processor_config.json").read_text())
    pictures = processor.pop("image_processor") | {"processor_class": processor["processor_class"]}
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    (folder / "processor_config.json").write_text(json.dumps(processor))
    words = json.loads((folder / "tokenizer_config.json").read_text())
    words["additional_special_tokens"] = words.pop("extra_special_tokens")
    words |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    return folder


def run(version: str, folder: Path, model: Path, recorded: str) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VR1Z", "PYTHON"))}
    done = subprocess.run(
        [str(trl_environments.python_of(version)), "script.py", str(model), f"out-{recorded}", recorded],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.mark.parametrize("version", list(trl_environments.VERSIONS))
def test_another_trl_is_recorded_and_not_changed(
    version: str, dashboard: tuple[browsing.Server, Store], tmp_path: Path
) -> None:
    if not trl_environments.python_of(version).exists():
        pytest.skip(f"There is no environment with TRL {version}: make it with `python -m scripts.trl_environments`.")
    server, store = dashboard
    token.token_of(store)
    shutil.copy(SCRIPT, tmp_path)
    (tmp_path / "trainer.py").write_text("mine = True\n")
    (tmp_path / "vr1z.py").write_text(recorder(server.url, str(token.path_of(store))), encoding="utf-8")
    model = older(tmp_path / "model") if version < "1" else TINY_FOLDER
    plain = run(version, tmp_path, model, "no")
    recorded = run(version, tmp_path, model, "yes")
    assert recorded == plain and recorded["version"] == version, "bit for bit"

    detail = get_run(store, resolve_run(store, f"theirs {version}"))
    assert (detail.status, detail.step, detail.method, detail.max_steps) == ("finished", 3, "grpo", 3)
    assert detail.reward_weights == {"short": 1.0, "right": 1.0} and detail.environment["trl"] == version
    assert [row.step for row in iter_completions(store, detail.id)] == [1] * 4 + [2] * 4 + [3] * 4
    for step in (1, 2, 3):
        (group,) = list_groups(store, detail.id, step)
        assert group.example is not None and len(group.example.images) == 1
        assert group.example.gold == str(group.example.answer) and group.example.question.startswith("How many in")
        assert group.example.columns == {"box": [group.example.answer, 2, 3, 4]}
        for row in group.completions:
            assert row.rewards["short"] is not None and row.tokens and row.advantage is not None
    curves = read_series(store, detail.id, list_metric_names(store, detail.id))
    theirs = [entry["reward"] for entry in plain["log"] if "reward" in entry]
    assert curves["reward"].value.tolist() == pytest.approx(theirs)
    evaluated = [entry["step"] for entry in plain["log"] if "eval_reward" in entry]
    assert 2 in evaluated and curves["eval_reward"].step.tolist() == evaluated
    evaluations = list_evaluations(store, detail.id)
    assert [evaluation.step for evaluation in evaluations] == evaluated
    assert all(len(list(iter_predictions_of(store, evaluation.id))) == 4 for evaluation in evaluations)
