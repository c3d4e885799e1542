"""Runs of verl, and files of other tools that are taken in while they are written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from store.completions.rows import iter_completions, list_groups
from store.db.connection import StoreError
from store.db.engine import Store
from store.evaluations.predictions import iter_predictions_of
from store.evaluations.records import list_evaluations
from store.importing import following
from store.importing.saving import Report, import_runs
from store.metrics import read_series
from store.runs import get_run, list_runs
from tests.store.test_importing import write_state

ROOT = Path(__file__).resolve().parents[2]


def sample(prompt: str, score: float, step: int, **more: Any) -> dict[str, Any]:
    return {"input": prompt, "output": f"so {score}", "gts": "4", "score": score, "step": step, **more}


def dump(folder: Path, step: int, samples: list[dict[str, Any]]) -> None:
    """As `_dump_generations` of verl writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(each, ensure_ascii=False) for each in samples]
    (folder / f"{step}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def rollout(step: int) -> list[dict[str, Any]]:
    return [sample(prompt, value, step, acc=value > 0, pred="x") for prompt in ("a?", "b?") for value in (1.0, 0.0)]


def test_rollouts_and_validations_of_verl_are_one_run(store: Store, tmp_path: Path) -> None:
    for step in (1, 2, 10):
        dump(tmp_path / "mine" / "rollouts", step, rollout(step))
    dump(tmp_path / "mine" / "validation", 2, [sample("c?", 1.0, 2)])
    report = import_runs(store, "verl", str(tmp_path / "mine"))
    (made,) = report.runs
    run = get_run(store, list_runs(store)[0].id)
    assert (made.name, run.method, run.step, made.completions) == ("mine", "rl", 10, 12)
    groups = list_groups(store, run.id, 10)
    assert [len(group.completions) for group in groups] == [2, 2]
    first = groups[0].completions[0]
    assert (first.text, first.reward, first.rewards, first.advantage) == ("so 1.0", 1.0, {"acc": 1.0}, None)
    example = groups[0].example
    assert example is not None and (example.question, example.gold, example.answer) == ("a?", "4", 4)
    assert read_series(store, run.id, ["reward"])["reward"].value.tolist() == [0.5] * 3
    (evaluation,) = list_evaluations(store, run.id)
    assert evaluation.step == 2 and [row.text for row in iter_predictions_of(store, evaluation.id)] == ["so 1.0"]
    assert any("pred" in note for note in made.notes), "what is left out is named"
    dump(tmp_path / "mine" / "rollouts", 11, rollout(11))
    (again,) = import_runs(store, "verl", str(tmp_path / "mine")).runs
    assert (again.is_new, again.changed, again.uid) == (False, 1, made.uid)


PPO = "algorithm:\n  adv_estimator: gae\nactor_rollout_ref:\n  model:\n    path: org/base\n"
DAPO = "algorithm:\n  adv_estimator: grpo\nreward_model:\n  reward_manager: dapo\n"


@pytest.mark.parametrize(
    ("place", "config", "method"),
    [
        (".hydra/config.yaml", PPO, "ppo"),
        ("rollouts/config.yaml", DAPO, "dapo"),
        ("config.yaml", "algorithm: {adv_estimator: grpo}", "grpo"),
        ("config.json", '{"algorithm": {"adv_estimator": "reinforce_plus_plus"}}', "reinforce_pp"),
        ("config.json", '{"algorithms": 1}', "rl"),
        ("config.yaml", "a: [", "rl"),
    ],
)
def test_the_algorithm_of_a_dump_is_what_its_configuration_says(
    place: str, config: str, method: str, store: Store, tmp_path: Path
) -> None:
    dump(tmp_path / "mine" / "rollouts", 1, rollout(1))
    (tmp_path / "mine" / place).parent.mkdir(exist_ok=True)
    (tmp_path / "mine" / place).write_text(config)
    import_runs(store, "verl", str(tmp_path / "mine"))
    run = get_run(store, list_runs(store)[0].id)
    assert run.method == method and run.model == ("org/base" if config == PPO else "unknown")


@pytest.mark.parametrize("text", ["", "\n", "{}\n", "[1]\n", "nothing", '{"output": 5}\n', "\0\n"])
def test_what_is_no_dump_is_named(text: str, store: Store, tmp_path: Path) -> None:
    dump(tmp_path / "d", 1, rollout(1))
    (tmp_path / "d" / "2.jsonl").write_text(text)
    (made,) = import_runs(store, "verl", str(tmp_path)).runs
    assert made.steps == 1 and any("2.jsonl has no verl samples" in note for note in made.notes)


@pytest.mark.parametrize("text", ["", "{}\n", '{"output": ["a", "b"]}\n'])
def test_what_is_no_dump_becomes_no_run(text: str, store: Store, tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_text(text)
    with pytest.raises(StoreError, match=r"^No file in .* can be read\. .*1\.jsonl has no verl samples\.$"):
        import_runs(store, "verl", str(tmp_path))
    assert list_runs(store) == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_a_dump_may_be_in_any_encoding_and_have_blank_lines(encoding: str, store: Store, tmp_path: Path) -> None:
    lines = [json.dumps(sample("naïve?", score, 1), ensure_ascii=False) for score in (1.0, 0.0)]
    (tmp_path / "1.jsonl").write_text("\n\n".join(lines) + "\n", encoding=encoding)
    (made,) = import_runs(store, "verl", str(tmp_path)).runs
    assert made.completions == 2 and not any("Left out" in note for note in made.notes)


def test_a_line_that_is_being_written_comes_later(store: Store, tmp_path: Path) -> None:
    dump(tmp_path, 1, rollout(1))
    whole = (tmp_path / "1.jsonl").read_text()
    (tmp_path / "1.jsonl").write_text(whole[:-30])
    assert import_runs(store, "verl", str(tmp_path)).runs[0].completions == 3


def test_what_was_taken_in_stays_when_its_files_are_rotated_or_cut(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "EVERY_SECONDS", 0.0)
    for step in (1, 2, 3):
        dump(tmp_path / "d", step, rollout(step))
    reports = following.follow(store, "verl", str(tmp_path / "d"))
    next(reports)
    (tmp_path / "d" / "1.jsonl").unlink()
    (tmp_path / "d" / "2.jsonl").write_text("")
    dump(tmp_path / "d", 4, rollout(4))
    report = next(reports)
    assert isinstance(report, Report) and [(run.is_new, run.changed) for run in report.runs] == [(False, 1)]
    assert [row.step for row in iter_completions(store, 1)] == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4


def test_what_is_imported_again_is_one_run_though_its_first_files_are_gone(store: Store, tmp_path: Path) -> None:
    for step in (1, 2):
        dump(tmp_path / "d", step, rollout(step))
    (made,) = import_runs(store, "verl", str(tmp_path / "d")).runs
    (tmp_path / "d" / "1.jsonl").unlink()
    dump(tmp_path / "d", 3, rollout(3))
    (again,) = import_runs(store, "verl", str(tmp_path / "d")).runs
    assert (again.uid, again.is_new, again.changed) == (made.uid, False, 1)
    assert [row.step for row in iter_completions(store, 1)] == [1] * 4 + [2] * 4 + [3] * 4
    (tmp_path / "d" / "2.jsonl").unlink()
    (above,) = import_runs(store, "verl", str(tmp_path)).runs
    assert (above.uid, above.is_new) == (made.uid, False), "named by the folder above"
    dump(tmp_path / "d", 3, [sample("another?", 1.0, 3)])
    assert import_runs(store, "verl", str(tmp_path / "d")).runs[0].is_new, "another training in the same folder"


def test_answers_in_boxes_are_judged_by_the_gold_answer(store: Store, tmp_path: Path) -> None:
    prompt = "How many? Answer in \\boxed{}."
    said = [
        sample(prompt, 1.0, 1) | {"output": "It is \\boxed{4.0}"},
        sample(prompt, 0.0, 1) | {"output": "\\boxed{5}"},
    ]
    dump(tmp_path / "d", 1, said)
    import_runs(store, "verl", str(tmp_path / "d"))
    run = get_run(store, list_runs(store)[0].id)
    assert run.grammar == "boxed"
    assert [(row.answer, row.correct) for row in iter_completions(store, run.id)] == [(4, True), (5, False)]


def test_a_training_that_begins_anew_in_the_folder_is_another_run(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "EVERY_SECONDS", 0.0)
    dump(tmp_path / "d", 1, rollout(1))
    reports = following.follow(store, "verl", str(tmp_path / "d"))
    next(reports)
    dump(tmp_path / "d", 1, [sample("another?", 1.0, 1)])
    next(reports)
    assert len(list_runs(store)) == 2


def test_what_is_written_meanwhile_is_followed(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "EVERY_SECONDS", 0.0)
    reports = following.follow(store, "trl", str(tmp_path / "out"))
    assert isinstance(next(reports), StoreError), "there is nothing yet"
    for step in (1, 2, 3):
        write_state(tmp_path / "out", [{"step": each, "loss": 1.0 / each} for each in range(1, step + 1)])
        report = next(reports)
        assert isinstance(report, Report) and [run.steps for run in report.runs] == [step]
    assert len(list_runs(store)) == 1


def test_the_command_follows_until_it_is_interrupted(tmp_path: Path) -> None:
    from store.db.engine import open_store

    store = open_store(str(tmp_path / "runs.db"))
    dump(tmp_path / "d", 1, rollout(1))
    command = [sys.executable, "-u", "-m", "store", "follow", "verl", str(tmp_path / "d"), "--db", store.url]

    def listen() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background processes are deaf to it

    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=listen) as process:
        assert process.stdout is not None
        try:
            while "imported" not in process.stdout.readline():
                assert process.poll() is None
            dump(tmp_path / "d", 2, rollout(2))
            while "updated" not in process.stdout.readline():
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert {row.step for row in iter_completions(store, 1)} == {1, 2}
    store.close()


def test_examples_of_one_prompt_are_told_apart_by_their_gold_answers(store: Store, tmp_path: Path) -> None:
    said = [sample("How many?", float(gold == "4"), 1) | {"gts": gold} for gold in ("4", "4", "5", "5")]
    dump(tmp_path / "d", 1, said)
    import_runs(store, "verl", str(tmp_path / "d"))
    groups = list_groups(store, 1, 1)
    assert [(group.group, group.example and group.example.answer) for group in groups] == [(0, 4), (1, 5)]
