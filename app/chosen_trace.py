"""The trace named in the URL, by `completion=ID` or `prediction=ID`."""

from __future__ import annotations

from app.shared import data, links
from store.completions.rows import get_completion
from store.db.engine import StoreError
from store.db.rows import StoredCompletion, StoredPrediction
from store.evaluations.predictions import get_prediction
from store.evaluations.records import run_of_evaluation

Trace = StoredCompletion | StoredPrediction


def find() -> Trace | None:
    """Return the trace in the URL, if any. Raises StoreError if it no longer exists."""
    if (number := links.number("completion")) is not None:
        return get_completion(data.reader(), number)
    if (number := links.number("prediction")) is not None:
        return get_prediction(data.reader(), number)
    return None


def run_id() -> int | None:
    """Return the run of the trace in the URL."""
    try:
        trace = find()
    except StoreError:
        return None
    if isinstance(trace, StoredPrediction):
        return run_of_evaluation(data.reader(), trace.evaluation_id)
    return trace.run_id if trace is not None else None
