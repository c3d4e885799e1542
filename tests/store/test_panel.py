"""The examples that are answered again and again."""

from __future__ import annotations

from store.db.engine import Store
from store.evaluations import panel
from store.evaluations.panel import PanelExample
from store.evaluations.records import begin_evaluation, record_predictions
from store.examples import add_examples
from tests.store import make


def evaluate(store: Store, run_id: int, kind: str, step: int, *rows: tuple[int, int, bool]) -> None:
    """An evaluation with rows of example, sample and verdict."""
    settings = {"benchmark": "b", "split": "val", "kind": kind, "step": step, "conditions": {}}
    evaluation = begin_evaluation(store, run_id, encoder=None, total=len(rows), **settings)
    said = [make.prediction(id, sample, correct=right, text=f"{kind} {step}") for id, sample, right in rows]
    record_predictions(store, evaluation, said)


def test_the_panel_is_what_probes_answer_greedily(store: Store) -> None:
    run_id, other = make.run(store).id, make.run(store).id
    a, b, c = add_examples(store, [make.example(key) for key in "abc"])
    evaluate(store, run_id, "probe", 0, (a, 0, False), (a, 1, True), (b, 0, True))
    evaluate(store, run_id, "probe", 10, (a, 0, True), (c, 0, True))
    evaluate(store, run_id, "val", 10, (a, 0, False), (b, 0, False), (c, 0, False))
    evaluate(store, other, "probe", 5, (a, 0, True))
    assert panel.panel(store, run_id) == [PanelExample(a, 2, 2, 1)]
    assert [(one.step, one.text) for one in panel.panel_answers(store, run_id, a)] == [(0, "probe 0"), (10, "probe 10")]
    assert [one.text for one in panel.panel_answers(store, run_id, b)] == ["probe 0", "val 10"]


def test_without_probes_the_panel_is_what_validations_answer(store: Store) -> None:
    run_id = make.run(store).id
    (a,) = add_examples(store, [make.example()])
    assert panel.panel(store, run_id) == []
    for step in (0, 50):
        evaluate(store, run_id, "val", step, (a, 0, True))
    assert panel.panel(store, run_id) == [PanelExample(a, 2, 2, 2)]
