"""Immutable rows that the store takes and returns.

The first half is written by the trainer, the second half is read by the dashboard. Times are seconds since the epoch,
UTC; spans are character positions (start, end) in `text`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]


class RunRef(NamedTuple):
    id: int
    uid: str


class JobRef(NamedTuple):
    id: int
    uid: str


@dataclass(frozen=True, kw_only=True)
class TraceFields:
    """A text, and what `store.trace.parse` and the rewards found in it."""

    text: str
    think: Span | None = None
    answer_span: Span | None = None
    answer: int | None = None
    wellformed: bool
    correct: bool | None = None
    reasoning_steps: int = 0
    """Number of counted reasoning steps, not capped."""
    tokens: int | None = None
    """Generated tokens, including the end token."""
    truncated: bool = False
    reward: float | None = None
    """Weighted sum."""
    rewards: dict[str, float | None] = field(default_factory=dict)
    """Raw value of each reward component."""

    @property
    def think_text(self) -> str | None:
        return self.text[slice(*self.think)] if self.think else None


@dataclass(frozen=True, kw_only=True)
class CompletionRow(TraceFields):
    """A completion sampled for an update: number `index` of group number `group` of the step."""

    generation: int
    group: int | None
    index: int
    example_id: int | None = None
    advantage: float | None = None


class TokenRow(NamedTuple):
    """Per-token figures of a completion, including the end token; None for a figure that is not finite."""

    ends: tuple[int, ...]
    """Character index in the text after each token."""
    entropy: tuple[float | None, ...]
    """Entropy in nats of the policy's distribution that each token was drawn from."""
    logp: tuple[float | None, ...]
    """Log-probability of each token under the policy."""
    base_logp: tuple[float | None, ...]
    """The same under the weights that the run started from: the base, or the adapter that it was given."""


class StoredTokens(NamedTuple):
    step: int
    """Updates behind the policy's weights."""
    exact: bool
    """Whether these are the sampled tokens and weights; if not, the text was tokenized again, under a checkpoint."""
    tokens: TokenRow


@dataclass(frozen=True, kw_only=True)
class PredictionRow(TraceFields):
    """An answer in an evaluation; sample 0 is greedy, 1..K are sampled."""

    example_id: int
    sample: int = 0
    similarity: float | None = None
    seconds: float | None = None
    """Seconds: the batch's time divided by its size."""


@dataclass(frozen=True, kw_only=True)
class ExampleRow:
    """A question with its images as encoded bytes (PNG, JPEG, WebP or GIF)."""

    dataset: str
    split: str
    key: str
    question: str
    answer: int | None
    reference: str | None = None
    difficulty: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    gold: Any = None
    """The gold answer of any type, if `answer` (a count) cannot hold it."""
    prompt: Any = None
    """The whole prompt, a text or messages, if it is more than the question."""
    columns: dict[str, Any] | None = None
    """Other columns of a script's dataset row."""
    images: tuple[bytes, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StoredCompletion(CompletionRow):
    id: int
    run_id: int
    step: int
    example: str | None
    """`dataset/split/key`."""
    truth: int | None


@dataclass(frozen=True, kw_only=True)
class StoredPrediction(PredictionRow):
    id: int
    evaluation_id: int
    step: int
    benchmark: str
    kind: str
    example: str
    """`dataset/split/key`."""
    truth: int | None


class StoredExample(NamedTuple):
    id: int
    dataset: str
    split: str
    key: str
    question: str
    answer: int | None
    reference: str | None
    difficulty: str | None
    meta: dict[str, Any]
    images: tuple[str, ...]
    """SHA-256 of each image, in order; see `store.media.rows.get_media`."""
    gold: Any = None
    prompt: Any = None
    columns: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        return f"{self.dataset}/{self.split}/{self.key}"


class GroupRow(NamedTuple):
    """The completions of one example at one step, by index."""

    step: int
    group: int | None
    example: StoredExample | None
    completions: list[StoredCompletion]


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
    """A line of the runs table."""

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
    """State of the latest training job, or of the latest job of a run without training; None without any job."""
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

    Of one on the run's own dataset, if there is any.
    """
    evaluation_kind: str | None = None
    evaluation_step: int | None = None
    broken: str | None = None
    """What is wrong with the run's rows, if they cannot be shown; None for nearly every run."""
    sparkline: tuple[float, ...] = ()
    """At most 40 values of `reward` (else `probe/reward`), evenly spaced over the steps."""

    @property
    def accuracy(self) -> float | None:
        """Exact match of greedy answers; probes of earlier versions have it under another name."""
        found = self.evaluation or {}
        return found.get("exact_match", found.get("accuracy"))

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
    """Everything about one run except its measurements."""

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
    """The latest training job, or the latest job of a run without training."""
    grammar: str = "ours"

    @property
    def status(self) -> str | None:
        return self.job.state if self.job else None


class Series(NamedTuple):
    """A metric over steps; `total` counts its points in the database, of which this may be a selection."""

    step: NDArray[np.int64]
    value: NDArray[np.float64]
    """NaN where the trainer reported none."""
    total: int


class Band(NamedTuple):
    """A metric over ranges of `width` steps: one entry for each range that holds a known value.

    With a width of 1 these are the values themselves, and `low`, `mean` and `high` are equal.
    """

    width: int
    step: NDArray[np.int64]
    """First step of each range: a multiple of the width."""
    n: NDArray[np.int64]
    """Number of known values in it."""
    low: NDArray[np.float64]
    mean: NDArray[np.float64]
    high: NDArray[np.float64]


class Clock(NamedTuple):
    """When each step was recorded, and the tokens seen until then (NaN if unknown)."""

    step: NDArray[np.int64]
    at: NDArray[np.float64]
    tokens: NDArray[np.float64]


class StepBounds(NamedTuple):
    """The range of steps that have completions."""

    first: int
    last: int
    count: int  # type: ignore[assignment]  # hides tuple.count


class EvaluationRow(NamedTuple):
    id: int
    run_id: int
    benchmark: str
    split: str
    kind: str
    step: int
    conditions: dict[str, Any]
    conditions_hash: str
    encoder: str | None
    total: int
    done: int
    metrics: dict[str, Any]
    started_at: float
    ended_at: float | None


class ExperimentRow(NamedTuple):
    id: int
    uid: str
    name: str
    matrix: dict[str, Any]
    created_at: float
    arms: dict[int, str]
    """The arm of the experiment, by run id."""


class Scores(NamedTuple):
    """The greedy predictions of an evaluation, one entry an example, by example id."""

    evaluation_id: int
    example_id: NDArray[np.int64]
    prediction_id: NDArray[np.int64]
    image: NDArray[np.str_]
    """SHA-256 of the first image; questions about one image are not independent."""
    truth: NDArray[np.float64]
    answer: NDArray[np.float64]
    """NaN where the answer could not be read."""
    correct: NDArray[np.float64]
    """1.0 or 0.0."""
    similarity: NDArray[np.float64]
    """NaN where there is none."""


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


class MediaRow(NamedTuple):
    sha256: str
    mime: str
    width: int
    height: int
    size: int
    """Bytes."""


class IndexRow(NamedTuple):
    """A dataset split's index, and the process that builds it; see `store.db.schema.DatasetIndex`."""

    id: int
    name: str
    path: str
    split: str
    dataset: str | None
    revision: str | None
    limit: int
    state: str
    done: int
    error: str | None
    host: str | None
    boot_id: str | None
    pid: int | None
    pid_started: float | None
    started_at: float
    indexed_at: float | None
    rows: int | None
    usable: int | None
    images: int | None
    complete: bool | None
    skipped: dict[str, int]
    sizes: dict[str, dict[str, float]]


class ImageHashRow(NamedTuple):
    """Hashes that recognise an image in another dataset; `phash` is 64 bits, unsigned."""

    sha256: str
    phash: int
    origin: str | None
    """Number in a public collection: `coco:9` or `vg:107`, or None."""


class SplitRow(NamedTuple):
    """A split of a dataset whose examples are in the store."""

    dataset: str
    split: str
    examples: int


class Bar(NamedTuple):
    """The number of a split's examples with this difficulty and true count."""

    split: str
    difficulty: str | None
    answer: int | None
    examples: int


class Pictures(NamedTuple):
    """The hashed images of a split: one entry for each pair of image and example, by image."""

    example_id: NDArray[np.int64]
    sha256: NDArray[np.str_]
    phash: NDArray[np.uint64]
    origin: NDArray[np.str_]
    """Empty if unknown."""


class Verdicts(NamedTuple):
    """The greedy predictions of one finished test; both arrays by example."""

    evaluation_id: int
    run_id: int
    run_name: str
    run_uid: str
    step: int
    example_id: NDArray[np.int64]
    correct: NDArray[np.bool_]
