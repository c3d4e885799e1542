"""Completions, evaluations with predictions, and users' tags and notes on them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from store.db.domains import Figures, Moment, Natural, Numbers
from store.db.schema.base import Base


class _TraceColumns:
    """A text and the results of `store.trace.parse`; think and answer are character spans of the text."""

    text: Mapped[str] = mapped_column(Text)
    think_start: Mapped[Natural | None]
    think_end: Mapped[Natural | None]
    answer_start: Mapped[Natural | None]
    answer_end: Mapped[Natural | None]
    answer: Mapped[int | None]
    wellformed: Mapped[bool]
    correct: Mapped[bool | None]
    reasoning_steps: Mapped[Natural]
    """Number of counted reasoning steps, without a cap."""
    tokens: Mapped[Natural | None]
    """Generated tokens, including the end token."""
    truncated: Mapped[bool] = mapped_column(server_default=false())
    reward: Mapped[float | None]
    """Weighted sum."""
    rewards: Mapped[Numbers]
    """Unweighted value of each reward component."""


class Completion(_TraceColumns, Base):
    """A completion sampled for the update `step`."""

    __tablename__ = "completion"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"))
    step: Mapped[Natural]
    generation: Mapped[Natural]
    """Number of the generation from which it comes; several updates may share one."""
    group: Mapped[Natural | None]
    """Number of the group in the step (in older databases: in the generation); NULL if unknown."""
    index: Mapped[Natural]
    """Number in the group."""
    example_id: Mapped[int | None] = mapped_column(ForeignKey("example.id"))
    advantage: Mapped[float | None]
    __table_args__ = (
        # The first columns find a group; filters with any order read only this index, without the texts.
        Index(
            "ix_completion_facets",
            *("run_id", "step", "group", "index", "reward", "tokens", "reasoning_steps", "answer"),
            *("correct", "wellformed", "truncated", "example_id"),
            postgresql_include=["id"],
        ),
        Index("ix_completion_example", "example_id", "run_id", "step"),
    )


class CompletionTokens(Base):
    """Per-token measurements of policy and base for a completion; most completions have none.

    Each list has one entry per token, including the end token.
    """

    __tablename__ = "completion_tokens"
    completion_id: Mapped[int] = mapped_column(ForeignKey("completion.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[Natural]
    """Number of updates after which the policy was measured."""
    exact: Mapped[bool]
    """Whether these are the sampled tokens and weights; if not, the text was tokenized again for a checkpoint."""
    ends: Mapped[list[Any]]
    """Index of the character after each token in the text."""
    entropy: Mapped[list[Any]]
    """Entropy in nats of the policy's distribution from which each token was sampled."""
    logp: Mapped[list[Any]]
    """Log-probability of each token under the policy."""
    base_logp: Mapped[list[Any]]
    """The same with the adapter off."""


class StepSummary(Base):
    """The summary of one step's completions (`store.completions.summary`), so that long runs are read without texts.

    Steps of older databases have none until a page asks for them.
    """

    __tablename__ = "step_summary"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[Natural] = mapped_column(primary_key=True, autoincrement=False)
    figures: Mapped[dict[str, Any]]
    __table_args__ = {"sqlite_with_rowid": False}


class Evaluation(Base):
    """One benchmark on one checkpoint under recorded conditions."""

    __tablename__ = "evaluation"
    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), index=True)
    benchmark: Mapped[str] = mapped_column(String(200))
    """Dataset name, for example `shapes-simple`."""
    split: Mapped[str] = mapped_column(String(50))
    kind: Mapped[str] = mapped_column(String(16))
    """`probe`, `val`, `test`; `baseline` (a test on partial input); `thinking` (a test with altered think bodies)."""
    step: Mapped[Natural]
    """Number of updates after which the weights were evaluated; 0 is the base."""
    conditions: Mapped[dict[str, Any]]
    """Everything that must agree for a comparison: prompt hash, pixels, decoding, token limit, forced prefix."""
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
    """Cosine similarity of the think body and the reference, by the evaluation's encoder."""
    seconds: Mapped[float | None]
    """In seconds: the duration of the batch divided by its size."""
    __table_args__ = (
        UniqueConstraint("evaluation_id", "example_id", "sample"),
        Index("ix_prediction_example", "example_id"),
    )


class Encoder(Base):
    """One version of a sentence encoder."""

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
    """A unit vector of little-endian 16-bit floats."""


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
