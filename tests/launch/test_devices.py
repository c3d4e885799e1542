"""What a host computes on."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from trainer.launch import devices


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (devices.CUDA, devices.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    devices._gpus.cache_clear()


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Puts an `nvidia-smi` of ours first."""
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


@pytest.mark.parametrize(("script", "found"), [("printf '0\\n1\\n'", ("0", "1")), ("exit 9", ("cpu",))])
def test_the_driver_names_the_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, found: tuple[str, ...]
) -> None:
    driver(tmp_path, monkeypatch, script)
    assert devices.host_devices() == found


def test_without_a_driver_there_is_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.host_devices() == ("cpu",)


@pytest.mark.parametrize(
    ("setting", "found"), [("2,3", ("2", "3")), ("GPU-1a", ("GPU-1a",)), ("", ("cpu",)), ("-1", ("cpu",))]
)
def test_the_environment_narrows_them(monkeypatch: pytest.MonkeyPatch, setting: str, found: tuple[str, ...]) -> None:
    monkeypatch.setenv(devices.CUDA, setting)
    assert devices.host_devices() == found


def test_a_setting_replaces_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.CUDA, "0")
    monkeypatch.setenv(devices.VARIABLE, "cpu-1, cpu-2")
    assert devices.host_devices() == ("cpu-1", "cpu-2")
    assert devices.environment("cpu-1") == devices.environment(None) == {}


@pytest.mark.parametrize(
    ("shown", "count", "taken", "chosen"),
    [
        ("0", 1, (), "0"),
        ("0,1", 1, (), "0"),
        ("0,1", 1, ("0",), "1"),
        ("0,1", 1, ("0", "1"), "0"),
        ("GPU-1a,GPU-2b", 1, (), "GPU-1a"),
        ("0,1,2,3", 2, ("1",), "0,2"),
        ("0,1", 4, (), "0,1"),
    ],
)
def test_a_process_takes_free_devices_for_itself(
    monkeypatch: pytest.MonkeyPatch, shown: str, count: int, taken: tuple[str, ...], chosen: str
) -> None:
    monkeypatch.setenv(devices.CUDA, shown)
    monkeypatch.setenv(devices.VARIABLE, shown)
    assert devices.pin(count, taken) == chosen
    assert os.environ[devices.CUDA] == chosen
    assert os.environ[devices.VARIABLE] == shown, "a worker that is started later must see them all"


def test_a_process_without_a_gpu_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.VARIABLE, "cpu-1,cpu-2")
    assert devices.pin() is None
    assert devices.CUDA not in os.environ


@pytest.mark.parametrize(
    ("processors", "memory", "threads", "at_once"),
    [
        (2, 24, [1, 1], 2),
        (2, 24, [2, 1], 1),
        (2, 4, [1], 1),
        (8, 24, [2], 4),
        (8, 7, [2], 2),
        (1, 24, [1], 1),
        (4, 8, [], 2),
    ],
)
def test_jobs_run_at_once_as_processors_and_memory_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int, memory: int, threads: list[int], at_once: int
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(devices, "processors", lambda: processors)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=memory * 2**30))
    found = devices.places(threads)
    assert len(set(found)) == len(found) == at_once
    assert found[0] == "cpu" and all(devices.environment(name) == {} for name in found)


def test_a_setting_or_gpus_decide_how_many_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.VARIABLE, "cpu")
    assert devices.places([1]) == ("cpu",)
    monkeypatch.setenv(devices.VARIABLE, "0,1")
    assert devices.places([64]) == ("0", "1")
