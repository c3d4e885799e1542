"""A process is the same only if host, boot, pid and start agree; a zombie is dead."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.launch import identity


@pytest.fixture(params=["proc", "psutil"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to learn when a process began."""
    if request.param == "psutil":
        monkeypatch.setattr(identity, "_BOOT", Path("/nowhere"))
    return str(request.param)


def test_this_process_is_alive(source: str) -> None:
    me = identity.current()
    assert identity.is_alive(me)
    assert (me.boot_id is None) == (source == "psutil")


def test_a_reused_pid_is_another_process(source: str) -> None:
    me = identity.current()
    assert me.started is not None
    assert not identity.is_alive(me._replace(started=me.started - 2))
    assert not identity.is_alive(me._replace(started=None))


def test_a_pid_from_before_the_reboot_is_dead(source: str) -> None:
    assert not identity.is_alive(identity.current()._replace(boot_id="another"))


def test_a_process_of_another_host_cannot_be_seen_and_counts_as_alive() -> None:
    assert identity.is_alive(identity.current()._replace(host="elsewhere", pid=999_999_999))


def test_a_zombie_is_dead(source: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    deadline = time.monotonic() + 20
    while identity.start_time(process.pid) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert process.wait() == 0
    assert identity.start_time(process.pid) is None


def test_a_name_with_parentheses_does_not_confuse(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "60"]) as process:
        begun = identity.start_time(process.pid)
        process.kill()
    mine = identity.current().started
    assert begun is not None and mine is not None and begun >= mine
