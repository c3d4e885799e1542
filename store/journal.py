"""Records of a training, as lines of JSON in a file and as writes to the store.

A record may be put again without harm: runs are known by their uid, generations by their number, and a run ends once.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select

from store.db.connection import Store, StoreError, reading
from store.db.rows import CompletionRow, ExampleRow, PredictionRow, TokenRow, TraceFields
from store.db.schema import OPEN, Job, JobState, Run
from store.evaluations.records import record_evaluation
from store.events import add_event
from store.examples import add_examples
from store.jobs import add_job, end_job, start_job
from store.runs import create_run, describe_run
from store.steps import record_step, truncate_after

RECORDED = "(recorded)"
"""Dataset name of runs and examples of foreign scripts."""


PREFIX = "unwritten"
"""Prefix of the names of journals, before the uid of their run."""


class Process(NamedTuple):
    host: str
    boot_id: str | None
    pid: int
    started: float | None


@dataclass(frozen=True)
class Begun:
    """A training starts, or continues from a checkpoint of `step` updates, in a process that is its own job."""

    uid: str
    """Uid of the run, if it is new."""
    run: dict[str, Any]
    """Arguments of `store.runs.create_run`."""
    process: Process
    step: int = 0
    at: float = 0.0
    """Seconds since the epoch; 0 means now."""


@dataclass(frozen=True)
class Belongs:
    """The following records belong to a run that is in the database already."""

    uid: str


@dataclass(frozen=True)
class StepRecord:
    """Everything one update brought; the completions do not have their examples' ids yet."""

    step: int
    metrics: dict[str, float | None]
    at: float | None
    """None if there was no update, for example at an evaluation."""
    tokens: float | None
    completions: list[CompletionRow] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    """For each completion, what identifies its dataset row; `example` is its index in `examples`, if any."""
    measured: dict[int, TokenRow] = field(default_factory=dict)
    examples: list[ExampleRow] = field(default_factory=list)

    def with_examples(self, ids: Sequence[int | None]) -> list[CompletionRow]:
        return [replace(row, example_id=id) for row, id in zip(self.completions, ids, strict=True)]


@dataclass(frozen=True)
class Evaluated:
    """What was sampled to evaluate the weights after `step` updates."""

    step: int
    name: str
    """Name of the evaluation set; empty if there is only one."""
    rows: list[CompletionRow]
    places: list[int]
    """For each row, the index of its example in `examples`."""
    examples: list[ExampleRow]


@dataclass(frozen=True)
class Described:
    """What became known about the run: columns, and facts of its environment."""

    columns: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Happened:
    """An event."""

    kind: str
    message: str


@dataclass(frozen=True)
class Ended:
    """The training ended in this `JobState`."""

    state: str
    error: str | None = None


Record = Begun | Belongs | StepRecord | Evaluated | Described | Happened | Ended
_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Begun, Belongs, StepRecord, Evaluated, Described, Happened, Ended)
}


class Damaged(ValueError):
    """A line that is not a record."""


def to_line(record: Record) -> str:
    """Return the record as a line of ASCII, without line end."""
    values = asdict(record)
    for example in values.get("examples", ()):
        example["images"] = [base64.b64encode(data).decode("ascii") for data in example["images"]]
    return json.dumps({"type": type(record).__name__} | values, default=str)


def from_line(line: str) -> Record:
    """Parse a line. Raises Damaged."""
    try:
        values = json.loads(line)
        kind = values.pop("type", StepRecord.__name__)
        if kind == StepRecord.__name__:
            return _step(values)
        if kind == Evaluated.__name__:
            values |= {"rows": _completions(values["rows"]), "examples": _examples(values["examples"])}
        if kind == Begun.__name__:
            values["process"] = Process(*values["process"])
        record: Record = _KINDS[kind](**values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(str(error)) from None
    return record


def read(path: Path) -> Iterator[Record | None]:
    """Yield the records of a file; None for a damaged line, left by a killed writer or a full disk."""
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if line.strip():
                try:
                    yield from_line(line)
                except Damaged:
                    yield None


def _step(values: dict[str, Any]) -> StepRecord:
    completions = _completions(values["completions"])
    measured = {int(place): TokenRow(*map(tuple, row)) for place, row in values["measured"].items()}
    examples = _examples(values.get("examples", ()))
    return StepRecord(**values | {"completions": completions, "measured": measured, "examples": examples})


def _completions(rows: Sequence[dict[str, Any]]) -> list[CompletionRow]:
    return [CompletionRow(**row | _spans(row)) for row in rows]


def _examples(rows: Sequence[dict[str, Any]]) -> list[ExampleRow]:
    return [ExampleRow(**row | {"images": tuple(map(base64.b64decode, row["images"]))}) for row in rows]


def _spans(row: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(row[name]) if row[name] else None for name in ("think", "answer_span")}


@dataclass
class Target:
    """Where records are put: the run of a store that the first record names."""

    store: Store
    run_id: int | None = None
    job_id: int | None = None
    run_uid: str = ""
    job_uid: str = ""
    stop_requested: int = 0

    def put(self, record: Record) -> None:
        """Store a record. Raises StoreError with nothing stored, or with a part that can safely be put again."""
        if isinstance(record, Begun):
            self._begin(record)
        elif isinstance(record, Belongs):
            self._go_on(record.uid)
        elif self.run_id is None:
            raise StoreError("The records do not begin with a run: nothing was stored.")
        elif isinstance(record, StepRecord):
            ids = add_examples(self.store, record.examples) if record.examples else []
            numbers = [row.get("example") for row in record.rows] if ids else [None] * len(record.completions)
            self.stop_requested = record_step(
                self.store,
                self.run_id,
                record.step,
                record.metrics,
                at=record.at,
                tokens=record.tokens,
                completions=record.with_examples([None if i is None else ids[i] for i in numbers]),
                measured=record.measured,
                job_id=self.job_id,
            )
        elif isinstance(record, Evaluated):
            self._evaluate(record)
        elif isinstance(record, Described):
            self._describe(record)
        elif isinstance(record, Happened):
            add_event(self.store, self.run_id, record.kind, record.message, job_id=self.job_id)
        elif self.job_id is not None:
            state = JobState(record.state)
            failed = state == JobState.FAILED
            end_job(self.store, self.job_id, state, exit_code=1 if failed else 0, error=record.error)
            self.job_id = None

    def _evaluate(self, record: Evaluated) -> None:
        """Store the rows as samples from 1 on: sample 0 would mean greedy."""
        assert self.run_id is not None
        ids = add_examples(self.store, record.examples)
        samples: Counter[int] = Counter()
        rows = []
        for row, place in zip(record.rows, record.places, strict=True):
            samples[place] += 1
            fields = {field.name: getattr(row, field.name) for field in dataclasses.fields(TraceFields)}
            rows.append(PredictionRow(**fields, example_id=ids[place], sample=samples[place]))
        record_evaluation(
            self.store,
            self.run_id,
            rows,
            benchmark=record.name or RECORDED,
            split="eval",
            step=record.step,
            conditions={"recorded": True, "decoding": "sampled by the trainer"},
        )

    def _begin(self, record: Begun) -> None:
        self.run_id = self.run_id if record.step and self.run_id is not None else self._known(record)
        if self.run_id is None:
            self.run_id = create_run(self.store, uid=record.uid, **record.run).id
            if record.at:
                describe_run(self.store, self.run_id, created_at=record.at)
        else:
            if record.step:
                self._close_others(record.process)
                truncate_after(self.store, self.run_id, record.step)
            describe_run(self.store, self.run_id, max_steps=record.run.get("max_steps"))
        with reading(self.store) as connection:
            self.run_uid = connection.scalar(select(Run.uid).where(Run.id == self.run_id)) or ""
        job = self._open_job(record.process) or add_job(self.store, self.run_id, "train", {"recorded": True})
        self.job_id, self.job_uid = job
        with reading(self.store) as connection:
            begun = connection.scalar(select(Job.started_at).where(Job.id == self.job_id))
        if begun is None:
            process = record.process
            start_job(
                self.store,
                self.job_id,
                host=process.host,
                boot_id=process.boot_id,
                pid=process.pid,
                pid_started=process.started,
                log_path=None,
            )

    def _go_on(self, uid: str) -> None:
        open_jobs = select(Job.id, Job.uid).join(Run, Run.id == Job.run_id).where(Run.uid == uid, Job.state.in_(OPEN))
        with reading(self.store) as connection:
            self.run_id = connection.scalar(select(Run.id).where(Run.uid == uid))
            job = connection.execute(open_jobs.order_by(Job.id.desc()).limit(1)).first()
        if self.run_id is None:
            raise StoreError(f"There is no run {uid} in {self.store.where}: name the database that recorded it.")
        self.run_uid = uid
        if job is not None:
            self.job_id, self.job_uid = job

    def _known(self, record: Begun) -> int | None:
        """Return the run of this uid; for a training that continues in a new process, the run of its checkpoint."""
        uid = select(Run.id).where(Run.uid == record.uid)
        same = [
            Run.dataset == RECORDED,
            Run.name == record.run.get("name"),
            Run.output_dir == record.run.get("output_dir"),
        ]
        earlier = select(Run.id).where(*same, Run.step >= record.step).order_by(Run.id.desc()).limit(1)
        with reading(self.store) as connection:
            known = connection.scalar(uid)
            return connection.scalar(earlier) if known is None and record.step else known

    def _close_others(self, process: Process) -> None:
        """Close the jobs of earlier processes that this one continues."""
        others = (Job.run_id == self.run_id, Job.state.in_(OPEN), Job.pid.is_distinct_from(process.pid))
        with reading(self.store) as connection:
            ids = list(connection.scalars(select(Job.id).where(*others)))
        for id in ids:
            end_job(self.store, id, JobState.KILLED, error="Its training went on in another process.")

    def _open_job(self, process: Process) -> tuple[int, str] | None:
        """Return the open job of this process, if the record was put before."""
        own = (Job.run_id == self.run_id, Job.state.in_(OPEN), (Job.pid == process.pid) | Job.pid.is_(None))
        with reading(self.store) as connection:
            row = connection.execute(select(Job.id, Job.uid).where(*own).order_by(Job.id.desc()).limit(1)).first()
        return (row.id, row.uid) if row else None

    def _describe(self, record: Described) -> None:
        columns = dict(record.columns)
        if record.environment:
            with reading(self.store) as connection:
                known = connection.scalar(select(Run.environment).where(Run.id == self.run_id)) or {}
            columns["environment"] = known | record.environment
        assert self.run_id is not None
        describe_run(self.store, self.run_id, **columns)


class Taken(NamedTuple):
    """What a journal contained."""

    run_uid: str
    records: int
    damaged: int


def take_in(store: Store, place: Path) -> list[Taken]:
    """Store the journals of a file or folder, each once: afterwards they are named `taken-…`.

    Raises StoreError when there is none, or when the store refuses a record; then the file stays as it is.
    """
    files = [place] if place.is_file() else sorted(place.glob(f"{PREFIX}-*.jsonl"))
    if not files:
        raise StoreError(f"{place} is no journal and holds none: name a file {PREFIX}-….jsonl, or its folder.")
    return [_take_in(store, path) for path in files]


def _take_in(store: Store, path: Path) -> Taken:
    target = Target(store)
    records = damaged = 0
    for record in read(path):
        if record is None:
            damaged += 1
        else:
            target.put(record)
            records += 1
    if not records:
        raise StoreError(f"{path} is no journal of a recorder: name another file.")
    path.replace(path.with_name(path.name.replace(PREFIX, "taken", 1)))
    return Taken(target.run_uid, records, damaged)
