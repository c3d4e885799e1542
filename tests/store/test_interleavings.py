"""Two processes on one database do what they like in any order: whatever they do, the queue and the runs stay true."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from sqlalchemy import text

from store.completions.rows import get_step_bounds
from store.db.connection import StoreError, reading
from store.db.engine import Store, open_store
from store.db.rows import JobRef, JobRow, RunRef
from store.db.states import ACTIVE, CLOSED, COMES_FROM, OPEN, JobState
from store.jobs import add_job, ask_stop, claim_job, end_job, list_jobs, shift_job, start_job
from store.metrics import read_clock
from store.runs import delete_run
from store.steps import record_step, truncate_after
from tests.store import make

HOSTS = ("left", "right")
TEMPLATE = Path(tempfile.mkdtemp(prefix="vr1z-template-"))


def teardown_module() -> None:
    shutil.rmtree(TEMPLATE, ignore_errors=True)


def empty_database(folder: Path) -> str:
    """Copied, since making one takes longer than what is done to it."""
    template = TEMPLATE / "test.db"
    if not template.exists():
        open_store(str(template)).close()
    shutil.copy(template, folder / "test.db")
    return str(folder / "test.db")


class Processes(RuleBasedStateMachine):
    """Each rule is done by one of two processes; `seen` is what the jobs were after the last one."""

    runs: Bundle[RunRef] = Bundle("runs")
    jobs: Bundle[JobRef] = Bundle("jobs")
    stores = st.integers(0, 1)

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="vr1z-"))
        path = empty_database(self.folder)
        self.stores_open: list[Store] = [open_store(path), open_store(path)]
        self.reader = open_store(path, readonly=True)
        self.seen: dict[int, JobRow] = {}
        self.steps: dict[int, int] = {}

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            for store in (*self.stores_open, self.reader):
                store.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    @rule(target=runs, who=stores)
    def create(self, who: int) -> RunRef:
        return make.run(self.stores_open[who])

    @rule(target=jobs, who=stores, run=runs, kind=st.sampled_from(("train", "evaluate")))
    def launch(self, who: int, run: RunRef, kind: str) -> Any:
        try:
            return add_job(self.stores_open[who], run.id, kind, {})
        except StoreError:
            assert run.id not in self.stands()
            return multiple()

    @rule(who=stores, host=st.sampled_from(HOSTS))
    def claim(self, who: int, host: str) -> None:
        waiting = {job.id for job in self.seen.values() if job.state == JobState.QUEUED}
        claimed = claim_job(self.stores_open[who], host)
        assert claimed is None or claimed.id in waiting

    @rule(who=stores, job=jobs, pid=st.integers(1, 9))
    def report(self, who: int, job: JobRef, pid: int) -> None:
        before = self.seen.get(job.id)
        may = before is not None and before.state in OPEN and before.started_at is None
        try:
            start_job(
                self.stores_open[who], job.id, host=HOSTS[0], boot_id="b", pid=pid, pid_started=1.0, log_path=None
            )
        except StoreError:
            assert not may
        else:
            assert may

    @rule(who=stores, job=jobs, level=st.integers(1, 3))
    def stop(self, who: int, job: JobRef, level: int) -> None:
        ask_stop(self.stores_open[who], job.id, level)

    @rule(who=stores, job=jobs, state=st.sampled_from(CLOSED))
    def end(self, who: int, job: JobRef, state: JobState) -> None:
        before = self.seen.get(job.id)
        closed = end_job(self.stores_open[who], job.id, state, error="Ended.")
        assert closed == (before is not None and before.state in OPEN)

    @rule(who=stores, job=jobs, earlier=st.booleans())
    def shift(self, who: int, job: JobRef, earlier: bool) -> None:
        shift_job(self.stores_open[who], job.id, earlier=earlier)

    @rule(who=stores, run=runs, back=st.integers(0, 2))
    def step(self, who: int, run: RunRef, back: int) -> None:
        if run.id not in self.stands():
            return
        at = max(0, self.steps.get(run.id, 0) - back)
        truncate_after(self.stores_open[who], run.id, at)
        record_step(self.stores_open[who], run.id, at + 1, {"m": 1.0}, at=1.0, completions=[make.completion()])
        self.steps[run.id] = at + 1

    @rule(who=stores, run=consumes(runs))
    def delete(self, who: int, run: RunRef) -> None:
        is_open = any(job.run_id == run.id and job.state in OPEN for job in self.seen.values())
        try:
            delete_run(self.stores_open[who], run.id)
        except StoreError:
            assert is_open
        else:
            assert not is_open
            self.steps.pop(run.id, None)

    @invariant()
    def everything_holds(self) -> None:
        self.states_follow_one_another_and_what_is_closed_stays_closed()
        self.a_device_has_one_job_and_a_position_too()
        self.a_job_is_closed_once_in_its_events()
        self.a_run_stands_at_its_last_step()

    def states_follow_one_another_and_what_is_closed_stays_closed(self) -> None:
        now = {job.id: job for job in list_jobs(self.reader)}
        for id, job in now.items():
            before = self.seen.get(id)
            if before is not None and before.state != job.state:
                assert JobState(before.state) in COMES_FROM[JobState(job.state)]
            if before is not None and before.state in CLOSED:
                assert job == before
            assert (job.ended_at is not None) == (job.state in CLOSED)
        self.seen = now

    def a_device_has_one_job_and_a_position_too(self) -> None:
        active = [(job.host, job.device) for job in self.seen.values() if job.state in ACTIVE and job.device]
        assert len(set(active)) == len(active)
        positions = [job.position for job in self.seen.values() if job.state == JobState.QUEUED]
        assert len(set(positions)) == len(positions)

    def a_job_is_closed_once_in_its_events(self) -> None:
        with reading(self.reader) as connection:
            events = connection.execute(text("SELECT kind, job_id FROM event")).all()
        closings = [event.job_id for event in events if event.kind in CLOSED]
        assert sorted(closings) == sorted(job.id for job in self.seen.values() if job.state in CLOSED)

    def a_run_stands_at_its_last_step(self) -> None:
        for run_id, last in self.stands().items():
            assert last == self.steps.get(run_id, 0)
            assert read_clock(self.reader, run_id).step.tolist() == list(range(1, last + 1))
            assert get_step_bounds(self.reader, run_id) == ((1, last, last) if last else None)

    def stands(self) -> dict[int, int]:
        """The runs that there are, and their steps."""
        with reading(self.reader) as connection:
            return {row.id: row.step for row in connection.execute(text("SELECT id, step FROM run"))}


Processes.TestCase.settings = settings(
    max_examples=8, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestProcesses = Processes.TestCase
