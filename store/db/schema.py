"""The tables.

A run has jobs (OS processes), steps with metrics, completions in groups, evaluations with predictions, events and
checkpoints. Examples are shared: one can occur in any number of runs. Times are seconds since the epoch, UTC. Portable
SQL only: SQLite and PostgreSQL.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, MetaData, String, Text, UniqueConstraint, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from store.db.domains import TYPES, Figures, Moment, Natural, Numbers, Seed
from store.db.states import ACTIVE as ACTIVE
from store.db.states import CLOSED as CLOSED
from store.db.states import COMES_FROM as COMES_FROM
from store.db.states import OPEN as OPEN
from store.db.states import JobState as JobState
from store.db.states import Launcher as Launcher

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
NAMES_FILES = {"names_files": True}


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = TYPES


class Database(Base):
    """What distinguishes this database from its copies; one row (see `store.ownership`)."""

    __tablename__ = "database"
    uid: Mapped[str] = mapped_column(String(16), primary_key=True)
    place: Mapped[str | None] = mapped_column(Text)
    """Its path or URL when it was last opened for writing; NULL in a copy that has not been opened."""


class Run(Base):
    """One question put to one model: a method, a base model, a dataset and a configuration."""

    __tablename__ = "run"
    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(16), unique=True, info=NAMES_FILES)
    """Public identity, in URLs, on the command line and in exports."""
    name: Mapped[str] = mapped_column(String(200), index=True)
    method: Mapped[str] = mapped_column(String(16))
    """`grpo`, `sft`, `none` (evaluation only), or `unknown` of a run that was imported."""
    style: Mapped[str] = mapped_column(String(16))
    grammar: Mapped[str] = mapped_column(String(16), server_default="ours")
    """How completions are read: `ours` (tags, by `style`), `boxed`, or `none` (as they are)."""
    model: Mapped[str] = mapped_column(String(400))
    dataset: Mapped[str] = mapped_column(String(200))
    lora_rank: Mapped[Natural | None]
    quantization: Mapped[str | None] = mapped_column(String(16))
    seed: Mapped[Seed | None]
    config: Mapped[dict[str, Any]]
    """The resolved RunConfig; for a foreign script, whatever its recorder could see."""
    reward_weights: Mapped[Numbers]
    """Weight of each reward component, in display order."""
    environment: Mapped[dict[str, Any]]
    """Versions, git commit, host and device; filled in when the process starts."""
    prompt: Mapped[str | None] = mapped_column(Text)
    """The fully rendered prompt of one training example."""
    prompt_hash: Mapped[str | None] = mapped_column(String(32))
    sources: Mapped[dict[str, Any]]
    """Source text and hash of rewards that came from a file."""
    output_dir: Mapped[str | None] = mapped_column(String(1000))
    step: Mapped[Natural] = mapped_column(default=0)
    """Updates done so far."""
    max_steps: Mapped[Natural | None]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("run.id", ondelete="SET NULL"))
    note: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[Moment]


class Tag(Base):
    __tablename__ = "tag"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)


class Job(Base):
    """An OS process of a run. The run's status is the state of its latest training job, else latest evaluation."""

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
    """Order in the queue; smaller is earlier."""
    created_at: Mapped[Moment]
    started_at: Mapped[Moment | None]
    ended_at: Mapped[Moment | None]
    host: Mapped[str | None] = mapped_column(String(200))
    device: Mapped[str | None] = mapped_column(String(32).with_variant(String(1000), "postgresql"))
    """Its GPUs by index or uuid, comma-separated, or `cpu`; NULL if it took whatever was free."""
    boot_id: Mapped[str | None] = mapped_column(String(64))
    pid: Mapped[Natural | None]
    pid_started: Mapped[float | None]
    """Process start: clock ticks since boot on Linux, psutil's create time elsewhere."""
    heartbeat: Mapped[Natural] = mapped_column(default=0)
    """A counter; observers time its changes with their own monotonic clock."""
    activity: Mapped[str | None] = mapped_column(String(200))
    """What the process is doing, in words."""
    spoke_at: Mapped[Moment | None]
    """When it last committed a step, an evaluation or an activity."""
    stop_requested: Mapped[Natural] = mapped_column(default=0)
    """0 no, 1 finish the step and save, 2 terminate, 3 kill."""
    exit_code: Mapped[int | None]
    error_kind: Mapped[str | None] = mapped_column(String(32))
    error: Mapped[str | None] = mapped_column(Text)
    """One sentence that says what happened and what to do."""
    traceback: Mapped[str | None] = mapped_column(Text)
    log_path: Mapped[str | None] = mapped_column(String(1000))
    done: Mapped[Natural | None]
    """Progress out of `total`, if the job can count it; otherwise NULL."""
    total: Mapped[Natural | None]


class Journal(Base):
    """How much of a script's journal is in the database; it stays when its run is deleted, so that none comes back."""

    __tablename__ = "journal"
    uid: Mapped[str] = mapped_column(String(16), primary_key=True)
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id", ondelete="SET NULL"))
    """NULL once the run is deleted."""
    job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id", ondelete="SET NULL"))
    """The script's process."""
    next: Mapped[Natural]
    """Number of the first record that is not here."""


class Worker(Base):
    """The process that drains the queue of a host."""

    __tablename__ = "worker"
    host: Mapped[str] = mapped_column(String(200), primary_key=True)
    boot_id: Mapped[str | None] = mapped_column(String(64))
    pid: Mapped[Natural]
    pid_started: Mapped[float | None]
    heartbeat: Mapped[Natural] = mapped_column(default=0)
    started_at: Mapped[Moment]


class Step(Base):
    """An update (SFT, GRPO) of a run; its time and token count are the other two x axes."""

    __tablename__ = "step"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[Natural] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[Moment]
    tokens: Mapped[float | None]
    """Tokens seen since the run began, as the trainer counts them."""
    __table_args__ = {"sqlite_with_rowid": False}


class MetricName(Base):
    __tablename__ = "metric_name"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)


class Metric(Base):
    """A number; NULL where the trainer reported none (never NaN or infinite)."""

    __tablename__ = "metric"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    name_id: Mapped[int] = mapped_column(ForeignKey("metric_name.id"), primary_key=True)
    step: Mapped[Natural] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[float | None]
    __table_args__ = {"sqlite_with_rowid": False}


class Media(Base):
    """An image file, stored once by the SHA-256 of its bytes."""

    __tablename__ = "media"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    mime: Mapped[str] = mapped_column(String(50))
    width: Mapped[Natural]
    height: Mapped[Natural]
    size: Mapped[Natural]


class Example(Base):
    """A question about images with its true count; `dataset/split/key` is its identity everywhere."""

    __tablename__ = "example"
    id: Mapped[int] = mapped_column(primary_key=True)
    dataset: Mapped[str] = mapped_column(String(200))
    split: Mapped[str] = mapped_column(String(50))
    key: Mapped[str] = mapped_column(String(200))
    question: Mapped[str] = mapped_column(Text)
    answer: Mapped[int | None]
    gold: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    """The gold answer of a script's dataset, of any type; `answer` is NULL if it is not a count."""
    prompt: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    """The full prompt, a text or messages; NULL if the question and the run's prompt say it all."""
    columns: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    reference: Mapped[str | None] = mapped_column(Text)
    difficulty: Mapped[str | None] = mapped_column(String(50))
    meta: Mapped[dict[str, Any]]
    __table_args__ = (
        UniqueConstraint("dataset", "split", "key"),
        # Histograms and filters of large sets read this index alone.
        Index("ix_example_facets", "dataset", "split", "difficulty", "answer"),
    )


class ExampleImage(Base):
    __tablename__ = "example_image"
    example_id: Mapped[int] = mapped_column(ForeignKey("example.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[Natural] = mapped_column(primary_key=True, autoincrement=False)
    sha256: Mapped[str] = mapped_column(ForeignKey("media.sha256"), index=True)


class ImageHash(Base):
    """Hashes that recognise an image in another dataset."""

    __tablename__ = "image_hash"
    sha256: Mapped[str] = mapped_column(ForeignKey("media.sha256"), primary_key=True)
    phash: Mapped[int] = mapped_column(BigInteger)
    """The 64 bits of the perceptual hash as a signed number."""
    origin: Mapped[str | None] = mapped_column(String(50))
    """Its number in a public collection, `coco:9` or `vg:107`; NULL if its file name does not say."""


class DatasetIndex(Base):
    """The index of one dataset split; indexing it again replaces the row."""

    __tablename__ = "dataset_index"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    """The name it was asked for by, for example `folder`."""
    path: Mapped[str] = mapped_column(String(1000))
    """Its folder; empty for a dataset that is drawn or downloaded."""
    split: Mapped[str] = mapped_column(String(50))
    dataset: Mapped[str | None] = mapped_column(String(200))
    """The dataset of its examples; NULL until it has been opened."""
    revision: Mapped[str | None] = mapped_column(String(200))
    limit: Mapped[Natural]
    """Number of usable questions to index, counted from the first."""
    state: Mapped[str] = mapped_column(String(16))
    """`starting`, `running`, `finished` or `failed`."""
    done: Mapped[Natural] = mapped_column(default=0)
    """Examples stored so far."""
    error: Mapped[str | None] = mapped_column(Text)
    host: Mapped[str | None] = mapped_column(String(200))
    boot_id: Mapped[str | None] = mapped_column(String(64))
    pid: Mapped[Natural | None]
    pid_started: Mapped[float | None]
    started_at: Mapped[Moment]
    indexed_at: Mapped[Moment | None]
    """When the figures below were found; NULL until an indexing has finished."""
    rows: Mapped[Natural | None]
    """Rows read, usable or not."""
    usable: Mapped[Natural | None]
    images: Mapped[Natural | None]
    """Distinct images of the usable rows."""
    complete: Mapped[bool | None]
    """Whether the split ended before the limit was reached."""
    skipped: Mapped[dict[str, Any]]
    """Number of rows by reason."""
    sizes: Mapped[dict[str, Any]]
    """`width` and `height` of the images in pixels: `min`, `median` and `max`."""
    __table_args__ = (UniqueConstraint("name", "path", "split"),)


class _TraceColumns:
    """A text and what `store.trace.parse` found in it; think and answer are character spans of the text."""

    text: Mapped[str] = mapped_column(Text)
    think_start: Mapped[Natural | None]
    think_end: Mapped[Natural | None]
    answer_start: Mapped[Natural | None]
    answer_end: Mapped[Natural | None]
    answer: Mapped[int | None]
    wellformed: Mapped[bool]
    correct: Mapped[bool | None]
    steps: Mapped[Natural]
    """Number of counted reasoning steps, not capped."""
    tokens: Mapped[Natural | None]
    """Generated tokens, including the end token."""
    truncated: Mapped[bool] = mapped_column(server_default=false())
    reward: Mapped[float | None]
    """Weighted sum."""
    rewards: Mapped[Numbers]
    """Raw value of each reward component."""


class Completion(_TraceColumns, Base):
    """A completion sampled for the update `step`."""

    __tablename__ = "completion"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    step: Mapped[Natural]
    generation: Mapped[Natural]
    """Index of the generation it came from; several updates may share one."""
    group: Mapped[Natural | None]
    """Number of the group within the step (in older databases within the generation); NULL if unknown."""
    index: Mapped[Natural]
    """Number within the group."""
    example_id: Mapped[int | None] = mapped_column(ForeignKey("example.id"))
    advantage: Mapped[float | None]
    __table_args__ = (
        # The first columns find a group; filters with any order read this index alone, without the texts.
        Index(
            "ix_completion_facets",
            *("run_id", "step", "group", "index", "reward", "tokens", "steps", "answer"),
            *("correct", "wellformed", "truncated", "example_id"),
            postgresql_include=["id"],
        ),
        Index("ix_completion_example", "example_id", "run_id", "step"),
    )


class CompletionTokens(Base):
    """Per-token figures of policy and base for a completion; most completions have none.

    Each list has one entry a token, including the end token.
    """

    __tablename__ = "completion_tokens"
    completion_id: Mapped[int] = mapped_column(ForeignKey("completion.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[Natural]
    """Updates behind the policy's weights."""
    exact: Mapped[bool]
    """Whether these are the sampled tokens and weights; if not, the text was tokenized again, under a checkpoint."""
    ends: Mapped[list[Any]]
    """Character index in the text after each token."""
    entropy: Mapped[list[Any]]
    """Entropy in nats of the policy's distribution that each token was drawn from."""
    logp: Mapped[list[Any]]
    """Log-probability of each token under the policy."""
    base_logp: Mapped[list[Any]]
    """The same with the adapter off."""


class StepSummary(Base):
    """The summed completions of one step (see `store.completions.summary`), so that long runs are read without texts.

    Steps of older databases have none until a page asks for them.
    """

    __tablename__ = "step_summary"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[Natural] = mapped_column(primary_key=True, autoincrement=False)
    figures: Mapped[dict[str, Any]]
    __table_args__ = {"sqlite_with_rowid": False}


class Evaluation(Base):
    """One benchmark run on one checkpoint under stated conditions."""

    __tablename__ = "evaluation"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), index=True)
    benchmark: Mapped[str] = mapped_column(String(200))
    """Dataset name, for example `shapes-simple`."""
    split: Mapped[str] = mapped_column(String(50))
    kind: Mapped[str] = mapped_column(String(16))
    """`probe`, `val`, `test`; `baseline` (a test on partial input); `thinking` (a test with altered think bodies)."""
    step: Mapped[Natural]
    """Updates behind the weights; 0 is the base."""
    conditions: Mapped[dict[str, Any]]
    """Prompt hash, pixels, decoding, token limit, forced prefix: everything that must agree for a comparison."""
    conditions_hash: Mapped[str] = mapped_column(String(32))
    encoder: Mapped[str | None] = mapped_column(String(200))
    total: Mapped[Natural]
    done: Mapped[Natural] = mapped_column(default=0)
    metrics: Mapped[Figures]
    started_at: Mapped[Moment]
    ended_at: Mapped[Moment | None]


class Prediction(_TraceColumns, Base):
    """An answer in an evaluation; sample 0 is greedy, 1..K are sampled."""

    __tablename__ = "prediction"
    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluation.id", ondelete="CASCADE"))
    example_id: Mapped[int] = mapped_column(ForeignKey("example.id"))
    sample: Mapped[Natural]
    similarity: Mapped[float | None]
    """Cosine similarity of the think body and the reference, under the evaluation's encoder."""
    seconds: Mapped[float | None]
    """Seconds: the batch's time divided by its size."""
    __table_args__ = (
        UniqueConstraint("evaluation_id", "example_id", "sample"),
        Index("ix_prediction_example", "example_id"),
    )


class Encoder(Base):
    """A sentence encoder at one version; another version is another row."""

    __tablename__ = "encoder"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    version: Mapped[str] = mapped_column(String(64))
    """Hash of weights, tokenizer and settings."""
    dimension: Mapped[Natural]
    used_at: Mapped[Moment]
    """When it was last loaded."""
    __table_args__ = (UniqueConstraint("name", "version"),)


class Embedding(Base):
    """The vector of one text under one encoder."""

    __tablename__ = "embedding"
    encoder_id: Mapped[int] = mapped_column(ForeignKey("encoder.id", ondelete="CASCADE"), primary_key=True)
    text_hash: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    """See `store.embeddings.text_hash`."""
    vector: Mapped[bytes]
    """A unit vector, 16-bit floats, little-endian."""


class TraceTag(Base):
    """A tag on a completion or a prediction; exactly one of the two is set."""

    __tablename__ = "trace_tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    completion_id: Mapped[int | None] = mapped_column(ForeignKey("completion.id", ondelete="CASCADE"))
    prediction_id: Mapped[int | None] = mapped_column(ForeignKey("prediction.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(100), index=True)
    __table_args__ = (UniqueConstraint("completion_id", "name"), UniqueConstraint("prediction_id", "name"))


class TraceNote(Base):
    """A note on a completion or a prediction; exactly one of the two is set."""

    __tablename__ = "trace_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    completion_id: Mapped[int | None] = mapped_column(ForeignKey("completion.id", ondelete="CASCADE"), unique=True)
    prediction_id: Mapped[int | None] = mapped_column(ForeignKey("prediction.id", ondelete="CASCADE"), unique=True)
    text: Mapped[str] = mapped_column(Text)


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


class Experiment(Base):
    """Runs that were launched together to be compared."""

    __tablename__ = "experiment"
    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(16), unique=True, info=NAMES_FILES)
    name: Mapped[str] = mapped_column(String(200))
    matrix: Mapped[dict[str, Any]]
    """The factors of the experiment: arms, ranks, seeds, models, learning rates, and the benchmarks of all."""
    created_at: Mapped[Moment]


class ExperimentRun(Base):
    __tablename__ = "experiment_run"
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiment.id", ondelete="CASCADE"), primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True, index=True)
    arm: Mapped[str] = mapped_column(String(100))
    """The arm of the experiment that the run belongs to."""


class Checkpoint(Base):
    __tablename__ = "checkpoint"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), index=True)
    step: Mapped[Natural]
    kind: Mapped[str] = mapped_column(String(16))
    """`last`, `best` or `final`; one row each."""
    path: Mapped[str] = mapped_column(String(1000))
    value: Mapped[float | None]
    """The validation accuracy it was chosen by."""
    created_at: Mapped[Moment]
    __table_args__ = (UniqueConstraint("run_id", "kind"),)
