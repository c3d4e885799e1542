"""The tables.

A run has jobs (OS processes), steps with metrics, completions in groups, evaluations with predictions, events and
checkpoints. Examples are shared by any number of runs. Times are seconds since the epoch (UTC). SQL is portable between
SQLite and PostgreSQL.
"""

from store.db.schema.base import Base, Database
from store.db.schema.curves import Metric, MetricName, MetricRollup, RolledUp, Step
from store.db.schema.examples import DatasetIndex, Example, ExampleImage, ImageHash, Media
from store.db.schema.runs import Checkpoint, Event, Experiment, ExperimentRun, Job, Journal, Run, Tag, Worker
from store.db.schema.surroundings import Code, MachineSample, SavedView
from store.db.schema.traces import (
    Completion,
    CompletionTokens,
    Embedding,
    Encoder,
    Evaluation,
    Prediction,
    StepSummary,
    TraceNote,
    TraceTag,
)

__all__ = [
    "Base",
    "Checkpoint",
    "Code",
    "Completion",
    "CompletionTokens",
    "Database",
    "DatasetIndex",
    "Embedding",
    "Encoder",
    "Evaluation",
    "Event",
    "Example",
    "ExampleImage",
    "Experiment",
    "ExperimentRun",
    "ImageHash",
    "Job",
    "Journal",
    "MachineSample",
    "Media",
    "Metric",
    "MetricName",
    "MetricRollup",
    "Prediction",
    "RolledUp",
    "Run",
    "SavedView",
    "Step",
    "StepSummary",
    "Tag",
    "TraceNote",
    "TraceTag",
    "Worker",
]
