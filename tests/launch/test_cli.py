"""`python -m trainer`: commands, sentences and exit codes."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from store.db import ownership
from store.db.engine import Store
from store.db.rows import JobRow
from store.db.states import JobState
from store.experiments import list_experiments
from store.jobs import claim_job, end_job, list_jobs
from store.runs import get_run, list_runs
from store.steps import record_step
from tests.launch.processes import ended, eventually, process, queued, submitted
from tests.store import make
from trainer import launch
from trainer.__main__ import main
from trainer.launch import devices, identity, local
from trainer.spec.config import load, preset

Main = Callable[..., int]


@pytest.fixture
def trainer(store: Store, monkeypatch: pytest.MonkeyPatch) -> Main:
    """The command line in this process, with work that takes no time."""
    monkeypatch.setenv(local.JOB_VARIABLE, "")
    monkeypatch.setenv("VR1Z_DATABASE_URL", store.url)
    monkeypatch.setitem(sys.modules, "trainer.train.training", SimpleNamespace(run_job=lambda store, job_id: None))
    return lambda *arguments: main(list(arguments))


def only_job(store: Store) -> JobRow:
    (job,) = list_jobs(store)
    return job


def test_run_in_the_foreground(store: Store, trainer: Main, capfd: pytest.CaptureFixture[str]) -> None:
    assert trainer("run", "--preset", "shapes-sft", "--set", "lora.rank=8", "--set", "name=mine") == 0
    job = only_job(store)
    run = get_run(store, job.run_id)
    assert (run.name, run.method, run.lora_rank, run.max_steps, run.status) == (
        "mine",
        "sft",
        8,
        preset("shapes-sft").optimization.steps,
        "finished",
    )
    assert run.reward_weights == {reward.label: reward.weight for reward in preset("shapes-sft").rewards}
    assert run.output_dir == str(ownership.folder_of(store, run.uid)) and Path(run.output_dir).is_dir()
    assert (run.quantization, job.kind, job.arguments, job.log_path) == (None, "train", {}, None)
    said = capfd.readouterr().out.splitlines()
    assert said[0] == f"run {run.uid} (mine): sft on tiny, shapes-simple; output in {run.output_dir}"
    assert said[-1] == "finished"


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--preset", "shapes-grpo"),
        ("run", "--preset", "shapes-grpo", "--set", "optimization.processes=2"),
        ("eval", "--model", "tiny"),
        ("preflight", "--preset", "shapes-grpo", "--calibrate"),
    ],
)
def test_work_in_the_foreground_sees_no_more_gpus_than_it_uses(
    store: Store, trainer: Main, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    for name in (devices.CUDA, devices.VARIABLE, "CUDA_DEVICE_ORDER"):
        monkeypatch.setenv(name, "0,1,2,3")
    wanted = "1,2" if "optimization.processes=2" in arguments else "1"
    busy = queued(store, "finish")
    claim_job(store, identity.host(), ("0",))
    seen: list[tuple[str, str | None]] = []

    def note(*_: Any, **__: Any) -> Any:
        seen.append((os.environ[devices.CUDA], list_jobs(store)[0].device))
        return {"checks": []}

    monkeypatch.setitem(sys.modules, "trainer.train.training", SimpleNamespace(run_job=note))
    monkeypatch.setitem(sys.modules, "trainer.preflight", SimpleNamespace(preflight=note))
    assert trainer(*arguments) == 0
    held = {job.uid: job.device for job in list_jobs(store)}
    assert seen[0][0] == wanted
    assert held.pop(busy) == "0"
    assert list(held.values()) == ([] if arguments[0] == "preflight" else [wanted]), "the queue must know"


def test_run_a_file(store: Store, trainer: Main, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("style: direct\nmodel: {quantization: nf4}\n")
    assert trainer("run", "--config", str(path), "--set", "seed=3") == 0
    run = get_run(store, only_job(store).run_id)
    assert (run.style, run.quantization, run.seed) == ("direct", "nf4", 3)
    assert run.reward_weights == {"format": 1.0, "accuracy": 2.0}


def test_run_in_the_queue(store: Store, trainer: Main, capfd: pytest.CaptureFixture[str]) -> None:
    assert trainer("run", "--preset", "shapes-grpo", "--set", "name=finish", "--queue") == 0
    job = only_job(store)
    assert capfd.readouterr().out == f"queued run {job.run_uid}\n"
    assert ended(store, job.uid).state == "finished"


def test_resume(store: Store, trainer: Main) -> None:
    assert trainer("run", "--preset", "shapes-grpo") == 0
    assert trainer("run", "--resume", "shapes-grpo") == 0
    jobs = list_jobs(store)
    assert [job.arguments for job in jobs] == [{}, {"resume": True}]
    assert len({job.run_id for job in jobs}) == 1


@pytest.mark.parametrize(("tested", "again"), [("0", 2), ("4", 0)])
def test_a_finished_run_is_resumed_only_for_its_missing_test(
    tested: str, again: int, store: Store, trainer: Main, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ("--set", "optimization.steps=1", "--set", f"data.test_examples={tested}")
    assert trainer("run", "--preset", "shapes-grpo", *settings) == 0
    run = list_runs(store)[0]
    record_step(store, run.id, 1, {}, at=1.0)
    capfd.readouterr()
    assert trainer("run", "--resume", "shapes-grpo") == again
    told = "shapes-grpo is finished, up to step 1. To train it further, launch a new run from its adapter, with "
    told += f"model.adapter={run.uid}, or branch it on its page."
    assert (told in capfd.readouterr().err) == (again == 2)
    assert len(list_jobs(store)) == (1 if again else 2)


def test_evaluate_a_run(store: Store, trainer: Main) -> None:
    assert trainer("run", "--preset", "shapes-grpo") == 0
    uid = only_job(store).run_uid
    arguments = ("--checkpoint", "40", "--benchmark", "shapes-hard", "--limit", "7", "--forced-prefix", "<think>1.")
    assert trainer("eval", "--run", uid, *arguments) == 0
    job = list_jobs(store)[-1]
    assert (job.kind, job.run_uid, job.state) == ("evaluate", uid, "finished")
    assert job.arguments == {
        "checkpoint": "40",
        "benchmark": "shapes-hard",
        "limit": 7,
        "forced_prefix": "<think>1.",
    }


def test_evaluate_with_samples_a_difficulty_and_a_baseline(store: Store, trainer: Main) -> None:
    assert trainer("run", "--preset", "shapes-grpo") == 0
    uid = only_job(store).run_uid
    asked = ("--benchmark", "tallyqa-test:simple", "--samples", "8", "--baseline", "shuffled")
    assert trainer("eval", "--run", uid, *asked) == 0
    arguments = list_jobs(store)[-1].arguments
    assert {name: arguments[name] for name in ("benchmark", "samples", "baseline")} == {
        "benchmark": "tallyqa-test:simple",
        "samples": 8,
        "baseline": "shuffled",
    }


@pytest.mark.parametrize(
    "asked", ["eval --run away", "export --run away --to copy", "tokens --run away --completion 1"]
)
def test_a_run_without_a_checkpoint_here_is_refused_before_a_job_is_made(
    store: Store, trainer: Main, capfd: pytest.CaptureFixture[str], asked: str
) -> None:
    make.run(store, name="away")
    assert trainer(*asked.split()) == 2
    assert "away has no checkpoint on this machine" in capfd.readouterr().err
    assert not list_jobs(store)


@pytest.mark.parametrize(
    "asked",
    [
        *("run --resume a", "eval --run a", "export --run a --to b", "tokens --run a --completion 1", "embed --all"),
        *("stop a", "sweep show a", "sweep pause a", "sweep resume a", "sweep stop a", "sweep extend a --seeds 2"),
    ],
)
def test_a_mistyped_database_is_not_made(tmp_path: Path, capfd: pytest.CaptureFixture[str], asked: str) -> None:
    path = tmp_path / "typo" / "none.db"
    assert main([*asked.split(), "--db", str(path)]) == 2
    assert "The database" in capfd.readouterr().err
    assert not path.parent.exists()


def test_no_command_repeats_advice_for_the_makers_of_libraries(trainer: Main) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.resetwarnings()
        assert trainer("stop", "nobody") == 2
        warnings.warn(
            "`is_gradient_checkpointing` is deprecated and will be removed in v6.", FutureWarning, stacklevel=1
        )
        warnings.warn("`other` is deprecated.", FutureWarning, stacklevel=1)
    assert [str(each.message) for each in heard] == ["`other` is deprecated."]
    assert not logging.getLogger("bitsandbytes.backends.cpu.ops").isEnabledFor(logging.WARNING)


def test_the_configuration_in_the_documents_is_one(tmp_path: Path) -> None:
    text = (local.ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    path = tmp_path / "run.yaml"
    path.write_text(text.partition("```yaml\n")[2].partition("```")[0])
    assert load(path).data.train_examples == 400


def test_the_base_of_a_run_without_a_checkpoint_can_be_evaluated(store: Store, trainer: Main) -> None:
    make.run(store, name="away", config=preset("demo-grpo").model_dump(mode="json"))
    assert trainer("eval", "--run", "away", "--checkpoint", "0") == 0


def test_an_experiment_queues_its_matrix(
    store: Store, trainer: Main, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "ensure_worker", lambda store: None)
    assert trainer("experiment", "demo-tables", "--seeds", "2", "--queue") == 0
    (made,) = list_experiments(store)
    assert capfd.readouterr().out == f"queued experiment {made.uid}: 9 runs\n"
    assert (made.name, len(made.arms), len(list_jobs(store))) == ("demo-tables", 9, 27)


def test_a_sweep_is_launched_extended_paused_resumed_and_stopped(
    store: Store, trainer: Main, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launch, "ensure_worker", lambda store: None)
    own = ("--arms", "GRPO CoT,SFT CoT", "--ranks", "8,16", "--benchmarks", "shapes-simple", "--queue")
    assert trainer("experiment", "betas", *own, "--vary", "max_tokens=32,48", "--set", "optimization.steps=3") == 0
    (made,) = list_experiments(store)
    assert {get_run(store, run).max_steps for run in made.arms} == {3} and len(made.arms) == 8
    assert trainer("sweep", "extend", "betas", "--seeds", "2", "--vary", "max_tokens=64") == 0
    assert trainer("sweep", "pause", "betas") == 0
    assert list_jobs(store, open_only=True) == []
    assert trainer("sweep", "resume", made.uid) == 0
    assert len(list_jobs(store, open_only=True)) == 24
    assert trainer("sweep", "stop", "betas", "--level", "3") == 0
    assert list_jobs(store, open_only=True) == []
    assert trainer("sweep", "show", "betas") == 0
    said = capfd.readouterr().out
    for words in ("queued 16 more runs", "asked 24 jobs to pause", "queued 24 jobs again", "betas", "24 stopped"):
        assert words in said


def test_an_experiment_in_the_foreground_ends_with_its_last_job(
    store: Store, trainer: Main, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail_all(store: Store) -> None:
        for job in list_jobs(store):
            end_job(store, job.id, JobState.FAILED, error="no")

    monkeypatch.setattr(launch, "ensure_worker", fail_all)
    assert trainer("experiment", "demo-tables") == 1
    assert "grpo-cot-tiny-board-r64-s0: train" in capfd.readouterr().out


@pytest.mark.parametrize(("model", "dataset"), [("tiny", "shapes-simple"), ("tiny-board", "board-simple")])
def test_a_model_answers_the_world_it_knows(store: Store, trainer: Main, model: str, dataset: str) -> None:
    assert trainer("eval", "--model", model) == 0
    assert get_run(store, only_job(store).run_id).dataset == dataset


def test_a_model_answers_within_the_limit_of_the_runs_that_train_it(store: Store, trainer: Main) -> None:
    assert trainer("eval", "--model", "tiny-board") == 0
    assert get_run(store, only_job(store).run_id).config["max_tokens"] == preset("demo-grpo").max_tokens


def test_evaluate_a_model(store: Store, trainer: Main) -> None:
    assert trainer("eval", "--model", "tiny", "--benchmark", "shapes-complex") == 0
    job = only_job(store)
    run = get_run(store, job.run_id)
    assert (run.method, run.model, run.dataset) == ("none", "tiny", "shapes-complex")
    assert (run.lora_rank, run.max_steps, job.kind) == (None, None, "evaluate")
    assert job.arguments["benchmark"] == "shapes-complex"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("run --preset demo", "unknown preset 'demo'. Choose one of demo-grpo"),
        ("run --preset shapes-grpo --set lora.rank=0", "lora.rank must be at least 1, not 0."),
        ("run --preset shapes-grpo --set lora.rank", "--set lora.rank: write KEY=VALUE"),
        ("run --preset shapes-grpo --set rewards.nowhere.py:f=1", "the file nowhere.py does not exist"),
        ("run --config nowhere.yaml", "Cannot read nowhere.yaml: No such file"),
        ("run --resume nowhere", "There is no run 'nowhere'"),
        ("run --resume x --set seed=1", "--set cannot be used with --resume"),
        ("eval --run nowhere", "There is no run 'nowhere'"),
        ("eval --model tiny --benchmark mnist", "unknown dataset 'mnist'. Choose one of shapes-simple"),
        ("experiment mine", "Name an experiment (demo-tables, demo-evidence), or list arms with --arms"),
        ("experiment mine --arms SFT --queue", "Unknown arm 'SFT'"),
        ("experiment demo-tables --set seed=1,2", "--set seed=1,2: give one value, or use --vary for several"),
        ("sweep pause nowhere", "Experiment 'nowhere' does not exist"),
        ("stop nowhere", "There is no run 'nowhere'"),
        ("job nowhere", "Job 'nowhere' does not exist"),
        ("stop x --db mysql+nothing://x", "mysql is not supported"),
    ],
)
def test_what_cannot_be_used_gives_a_sentence(
    trainer: Main, store: Store, arguments: str, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert trainer(*arguments.split()) == 2
    said = capfd.readouterr().err
    assert said.startswith("error: ") and sentence in said and "Traceback" not in said
    assert list_runs(store) == []


@pytest.mark.parametrize("arguments", ["", "run", "run --preset a --config b", "eval", "eval --model tiny --limit 0"])
def test_a_wrong_command_line_exits_with_2(trainer: Main, arguments: str) -> None:
    with pytest.raises(SystemExit) as caught:
        trainer(*arguments.split())
    assert caught.value.code == 2


def test_an_output_folder_that_cannot_be_made(trainer: Main, store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    (store.folder / "runs").write_text("in the way")
    assert trainer("run", "--preset", "shapes-grpo") == 2
    assert "Cannot write to" in capfd.readouterr().err
    assert list_runs(store) == []


def test_a_run_cannot_be_resumed_while_it_is_open(
    trainer: Main, store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    queued(store, "mine")
    assert trainer("run", "--resume", "mine") == 2
    assert "mine has a job that has not ended" in capfd.readouterr().err


def test_files_are_named_by_absolute_paths(
    trainer: Main, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def brevity(completions, **_): ...")
    Path("model").mkdir()
    settings = ("--set", "rewards.mine.py:brevity=1", "--set", "model.id=model")
    assert trainer("run", "--preset", "shapes-grpo", *settings) == 0
    run = get_run(store, only_job(store).run_id)
    assert run.config["rewards"][-1]["name"] == f"{tmp_path}/mine.py:brevity"
    assert run.model == f"{tmp_path}/model"


def test_stop(trainer: Main, store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    queued(store, "mine")
    assert trainer("stop", "mine") == 0
    assert trainer("stop", "mine", "--level", "3") == 0
    assert capfd.readouterr().out == "The job was removed from the queue.\nThe job has already ended.\n"


def test_preflight(trainer: Main, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    asked: list[Any] = []

    def report(config: Any, folder: Path, *, store: Store | None, measure: bool) -> dict[str, Any]:
        asked.append((config, folder, measure, store is not None))
        level = "ok" if config.seed else "fail"
        return {"checks": [{"name": "disk", "level": level, "sentence": "Plenty."}]}

    monkeypatch.setitem(sys.modules, "trainer.preflight", SimpleNamespace(preflight=report))
    assert trainer("preflight", "--preset", "shapes-grpo", "--set", "seed=1", "--db", "/tmp/x/y.db") == 0
    assert asked[0][1:] == (Path("/tmp/x"), False, False) and asked[0][0].name == "shapes-grpo"
    assert capfd.readouterr().out == "ok   disk: Plenty.\n"
    assert trainer("preflight", "--preset", "shapes-grpo", "--json", "--calibrate") == 1
    assert asked[1][2:] == (True, True)
    assert json.loads(capfd.readouterr().out)["checks"][0]["level"] == "fail"


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_in_a_terminal_obeys_signals(store: Store, number: int, exit_code: int) -> None:
    with process(store, "run", "--preset", "shapes-grpo", "--set", "name=wait") as child:
        eventually(lambda: list_jobs(store) and get_run(store, 1).step > 0)
        child.send_signal(number)
        said, _ = child.communicate(timeout=120)
    assert child.returncode == exit_code
    assert said.endswith("stopped\n") and "Traceback" not in said
    assert only_job(store).state == "stopped"


def test_a_run_in_a_terminal_is_stopped_by_the_dashboard(store: Store) -> None:
    with process(store, "run", "--preset", "shapes-grpo", "--set", "name=wait") as child:
        eventually(lambda: list_jobs(store) and get_run(store, 1).step > 0)
        launch.stop(store, only_job(store))
        assert child.wait(timeout=120) == 143


def test_a_killed_run_in_a_terminal_is_closed_and_spares_its_shell(store: Store) -> None:
    with process(store, "run", "--preset", "shapes-grpo", "--set", "name=stuck") as child:
        eventually(lambda: list_jobs(store) and only_job(store).state == "running")
        assert launch.stop(store, only_job(store), 3).endswith(
            "Killed on request; progress since the last checkpoint is lost."
        )
        assert child.wait(timeout=120) == -signal.SIGKILL
    assert only_job(store).state == "killed"


def test_while_a_terminal_trains_the_queue_waits(store: Store) -> None:
    with process(store, "run", "--preset", "shapes-grpo", "--set", "name=wait") as child:
        eventually(lambda: list_jobs(store) and get_run(store, 1).step > 0)
        uid = submitted(store, "finish")
        first = list_jobs(store)[0]
        assert claim_job(store, str(first.host)) is None
        launch.stop(store, first)
        assert child.wait(timeout=120) == 143
    assert ended(store, uid).state == "finished"


def test_submit_refuses_what_cannot_run(store: Store) -> None:
    config = preset("shapes-grpo")
    with pytest.raises(launch.ConfigError, match="does not exist"):
        launch.submit(store, launch.RunConfig.model_validate(config.model_dump() | {"rewards": [{"name": "no.py:f"}]}))
    assert list_jobs(store) == []
