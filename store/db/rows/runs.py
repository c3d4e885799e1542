"""Rows of runs, their jobs, and what happened to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class RunRef(NamedTuple):
    id: int
    uid: str


class JobRef(NamedTuple):
    id: int
    uid: str


class JobRow(NamedTuple):
    id: int
    uid: str
    run_id: int
    run_uid: str
    run_name: str
    kind: str
    arguments: dict[str, Any]
    launcher: str
    state: str
    position: float
    created_at: float
    started_at: float | None
    ended_at: float | None
    host: str | None
    device: str | None
    boot_id: str | None
    pid: int | None
    pid_started: float | None
    heartbeat: int
    activity: str | None
    spoke_at: float | None
    stop_requested: int
    exit_code: int | None
    error_kind: str | None
    error: str | None
    traceback: str | None
    log_path: str | None
    done: int | None
    total: int | None


class WorkerRow(NamedTuple):
    host: str
    boot_id: str | None
    pid: int
    pid_started: float | None
    heartbeat: int
    started_at: float


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A row of the runs table."""

    id: int
    uid: str
    name: str
    method: str
    style: str
    model: str
    dataset: str
    lora_rank: int | None
    quantization: str | None
    seed: int | None
    step: int
    max_steps: int | None
    created_at: float
    parent_id: int | None
    status: str | None
    """State of the latest training job, or of the latest job if the run has no training; None without jobs."""
    job_id: int | None
    job_uid: str | None
    job_kind: str | None
    host: str | None
    activity: str | None
    spoke_at: float | None
    heartbeat: int | None
    started_at: float | None
    ended_at: float | None
    error: str | None
    grammar: str = "ours"
    tags: tuple[str, ...] = ()
    seconds_per_step: float | None = None
    """Median over the latest steps."""
    tokens_per_second: float | None = None
    evaluation: dict[str, Any] | None = None
    """Metrics of the newest finished `test`, `val` or `probe` (`n`, `exact_match`, `exact_match_low`, …).

    Evaluations on the run's own dataset take precedence.
    """
    evaluation_kind: str | None = None
    evaluation_step: int | None = None
    broken: str | None = None
    """What is wrong with the run's rows if they are invalid; None for nearly every run."""
    sparkline: tuple[float, ...] = ()
    """At most 40 values of `reward` (or else `probe/reward`) at evenly spaced steps."""

    @property
    def accuracy(self) -> float | None:
        """Exact match of greedy answers; probes of earlier versions store it under another name."""
        metrics = self.evaluation or {}
        return metrics.get("exact_match", metrics.get("accuracy"))

    @property
    def accuracy_low(self) -> float | None:
        return (self.evaluation or {}).get("exact_match_low")

    @property
    def accuracy_high(self) -> float | None:
        return (self.evaluation or {}).get("exact_match_high")

    @property
    def accuracy_n(self) -> int | None:
        return (self.evaluation or {}).get("n")


@dataclass(frozen=True, kw_only=True)
class RunDetail:
    """All data of a run except its metrics, completions and evaluations."""

    id: int
    uid: str
    name: str
    method: str
    style: str
    model: str
    dataset: str
    lora_rank: int | None
    quantization: str | None
    seed: int | None
    config: dict[str, Any]
    reward_weights: dict[str, float]
    environment: dict[str, Any]
    prompt: str | None
    prompt_hash: str | None
    sources: dict[str, Any]
    output_dir: str | None
    step: int
    max_steps: int | None
    parent_id: int | None
    note: str | None
    created_at: float
    tags: tuple[str, ...]
    job: JobRow | None
    """The latest training job, or the latest job if the run has no training."""
    grammar: str = "ours"

    @property
    def status(self) -> str | None:
        return self.job.state if self.job else None


class ExperimentRow(NamedTuple):
    id: int
    uid: str
    name: str
    matrix: dict[str, Any]
    created_at: float
    arms: dict[int, str]
    """Arms of the experiment by run id."""


class EventRow(NamedTuple):
    id: int
    run_id: int
    job_id: int | None
    at: float
    step: int | None
    kind: str
    message: str


class CheckpointRow(NamedTuple):
    id: int
    run_id: int
    step: int
    kind: str
    path: str
    value: float | None
    created_at: float
