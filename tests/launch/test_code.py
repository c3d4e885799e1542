"""The state of a source folder in git, and readings of the machine."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from store.db.engine import Store
from store.surroundings.code import by_file, read_code
from store.surroundings.machine import read_machine
from tests.store import make
from trainer.jobs import code
from trainer.jobs.machine import Machine, parse


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "inner").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "inner" / "a.py").write_text("x = 1\n")
    (folder / ".gitignore").write_text("ignored.py\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def test_a_clean_checkout_has_a_commit_and_no_changes(checkout: Path) -> None:
    found = code.read_state(checkout)
    assert found is not None and len(found.revision) == 40
    assert found[1:] == ((), "", False)


def test_changed_and_new_files_are_kept(checkout: Path) -> None:
    (checkout / "inner" / "a.py").write_text("x = 2\n")
    (checkout / "new.py").write_text("y = 3\n")
    (checkout / "data.bin").write_bytes(bytes(range(256)))
    (checkout / "ignored.py").write_text("password = 1\n")
    found = code.read_state(checkout)
    assert found is not None and set(found.changed) == {"inner/a.py", "new.py", "data.bin"}
    assert set(by_file(found.difference)) == {"inner/a.py", "new.py"}
    assert "+x = 2" in found.difference and "+y = 3" in found.difference
    inner = code.read_state(checkout / "inner")
    assert inner is not None and inner.changed == ("a.py",), "what lies beside the trainer's folder is not its code"


def test_a_long_difference_is_cut_at_a_line(checkout: Path) -> None:
    (checkout / "inner" / "a.py").write_text("x = 1\n" + "long line of text\n" * 40_000)
    found = code.read_state(checkout)
    assert found is not None and found.is_cut
    assert len(found.difference) <= code.MOST_BYTES and found.difference.endswith("\n+long line of text")


def test_no_checkout_and_no_git_are_no_fault(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    run = make.run(store)
    monkeypatch.setattr(code, "ROOT", checkout)
    code.keep(store, run.id)
    assert len(read_code(store, [run.id])[run.id]) == 1
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setattr(code, "ROOT", tmp_path)
    assert code.read_state(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code.read_state(checkout) is None
    code.keep(store, run.id)
    assert len(read_code(store, [run.id])[run.id]) == 1


SMI = "0, 97, 40536, 352.11, 61\n1, [N/A], 2, [Not Supported], 33\nNo devices were found\n"


def test_what_gpus_say_is_read_in_our_units() -> None:
    assert parse(SMI) == {
        "gpu0/use": 0.97,
        "gpu0/memory": 40536 * 2.0**20,
        "gpu0/power": 352.11,
        "gpu0/temperature": 61.0,
        "gpu1/memory": 2 * 2.0**20,
        "gpu1/temperature": 33.0,
    }


def test_the_machine_is_sampled_while_a_job_runs_with_its_children(store: Store) -> None:
    run = make.run(store)
    busy = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"
    child = subprocess.Popen([sys.executable, "-c", busy])
    try:
        with Machine(store, run.id, every=0.2):
            deadline = time.monotonic() + 60
            while len(read_machine(store, run.id, points=10_000).get("cpu", ([],))[0]) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.1)
    finally:
        child.kill()
        child.wait()
    found = read_machine(store, run.id, points=10_000)
    assert {"cpu", "cpu/machine", "memory", "memory/machine"} <= set(found)
    assert found["cpu"].high.max() > 0.1, "the child was busy"
    assert found["memory"].mean.min() > 2**20 and 0 < found["memory/machine"].mean.max() <= 1
