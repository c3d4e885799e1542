"""Several processes on one file: nobody waits, nobody gets the same job, and a kill loses nothing."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from store.completions.rows import get_step_bounds, list_groups
from store.db.engine import Store
from store.jobs import add_job
from store.metrics import list_metric_names, read_clock, read_series
from store.runs import list_runs
from store.steps import record_step
from tests.store import make

WRITER = """
import sys
from store.db.engine import open_store
from store.steps import record_step
from tests.store import make
store = open_store(sys.argv[1])
run = make.run(store)
for step in range(1, int(sys.argv[2]) + 1):
    metrics = {f"m{number}": float(step) for number in range(10)}
    record_step(store, run.id, step, metrics, at=float(step), completions=[make.completion(i) for i in range(4)])
    print(step, flush=True)
store.close()
"""
READER = """
import sys
import time
from store import metrics, runs
from store.completions import rows
from store.db.engine import open_store
store, looks = open_store(sys.argv[1], readonly=True), 0
while True:
    for run in runs.list_runs(store):
        metrics.read_series(store, run.id, metrics.list_metric_names(store, run.id))
        if bounds := rows.get_step_bounds(store, run.id):
            assert {len(group.completions) for group in rows.list_groups(store, run.id, bounds.last)} == {4}
    looks += 1
    print(looks, flush=True)
    time.sleep(0.2)
"""
CLAIMER = """
import sys
from store.db.engine import open_store
from store.jobs import claim_job
store, number = open_store(sys.argv[1]), 0
sys.stdin.readline()
while job := claim_job(store, sys.argv[2].format(number)):
    print(job.id)
    number += 1
store.close()
"""


@contextmanager
def python(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_a_reader_sees_whole_steps_while_a_writer_writes(store: Store, reader: Store) -> None:
    looks, last = 0, 0
    with python(WRITER, store.url, "60") as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "1\n"
        while writer.poll() is None or last < 60:
            curves = read_series(reader, 1, list_metric_names(reader, 1))
            steps = {tuple(curve.step.tolist()) for curve in curves.values()}
            assert len(curves) == 10
            assert len(steps) == 1
            (seen,) = steps
            assert seen == tuple(range(1, len(seen) + 1))
            assert len(seen) >= last
            looks, last = looks + 1, len(seen)
            assert {len(group.completions) for group in list_groups(reader, 1, last)} == {4}
            time.sleep(0.01)
        assert writer.wait() == 0
    assert looks > 1


def test_four_trainers_and_ten_readers_never_find_the_database_locked(store: Store) -> None:
    with ExitStack() as stack:
        writers = [stack.enter_context(python(WRITER, store.url, "40")) for _ in range(4)]
        readers = [stack.enter_context(python(READER, store.url)) for _ in range(10)]
        assert [writer.wait(timeout=200) for writer in writers] == [0] * 4
        for reader in readers:
            assert reader.stdout is not None and reader.stdout.readline() == "1\n"
            assert reader.poll() is None
    for run in list_runs(store):
        assert read_clock(store, run.id).step.tolist() == list(range(1, 41))


def test_kill_9_loses_no_step_that_was_recorded(store: Store) -> None:
    with python(WRITER, store.url, "100000") as writer:
        assert writer.stdout is not None
        wanted, said = random.Random().randrange(5, 40), 0
        while said < wanted:
            said = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        said = max(said, *map(int, writer.stdout.read().split("\n")[:-1]), 0)
        writer.wait()
    steps = read_clock(store, 1).step.tolist()
    assert steps[:said] == list(range(1, said + 1))
    assert len(steps) <= said + 1
    assert get_step_bounds(store, 1) == (1, len(steps), len(steps))
    record_step(store, 1, len(steps) + 1, {"m0": 1.0}, at=1.0)


@pytest.mark.parametrize(
    ("hosts", "claimed"), [(("a{}", "b{}"), 40), (("same", "same"), 1)], ids=["many hosts", "one busy host"]
)
def test_two_claimers_never_get_the_same_job(store: Store, hosts: tuple[str, str], claimed: int) -> None:
    jobs = [add_job(store, make.run(store).id, "train", {}).id for _ in range(40)]
    with python(CLAIMER, store.url, hosts[0]) as first, python(CLAIMER, store.url, hosts[1]) as second:
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        claims = [int(line) for process in (first, second) for line in process.communicate()[0].split()]
    assert sorted(claims) == jobs[:claimed]
