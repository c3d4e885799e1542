"""Rewards of one's own before a model is loaded: called on a real example in a process of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from store.db.engine import Store
from store.evaluations.predictions import iter_predictions_of
from store.evaluations.records import list_evaluations
from store.metrics import list_metric_names, read_series
from tests.training.conftest import SMALL, Train
from trainer import preflight
from trainer.datasets import shapes
from trainer.datasets.example import Example
from trainer.evaluate import reward_trial
from trainer.spec import config
from trainer.spec.config import ConfigError, RunConfig
from trainer.spec.errors import Stopped, TrainerError

pytestmark = pytest.mark.training

SEEN = """
import json
from pathlib import Path

def pay(completions, completion_ids, images, prompts, answer, question, trainer_state, log_extra, log_metric, **others):
    log_metric("seen", 1.0)
    log_extra("note", ["x"] * len(completions))
    Path(__file__).with_suffix(".json").write_text(json.dumps({
        "roles": [[message["role"] for message in prompt] for prompt in prompts],
        "kinds": [part["type"] for part in prompts[0][0]["content"]],
        "texts": [completion[0]["content"] for completion in completions],
        "lengths": [len(ids) for ids in completion_ids],
        "sizes": [[list(image.size) for image in each] for each in images],
        "answer": answer, "question": question, "steps": [trainer_state.global_step, trainer_state.max_steps],
    }))
    return [1.0, 0.0]
"""


@pytest.fixture(scope="module")
def example() -> Example:
    return shapes.examples("simple", "train", 1, 0)[0]


def paying(folder: Path, source: str, **settings: Any) -> RunConfig:
    (folder / "mine.py").write_text(source, encoding="utf-8")
    return config.from_dict({"rewards": [{"name": "format"}, {"name": f"{folder}/mine.py:pay"}], **settings})


def test_a_reward_is_tried_on_a_right_and_an_empty_completion(tmp_path: Path, example: Example) -> None:
    assert reward_trial.try_rewards(paying(tmp_path, SEEN), example) == 1
    seen = json.loads((tmp_path / "mine.json").read_text(encoding="utf-8"))
    assert seen["roles"] == [["user"], ["user"]] and seen["kinds"] == ["image", "text"]
    assert seen["texts"][0].endswith(f"</think><answer>{example.answer}</answer>") and seen["texts"][1] == ""
    assert seen["lengths"][0] > seen["lengths"][1] == 1
    assert seen["sizes"] == [[list(example.images[0].size)]] * 2
    assert (seen["answer"], seen["question"]) == ([example.answer] * 2, [example.question] * 2)
    assert seen["steps"] == [0, RunConfig().optimization.steps]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import os\nos._exit(3)", r"mine\.py:pay ended its process with exit code 3\. Fix it, or set try_rewards"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", r"ended its process by signal SIGSEGV"),
    ],
)
def test_what_a_file_does_to_its_process_is_told(tmp_path: Path, example: Example, source: str, sentence: str) -> None:
    with pytest.raises(TrainerError, match=sentence) as raised:
        reward_trial.try_rewards(paying(tmp_path, source), example)
    assert raised.value.kind == "reward"


def test_nan_and_a_file_that_cannot_be_imported_are_faults(tmp_path: Path, example: Example) -> None:
    with pytest.raises(TrainerError, match="returned NaN for a completion"):
        reward_trial._try(paying(tmp_path, "def pay(completions):\n    return [float('nan')] * 2\n"), example)
    with pytest.raises(ConfigError, match="cannot be imported"):
        reward_trial._try(paying(tmp_path, "import nowhere\n"), example)


def test_a_function_that_never_returns_is_given_up(
    tmp_path: Path, example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward_trial, "PATIENCE_SECONDS", 0)
    endless = paying(tmp_path, "while True: ...\n")
    with pytest.raises(TrainerError, match=r"did not return within 0 minutes\. Fix it, or set try_rewards to false"):
        reward_trial.try_rewards(endless, example)


def test_a_stop_ends_the_trial(tmp_path: Path, example: Example) -> None:
    def pause() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        reward_trial.try_rewards(paying(tmp_path, "while True: ...\n"), example, pause)


def test_a_judge_that_costs_money_is_not_called(tmp_path: Path, example: Example) -> None:
    costly = paying(tmp_path, "raise SystemExit('paid')\n", try_rewards=False)
    assert reward_trial.try_rewards(costly, example) == 0
    assert reward_trial.try_rewards(RunConfig(), example) == 0


def test_preflight_tells_the_fault(tmp_path: Path) -> None:
    def told(source: str, **settings: Any) -> tuple[str, str]:
        chosen = config.override(paying(tmp_path, source, **settings), SMALL)
        report = preflight.preflight(chosen, tmp_path)
        return next((check["level"], check["sentence"]) for check in report["checks"] if check["name"] == "rewards")

    level, sentence = told("def pay(completions, **columns):\n    return 1.0\n")
    assert level == "fail" and "returned 1.0 (float) instead of a list" in sentence
    level, sentence = told("def pay(completions, **columns):\n    return 1.0\n", try_rewards=False)
    assert level == "warn" and "try_rewards is off" in sentence


def test_a_run_with_a_faulty_reward_never_loads_a_model(
    store: Store, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any) -> None:
        raise AssertionError("The model was loaded.")

    monkeypatch.setattr("trainer.models.loading.load_base", never)
    paying(tmp_path, "def pay(completions, **columns):\n    return [1.0]\n")
    run = train("shapes-grpo", {f"rewards.{tmp_path}/mine.py:pay": "1"})
    assert run.job is not None and (run.status, run.job.error_kind) == ("failed", "reward")
    assert (
        run.job.error
        == f"rewards: pay in {tmp_path}/mine.py returned 1 numbers for 2 completions. Return one per completion."
    )


def test_a_run_with_a_reward_of_ones_own(store: Store, train: Train, tmp_path: Path) -> None:
    """In training, probe, validation and test it is called alike; what it logs is drawn, what it imports is kept."""
    (tmp_path / "helper.py").write_text("CAP = 0.5\n", encoding="utf-8")
    source = """
from helper import CAP

async def pay(prompts, completions, completion_ids, images, trainer_state, log_metric):
    assert all(part["image"] is image for p, [image] in zip(prompts, images) for part in p[0]["content"][:1])
    assert all(message["role"] == "assistant" for [message] in completions)
    log_metric("longest", max(len(ids) for ids in completion_ids))
    log_metric("progress", trainer_state.global_step / trainer_state.max_steps)
    return [CAP if message["content"] else None for [message] in completions]
"""
    paying(tmp_path, source)
    settings = {f"rewards.{tmp_path}/mine.py:pay": "1", "optimization.steps": "2", "optimization.accumulation": "2"}
    run = train("shapes-grpo", settings)
    assert run.status == "finished", run.job
    kept = run.sources["pay"]
    assert kept["source"] == source and kept["helpers"] == {"helper.py": "CAP = 0.5\n"}
    for evaluation in list_evaluations(store, run.id):
        assert all(row.rewards["pay"] in (0.5, None) for row in iter_predictions_of(store, evaluation.id))
    names = list_metric_names(store, run.id)
    assert {"longest", "progress", "probe/longest", "val/longest", "test/progress"} <= set(names)
    progress = read_series(store, run.id, ["probe/progress"])["probe/progress"]
    assert (progress.step.tolist(), progress.value.tolist()) == ([0, 2], [0.0, 1.0])


def test_too_few_examples_for_an_update_are_refused(store: Store, train: Train) -> None:
    run = train("shapes-grpo", {"data.train_examples": "5", "optimization.batch_size": "64"})
    assert run.job is not None and (run.status, run.job.error_kind, run.step) == ("failed", "data", 0)
    assert run.job.error == (
        "5 training examples are fewer than the 8 prompts of one update (optimization.batch_size 64 / grpo.group_size "
        "8). Use more (data.train_examples), or set optimization.batch_size to at most 40."
    )
    assert not list_evaluations(store, run.id)


def test_a_training_that_ends_early_by_itself_is_not_finished(
    store: Store, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.train.callbacks import Watch

    def stop(self: Watch, args: Any, state: Any, control: Any, **others: Any) -> None:
        control.should_training_stop = True

    monkeypatch.setattr(Watch, "on_step_end", stop, raising=False)
    run = train("shapes-sft")
    assert run.job is not None and run.status == "failed"
    assert run.job.error == "Training ended unexpectedly at update 1 of 3. See the log."
    assert all(evaluation.kind != "test" for evaluation in list_evaluations(store, run.id))
