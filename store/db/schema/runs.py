"""Runs, their jobs, events, checkpoints and experiments."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from store.db.domains import Moment, Natural, Numbers, Seed
from store.db.schema.base import NAMES_FILES, Base
from store.db.states import JobState, Launcher


class Run(Base):
    """One training or evaluation: a method, a base model, a dataset and a configuration."""

    __tablename__ = "run"
    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(16), unique=True, info=NAMES_FILES)
    """Public id, used in URLs, on the command line and in exports."""
    name: Mapped[str] = mapped_column(String(200), index=True)
    method: Mapped[str] = mapped_column(String(16))
    """`grpo`, `sft`, `none` (evaluation only), a script's own method, or `unknown`."""
    style: Mapped[str] = mapped_column(String(16))
    grammar: Mapped[str] = mapped_column(String(16), server_default="ours")
    """How completions are parsed: `ours` (tags, by `style`), `boxed`, or `none` (not at all)."""
    model: Mapped[str] = mapped_column(String(400))
    dataset: Mapped[str] = mapped_column(String(200))
    lora_rank: Mapped[Natural | None]
    quantization: Mapped[str | None] = mapped_column(String(16))
    seed: Mapped[Seed | None]
    config: Mapped[dict[str, Any]]
    """The resolved RunConfig; for a script, the configuration that its recorder found."""
    reward_weights: Mapped[Numbers]
    """Weight of each reward component, in display order."""
    environment: Mapped[dict[str, Any]]
    """Versions, git commit, host and device; set when the process starts."""
    prompt: Mapped[str | None] = mapped_column(Text)
    """The rendered prompt of one training example."""
    prompt_hash: Mapped[str | None] = mapped_column(String(32))
    sources: Mapped[dict[str, Any]]
    """Source code and hash of rewards from files."""
    output_dir: Mapped[str | None] = mapped_column(String(1000))
    step: Mapped[Natural] = mapped_column(default=0)
    """Number of completed updates."""
    max_steps: Mapped[Natural | None]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("run.id", ondelete="SET NULL"))
    note: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[Moment]


class Tag(Base):
    __tablename__ = "tag"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)


class Job(Base):
    """An OS process of a run. A run's status is the state of its latest training job, or else latest evaluation."""

    __tablename__ = "job"
    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(16), unique=True, info=NAMES_FILES)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    """`train`, `evaluate`, `embed` or `tokens`."""
    arguments: Mapped[dict[str, Any]]
    launcher: Mapped[str] = mapped_column(String(16), server_default=Launcher.LOCAL, info={"one_of": tuple(Launcher)})
    state: Mapped[str] = mapped_column(String(16), index=True, info={"one_of": tuple(JobState)})
    position: Mapped[float]
    """Position in the queue; smaller is earlier."""
    created_at: Mapped[Moment]
    started_at: Mapped[Moment | None]
    ended_at: Mapped[Moment | None]
    host: Mapped[str | None] = mapped_column(String(200))
    device: Mapped[str | None] = mapped_column(String(32).with_variant(String(1000), "postgresql"))
    """Its GPUs by index or uuid, comma-separated, or `cpu`; NULL if none was assigned."""
    boot_id: Mapped[str | None] = mapped_column(String(64))
    pid: Mapped[Natural | None]
    pid_started: Mapped[float | None]
    """Start of the process: clock ticks since boot on Linux, psutil's create time elsewhere."""
    heartbeat: Mapped[Natural] = mapped_column(default=0)
    """A counter whose changes observers time with their own monotonic clock."""
    activity: Mapped[str | None] = mapped_column(String(200))
    """What the process is doing, in words."""
    spoke_at: Mapped[Moment | None]
    """When it last committed a step, an evaluation or an activity; for a script, when it last reported."""
    stop_requested: Mapped[Natural] = mapped_column(default=0)
    """0: no, 1: finish the step and save, 2: terminate, 3: kill."""
    exit_code: Mapped[int | None]
    error_kind: Mapped[str | None] = mapped_column(String(32))
    error: Mapped[str | None] = mapped_column(Text)
    """What went wrong and what to do, in one sentence."""
    traceback: Mapped[str | None] = mapped_column(Text)
    log_path: Mapped[str | None] = mapped_column(String(1000))
    done: Mapped[Natural | None]
    """Progress out of `total`, or NULL if the job cannot count it."""
    total: Mapped[Natural | None]


class Journal(Base):
    """How much of a script's journal is stored. It stays when the run is deleted, so that the run does not return."""

    __tablename__ = "journal"
    uid: Mapped[str] = mapped_column(String(16), primary_key=True)
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id", ondelete="SET NULL"))
    """NULL once the run is deleted."""
    job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id", ondelete="SET NULL"))
    """The script's process."""
    next: Mapped[Natural]
    """Number of the first record that is not stored yet."""


class Worker(Base):
    """The process that runs a host's queued jobs."""

    __tablename__ = "worker"
    host: Mapped[str] = mapped_column(String(200), primary_key=True)
    boot_id: Mapped[str | None] = mapped_column(String(64))
    pid: Mapped[Natural]
    pid_started: Mapped[float | None]
    heartbeat: Mapped[Natural] = mapped_column(default=0)
    started_at: Mapped[Moment]


class Event(Base):
    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id", ondelete="CASCADE"))
    at: Mapped[Moment]
    step: Mapped[Natural | None]
    kind: Mapped[str] = mapped_column(String(32))
    """`launched`, `started`, `checkpoint`, `evaluation`, `stop_asked`, `recording_failed`, the end of a job, …"""
    message: Mapped[str] = mapped_column(Text)


class Checkpoint(Base):
    __tablename__ = "checkpoint"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), index=True)
    step: Mapped[Natural]
    kind: Mapped[str] = mapped_column(String(16))
    """`last`, `best` or `final`; one row each."""
    path: Mapped[str] = mapped_column(String(1000))
    value: Mapped[float | None]
    """The validation accuracy by which it was chosen."""
    created_at: Mapped[Moment]
    __table_args__ = (UniqueConstraint("run_id", "kind"),)


class Experiment(Base):
    """Runs that were launched together for comparison."""

    __tablename__ = "experiment"
    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(16), unique=True, info=NAMES_FILES)
    name: Mapped[str] = mapped_column(String(200))
    matrix: Mapped[dict[str, Any]]
    """The factors of the experiment (arms, ranks, seeds, models, learning rates) and the benchmarks of all runs."""
    created_at: Mapped[Moment]


class ExperimentRun(Base):
    __tablename__ = "experiment_run"
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiment.id", ondelete="CASCADE"), primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True, index=True)
    arm: Mapped[str] = mapped_column(String(100))
    """The run's arm of the experiment."""
