"""Two real processes that share the batches of one training, beside one process that has them whole."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import psutil
import pytest

from store.completions.rows import list_completions
from store.db.engine import Store
from store.db.rows import RunDetail, StoredCompletion
from store.evaluations.records import list_evaluations
from store.events import list_checkpoints
from store.jobs import ask_stop, get_job
from store.metrics import read_clock, read_series
from store.runs import get_run
from tests.training.conftest import SMALL, Train
from trainer import launch
from trainer.jobs.job import execute
from trainer.spec import config
from trainer.spec.config import ConfigError
from trainer.spec.errors import TrainerError
from trainer.train import grpo

pytestmark = pytest.mark.training
TWO = {"optimization.processes": "2", "evaluation.val_every": "3"}


def said(store: Store, run: RunDetail) -> list[StoredCompletion]:
    return list_completions(store, run.id, limit=1000)


def metric(store: Store, run: RunDetail, name: str) -> np.ndarray:
    return read_series(store, run.id, [name], points=1000)[name].value


def test_two_processes_sample_and_learn_as_one_with_the_whole_batch(store: Store, train: Train) -> None:
    one, two = train("shapes-grpo", {"evaluation.val_every": "3"}), train("shapes-grpo", TWO)
    alone, together = said(store, one), said(store, two)
    assert len(together) == 3 * 16
    for mine, theirs in zip(together, alone, strict=True):
        assert (mine.step, mine.group, mine.index, mine.example_id) == (
            theirs.step,
            theirs.group,
            theirs.index,
            theirs.example_id,
        )
        assert (mine.text, mine.rewards, mine.tokens, mine.truncated) == (
            theirs.text,
            theirs.rewards,
            theirs.tokens,
            theirs.truncated,
        )
        assert mine.advantage == pytest.approx(theirs.advantage, abs=1e-6)
    for name in ("reward", "loss", "grad_norm", "tokens"):
        np.testing.assert_allclose(metric(store, two, name), metric(store, one, name), rtol=1e-4, atol=1e-6)
    tests = [e.metrics for run in (one, two) for e in list_evaluations(store, run.id) if e.kind == "test"]
    assert tests[0] == tests[1]
    assert len({row.group for row in together}) == 2 and any(row.advantage for row in together)


def test_two_processes_imitate_as_one(store: Store, train: Train) -> None:
    whole_batches = {"data.train_examples": "48", "evaluation.val_every": "3"}
    one, two = train("shapes-sft", whole_batches), train("shapes-sft", TWO | whole_batches)
    for name in ("loss", "grad_norm", "tokens"):
        np.testing.assert_allclose(metric(store, two, name), metric(store, one, name), rtol=1e-4)


def test_all_stop_where_the_first_is_told_to_and_a_killed_one_ends_them_all(store: Store) -> None:
    settings = (
        SMALL | TWO | {"optimization.steps": "500", "evaluation.val_every": "500", "evaluation.probe_every": "500"}
    )
    run, job = launch.create(store, config.override(config.preset("shapes-grpo"), settings))
    assert get_job(store, job.uid).arguments == {"processes": 2}

    after(store, run.id, 2, lambda: ask_stop(store, job.id))
    execute(store, get_job(store, job.uid))
    ended = get_run(store, run.id)
    assert get_job(store, job.uid).state == "stopped" and 2 <= ended.step < 500
    assert [row.step for row in list_checkpoints(store, run.id)] == [ended.step]

    job = launch.add_resume(store, run.id)
    after(store, run.id, ended.step + 2, kill_the_second)
    execute(store, get_job(store, job.uid))
    closed = get_job(store, job.uid)
    assert closed.state == "failed" and "ended without an error message" in (closed.error or "")
    assert list(read_clock(store, run.id).step) == list(range(1, get_run(store, run.id).step + 1))
    assert not ranks()


def after(store: Store, run_id: int, step: int, act: Callable[[], object]) -> None:
    """Acts, in a thread of its own, as soon as a step is recorded."""

    def watch() -> None:
        while get_run(store, run_id).step < step:
            time.sleep(0.05)
        act()

    threading.Thread(target=watch, daemon=True).start()


def ranks() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "rank" in process.cmdline() and "accelerate.commands.launch" not in process.cmdline():
                found.append(process)
    return found


def kill_the_second() -> None:
    next(process for process in ranks() if process.environ()["RANK"] == "1").kill()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimization.processes": "3"}, "for each of 3 processes: a group cannot be split across updates. Try 24."),
        (
            {"optimization.processes": "2", "optimization.accumulation": "16"},
            "optimization.accumulation 16 times optimization.processes 2.",
        ),
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config.override(config.preset("shapes-grpo"), {"optimization.batch_size": "16"} | settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"grpo.vllm": "server"}, "grpo.vllm=server needs vLLM. Run `pip install vllm`, or set it to off."),
        ({"grpo.vllm": "colocate"}, "image tokens would be expanded twice .TRL issue 6294.. Set it to off."),
        ({"grpo.vllm": "server", "model.quantization": "nf4"}, "from nf4 weights with the adapter rounded into them"),
        (
            {"grpo.vllm": "server", "lora.vision": "true"},
            "an adapter in the vision tower .lora.vision. was never tried",
        ),
        ({"grpo.vllm": "server", "model.longest_edge": "512"}, "would ignore model.longest_edge"),
    ],
)
def test_an_unfit_vllm_is_refused_before_anything_is_loaded(settings: dict[str, str], words: str) -> None:
    with pytest.raises(TrainerError, match=words):
        grpo.check_vllm(config.override(config.preset("shapes-grpo"), settings))


def test_a_run_that_asks_for_vllm_says_how_to_go_on(store: Store, train: Train) -> None:
    run = train("shapes-grpo", {"grpo.vllm": "server"})
    assert (
        run.job is not None
        and run.job.error == "grpo.vllm=server needs vLLM. Run `pip install vllm`, or set it to off."
    )
