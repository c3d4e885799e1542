"""How many threads a job takes, and that torch obeys."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from trainer.launch import threads
from trainer.spec.config import ConfigError, RunConfig, from_dict, override


@pytest.mark.parametrize(
    ("model", "available", "processes", "expected"),
    [
        ("tiny", 1, 1, 1),
        ("tiny", 2, 1, 1),
        ("tiny", 4, 1, 2),
        ("tiny", 64, 1, 2),
        ("tiny-board", 2, 1, 1),
        ("some/model", 1, 1, 1),
        ("some/model", 2, 1, 2),
        ("some/model", 8, 1, 7),
        ("some/model", 8, 2, 3),
        ("some/model", 2, 4, 1),
        (None, 2, 1, 2),
    ],
)
def test_model_and_machine_decide(model: str | None, available: int, processes: int, expected: int) -> None:
    assert threads.chosen(model, available, processes) == expected


def test_a_run_decides_before_its_user_and_both_before_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig()
    own = override(config, {"optimization.threads": "3"})
    monkeypatch.setattr(threads, "processors", lambda: 2)
    monkeypatch.delenv(threads.OPENMP, raising=False)
    assert threads.count(config.model_dump()) == 1
    monkeypatch.setenv(threads.OPENMP, "4")
    assert threads.count(config.model_dump()) == 4
    monkeypatch.setenv(threads.VARIABLE, "5")
    assert threads.count(config.model_dump()) == 5
    assert threads.count(own.model_dump()) == 3
    for nonsense in ("", "0", "-1", "two", "²"):
        monkeypatch.setenv(threads.VARIABLE, nonsense)
        assert threads.count(config.model_dump()) == 4


def test_a_number_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimization\.threads must be at least 1"):
        from_dict({"optimization": {"threads": 0}})


def test_torch_takes_the_number_and_its_threads_sleep_while_they_wait() -> None:
    script = """if True:
        import json, os, sys
        from trainer.launch import threads
        import trainer.__main__
        assert "torch" not in sys.modules, "too late to choose"
        threads.apply({"optimization": {"threads": 2}})
        import torch
        print(json.dumps([torch.get_num_threads(), os.environ["OMP_WAIT_POLICY"], os.environ["KMP_BLOCKTIME"]]))
    """
    surroundings = {name: value for name, value in os.environ.items() if name not in threads.ASLEEP}
    done = subprocess.run([sys.executable, "-c", script], env=surroundings, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [2, "PASSIVE", "0"]
    done = subprocess.run(
        [sys.executable, "-c", script], env=surroundings | {"OMP_WAIT_POLICY": "ACTIVE"}, capture_output=True, text=True
    )
    assert json.loads(done.stdout)[1] == "ACTIVE", "the user decides"
