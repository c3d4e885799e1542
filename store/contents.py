"""Determine which data a run has (answers, questions, evaluations), whatever recorded it.

Pages show the parts for which there is data, and say what is missing for the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, exists, select

from store.db.connection import Store, reading
from store.db.schema import Completion, Evaluation, Example, ExampleImage, Prediction, Run
from store.trace import Form, form_of


class Answers(NamedTuple):
    """Whether there are answers, and whether any of them, or of their questions, has each kind of data."""

    any: bool = False
    judged: bool = False
    """Known to be right or wrong."""
    counted: bool = False
    """With an answer that was parsed as a count."""
    rewarded: bool = False
    lengths: bool = False
    groups: bool = False
    """Groups of two or more answers to one prompt that are compared with each other."""
    true_counts: bool = False
    references: bool = False
    images: bool = False


class Contents(NamedTuple):
    """The data of a run; `form` is how its texts are parsed."""

    form: Form
    sampled: Answers
    """Completions of its training."""
    evaluated: Answers
    """Predictions of its finished evaluations."""

    @property
    def at_evaluations(self) -> Contents:
        """Return the same without training completions."""
        return self._replace(sampled=Answers())

    @property
    def answers(self) -> Answers:
        """Return the answers during training, or else those of evaluations."""
        return self.sampled if self.sampled.any else self.evaluated


def read_contents(store: Store, run_id: int) -> Contents:
    """Return which data a run has; empty if the run does not exist."""
    finished = select(Evaluation.id).where(Evaluation.run_id == run_id, Evaluation.ended_at.is_not(None))
    with reading(store) as connection:
        row = connection.execute(select(Run.style, Run.grammar).where(Run.id == run_id)).first()
        return Contents(
            form_of(row.style, row.grammar) if row else "none",
            _answers(connection, Completion, Completion.run_id == run_id, _in_groups()),
            _answers(connection, Prediction, Prediction.evaluation_id.in_(finished), Prediction.sample > 0),
        )


def _in_groups() -> ColumnElement[bool]:
    return Completion.group.is_not(None) & (Completion.index > 0)


def _answers(
    connection: Connection, table: Any, condition: ColumnElement[bool], grouped: ColumnElement[bool]
) -> Answers:
    """Query each kind of data separately: for most runs, the first row already answers the query."""
    example_ids = select(table.example_id).where(condition)
    pictures = exists().where(ExampleImage.example_id == Example.id)
    facts = (
        exists().where(condition),
        exists().where(condition, table.correct.is_not(None)),
        exists().where(condition, table.answer.is_not(None)),
        exists().where(condition, table.reward.is_not(None)),
        exists().where(condition, table.tokens.is_not(None)),
        exists().where(condition, grouped),
        exists().where(Example.id.in_(example_ids), Example.answer.is_not(None)),
        exists().where(Example.id.in_(example_ids), Example.reference.is_not(None)),
        exists().where(Example.id.in_(example_ids), pictures),
    )
    row = connection.execute(select(*(fact.label(f"fact{i}") for i, fact in enumerate(facts)))).one()
    return Answers(*map(bool, row))
