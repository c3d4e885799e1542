"""Immutable rows that the store takes and returns.

Times are seconds since the epoch (UTC); spans are character positions (start, end) in `text`.
"""

from store.db.rows.curves import Band, Clock, Series, StepBounds
from store.db.rows.examples import (
    Bar,
    ExampleRow,
    ImageHashRow,
    IndexRow,
    MediaRow,
    Pictures,
    SplitRow,
    StoredExample,
    Verdicts,
)
from store.db.rows.runs import (
    CheckpointRow,
    EventRow,
    ExperimentRow,
    JobRef,
    JobRow,
    RunDetail,
    RunRef,
    RunRow,
    WorkerRow,
)
from store.db.rows.traces import (
    CompletionRow,
    EvaluationRow,
    GroupRow,
    PredictionRow,
    Scores,
    Span,
    StoredCompletion,
    StoredPrediction,
    StoredTokens,
    TokenRow,
    TraceFields,
)

__all__ = [
    "Band",
    "Bar",
    "CheckpointRow",
    "Clock",
    "CompletionRow",
    "EvaluationRow",
    "EventRow",
    "ExampleRow",
    "ExperimentRow",
    "GroupRow",
    "ImageHashRow",
    "IndexRow",
    "JobRef",
    "JobRow",
    "MediaRow",
    "Pictures",
    "PredictionRow",
    "RunDetail",
    "RunRef",
    "RunRow",
    "Scores",
    "Series",
    "Span",
    "SplitRow",
    "StepBounds",
    "StoredCompletion",
    "StoredExample",
    "StoredPrediction",
    "StoredTokens",
    "TokenRow",
    "TraceFields",
    "Verdicts",
    "WorkerRow",
]
