"""What scripts hand to `vr1z.py` that is not as it should be: the rest of the run is recorded, and nothing waits."""

from __future__ import annotations

import argparse
import ast
import base64
import dataclasses
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from store.completions.rows import list_groups
from store.db.engine import Store
from store.db.rows import CompletionRow, RunDetail
from store.evaluations.predictions import iter_predictions_of
from store.evaluations.records import list_evaluations
from store.events import list_events
from store.metrics import list_metric_names, read_series
from store.recording import folders
from store.runs import get_run, list_runs
from tests.scripts_elsewhere import NOBODY, picture
from trainer.record import vr1z

Script = Callable[[vr1z.Run], object]


@pytest.fixture
def record(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunDetail]:
    """Runs a script while no dashboard answers, and takes its journal in."""
    monkeypatch.setenv("VR1Z_TOKEN", "t" * 40)

    def run(script: Script, name: Any = "mine", **told: Any) -> RunDetail:
        with vr1z.start(name, folder=tmp_path / "journals", url=NOBODY, **told) as began:
            script(began)
        began.close()
        assert [taken.problem for taken in folders.sync(store, [tmp_path / "journals"])] == [None]
        return get_run(store, list_runs(store)[0].id)

    return run


def loss(run: vr1z.Run) -> None:
    run.log(1, {"loss": 0.5})


def curves(store: Store, run: RunDetail) -> dict[str, list[tuple[int, float]]]:
    found = read_series(store, run.id, list_metric_names(store, run.id))
    return {name: list(zip(each.step.tolist(), each.value.tolist(), strict=True)) for name, each in found.items()}


def lost(store: Store, run: RunDetail) -> list[str]:
    return [event.message for event in list_events(store, run.id) if event.kind == "recording_failed"]


@dataclasses.dataclass(slots=True)
class Slotted:
    rank: int = 8


class Pair(NamedTuple):
    a: int
    b: str


@dataclasses.dataclass
class Nested:
    lora: Slotted
    pair: Pair


class Settings:
    """Settings as many scripts keep them: in the class itself."""

    lr = 1e-5
    model = "tiny"

    def batch(self) -> int:
        return 8


NESTED = {"config": {"recorded": {"lora": {"rank": 8}, "pair": {"a": 1, "b": "b"}}}}


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ({"method": "GRPO"}, {"method": "grpo"}),
        ({"method": "dr.GRPO-2"}, {"method": "dr_grpo_2"}),
        ({"method": "REINFORCE++"}, {"method": "reinforce_pp"}),
        ({"method": "强化"}, {"method": "unknown"}),
        ({"config": {"algorithm": {"adv_estimator": "reinforce_plus_plus"}}}, {"method": "reinforce_pp"}),
        ({"config": {"algorithm": " "}}, {"method": "unknown"}),
        ({"grammar": "latex"}, {"grammar": "none"}),
        ({"name": ""}, {"name": "(no name)"}),
        ({"name": None}, {"name": "None"}),
        ({"name": "a/b 🙂"}, {"name": "a/b 🙂"}),
        ({"model": None}, {"model": "unknown"}),
        ({"seed": -1, "max_steps": "many"}, {"seed": None, "max_steps": None}),
        ({"seed": np.int64(3), "max_steps": 10.0}, {"seed": 3, "max_steps": 10}),
        ({"weights": {"a": np.float32(0.5), "b": "c"}}, {"reward_weights": {"a": 0.5, "b": None}}),
        ({"config": argparse.Namespace(lr=1)}, {"config": {"recorded": {"lr": 1}}}),
        ({"config": Nested(Slotted(), Pair(1, "b"))}, NESTED),
        ({"config": Settings}, {"config": {"recorded": {"lr": 1e-5, "model": "tiny"}}}),
        ({"config": Settings()}, {"config": {"recorded": {"lr": 1e-5, "model": "tiny"}}}),
        ({"config": Slotted()}, {"config": {"recorded": {"rank": 8}}}),
        ({"config": Pair(1, "b")}, {"config": {"recorded": {"a": 1, "b": "b"}}}),
        ({"config": ["a", 1]}, {"config": {"recorded": {"config": ["a", 1]}}}),
        ({"config": {"huge": 1e300, "long": 10**5000}}, {"config": {"recorded": {"huge": "1e+300", "long": "inf"}}}),
    ],
)
def test_no_word_about_a_run_loses_the_run(
    told: dict[str, Any], found: dict[str, Any], store: Store, record: Callable[..., RunDetail]
) -> None:
    run = record(loss, **told)
    assert {name: getattr(run, name) for name in found} == found
    assert curves(store, run) == {"loss": [(1, 0.5)]} and run.status == "finished"


def test_long_names_stay_distinct(store: Store, record: Callable[..., RunDetail]) -> None:
    run = record(lambda run: run.log(1, {"x" * 300: 1.0, "x" * 301: 2.0, "": 3.0, "a/b 🙂": 4.0}), name="n" * 300)
    found = curves(store, run)
    assert len(found) == 4 and found["(no name)"] == [(1, 3.0)] and found["a/b 🙂"] == [(1, 4.0)]
    assert max(map(len, found)) == len(run.name) == 200 and lost(store, run) == []


def test_a_figure_that_is_none_costs_only_itself(store: Store, record: Callable[..., RunDetail]) -> None:
    odd = {"ppl": 1e300, "n": 10**400, "inf": float("inf"), "words": "x", "several": np.zeros(3), "none": None}
    told = {"text": "0.25", "done": True}
    run = record(lambda run: run.log(1, {"loss": 0.5, "own": {"deep": {"a": np.int8(1), "b": "x"}}, **odd, **told}))
    found = curves(store, run)
    assert found["loss"] == [(1, 0.5)] and found["own/deep/a"] == [(1, 1.0)]
    assert found["text"] == [(1, 0.25)] and found["done"] == [(1, 1.0)]
    assert all(np.isnan(found[name][0][1]) for name in ("ppl", "n", "inf", "none")) and "words" not in found
    assert lost(store, run) == ["These metrics are left out because they are not numbers: own/deep/b, words, several."]


def test_figures_without_names_are_named_as_the_fault(store: Store, record: Callable[..., RunDetail]) -> None:
    run = record(lambda run: [run.log(1, each) for each in (None, {"loss": 0.5})])  # type: ignore
    assert curves(store, run) == {"loss": [(1, 0.5)]}
    assert lost(store, run) == [
        "1 record of the training is lost: ValueError: metrics must be a dict, such as {'loss': 0.5}."
    ]


def test_steps_may_go_back_and_what_is_no_step_is_said_once(
    store: Store, record: Callable[..., RunDetail], caplog: pytest.LogCaptureFixture
) -> None:
    def script(run: vr1z.Run) -> None:
        for step, value in ((5, 1.0), (np.int64(3), 2.0), (5.0, 3.0), (-1, 4.0), (0.5, 5.0), (None, 6.0)):
            run.log(step, {"loss": value})  # type: ignore[arg-type]

    with caplog.at_level(logging.WARNING, "vr1z"):
        run = record(script)
    assert curves(store, run) == {"loss": [(3, 2.0), (5, 3.0)]} and run.step == 5
    assert sum("a step must be a whole number" in entry.message for entry in caplog.records) == 1
    assert lost(store, run) == [
        "3 records of the training are lost: ValueError: a step must be a whole number of 0 or more."
    ]


def said(store: Store, run: RunDetail, step: int = 1) -> list[CompletionRow]:
    return [row for group in list_groups(store, run.id, step) for row in group.completions]


def test_a_group_is_kept_however_it_comes(store: Store, record: Callable[..., RunDetail]) -> None:
    def script(run: vr1z.Run) -> None:
        run.group(1, "Q?", None, "one answer")
        run.group(2, "Q?", None, ["a", None], rewards=np.array([1.0, 0.0]), tokens=[-1, np.int64(3)])  # type: ignore[arg-type]
        run.group(3, "Q?", None, ["a"], rewards={"r" * 300: [1e300], "": [1]}, advantages=[float("nan")])
        run.group(4, "Q?", None, ["a", "b"], rewards={"right": [1.0]})

    run = record(script)
    assert [row.text for row in said(store, run)] == ["one answer"]
    assert [(row.text, row.reward, row.tokens) for row in said(store, run, 2)] == [("a", 1.0, None), ("", 0.0, 3)]
    (row,) = said(store, run, 3)
    assert sorted(row.rewards.values(), key=str) == [1.0, None] and row.advantage is None
    assert [(row.text, row.reward) for row in said(store, run, 4)] == [("a", None), ("b", None)]
    assert len(lost(store, run)) == 1


def test_a_group_of_fewer_values_than_completions_is_named(
    record: Callable[..., RunDetail], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "vr1z"):
        record(lambda run: run.group(1, "Q?", None, ["a", "b"], rewards={"right": [1.0]}))
    assert any("right of a group is left out because it has 1 of 2 entries" in e.message for e in caplog.records)


PART = {"type": "text", "text": "Q?"}


@pytest.mark.parametrize(
    ("prompt", "images", "pictures"),
    [
        ({"role": "user", "content": "Q?"}, None, 0),
        (["Q?"], None, 0),
        ("Q?", np.zeros((2, 4, 4, 3), np.uint8), 2),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "DATA"}}, PART]}], None, 1),
        ([{"role": "user", "content": [{"type": "image", "image": "DATA"}, PART]}], None, 1),
        ([{"role": "user", "content": [{"type": "image", "image": "FILE"}, PART]}], None, 1),
    ],
    ids=str,
)
def test_a_prompt_is_read_as_other_tools_write_it(
    prompt: Any, images: Any, pictures: int, store: Store, record: Callable[..., RunDetail], tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(picture(9))
    data = "data:image/png;base64," + vr1z.base64.b64encode(picture(9)).decode()
    text = json.dumps(prompt).replace("DATA", data).replace("FILE", f"file://{tmp_path}/a.png")
    run = record(lambda run: run.group(1, json.loads(text), images, ["a"]))
    (group,) = list_groups(store, run.id, 1)
    assert group.example is not None and (group.example.question, len(group.example.images)) == ("Q?", pictures)
    assert data not in json.dumps(group.example.prompt)


def test_a_picture_that_is_none_is_said(
    store: Store, record: Callable[..., RunDetail], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vr1z, "_WARNED", set())
    with caplog.at_level(logging.WARNING, "vr1z"):
        run = record(lambda run: [run.group(step, "Q?", ["/nowhere.png"], ["a"]) for step in (1, 2)])
    assert [row.text for row in said(store, run)] == ["a"]
    assert lost(store, run) == ["A question is recorded without its image: the file /nowhere.png does not exist."]
    assert sum("without its image" in entry.message for entry in caplog.records) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("https://example.org/a.png", "https://example.org/a.png is a web address; pass the image itself or a path"),
        ({"path": "gone.png", "bytes": None}, "the file gone.png does not exist"),
        (__file__, f"{__file__} is not a readable image file"),
        (io.BytesIO(b"nothing"), "a value of type BytesIO cannot be read as an image"),
    ],
)
def test_why_a_picture_is_missing_is_said(
    given: Any, words: str, store: Store, record: Callable[..., RunDetail]
) -> None:
    run = record(lambda run: run.group(1, "Q?", given, ["a"]))
    assert lost(store, run) == [f"A question is recorded without its image: {words}."]


def test_pictures_are_read_however_a_script_holds_them(tmp_path: Path) -> None:
    data = picture(3)
    (tmp_path / "a b.png").write_bytes(data)
    written = base64.b64encode(data).decode()
    for given, n in (
        (io.BytesIO(data), 1),
        ((each for each in (data, data)), 2),
        ([[data], [None, data]], 2),
        (written, 1),
        (f"data:application/octet-stream;base64,{written}", 1),
        ((tmp_path / "a b.png").as_uri(), 1),
        ({"image": {"url": f"data:image/png;base64,{written}"}}, 0),
    ):
        assert vr1z.question_of_row({"prompt": "Q?", "images": given}).images == (data,) * n
    with (tmp_path / "a b.png").open("rb") as file:
        assert vr1z.question_of_row({"image": file}).images == vr1z.question_of_row({"image": file}).images == (data,)


def test_the_recorder_is_written_for_python_3_9() -> None:
    ast.parse(Path(vr1z.__file__).read_text(encoding="utf-8"), feature_version=(3, 9))


def test_a_cell_that_is_run_again_ends_the_run_before(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "IPython", sys)
    runs = [vr1z.start("notebook", folder=tmp_path, url=NOBODY) for _ in range(2)]
    for run in runs:
        run.close()
    folders.sync(store, [tmp_path])
    assert sorted(str(row.status) for row in list_runs(store)) == ["finished", "stopped"]


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "mine"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "mine (rank 1)"),
        ({"RANK": "1", "WORLD_SIZE": "1"}, "mine"),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, "mine (rank 3)"),
        ({"RANK": "0", "WORLD_SIZE": "8", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, "mine"),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, "mine (rank 1)"),
        ({"RANK": "x", "WORLD_SIZE": ""}, "mine"),
    ],
)
def test_each_process_has_a_name_of_its_own(
    told: dict[str, str], name: str, record: Callable[..., RunDetail], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in (each for pair in vr1z.RANKS for each in pair):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in told.items():
        monkeypatch.setenv(variable, value)
    assert record(loss).name == name


@pytest.mark.parametrize(
    ("prompt", "question"), [([1, 2, 3], "[1, 2, 3]"), (np.array([7]), "[7]"), ([{"role": "user", "content": []}], "")]
)
def test_a_prompt_without_words_is_shown_as_it_is(prompt: Any, question: str) -> None:
    assert vr1z.question_of_row({"prompt": prompt}).question == question


def test_rewards_may_come_by_completion_or_as_text(store: Store, record: Callable[..., RunDetail]) -> None:
    def script(run: vr1z.Run) -> None:
        run.group(1, "Q?", None, ["a", "b"], rewards=[{"form": 1, "right": True}, {"form": "0.5"}])
        run.group(2, "Q?", None, ["a", "b"], rewards=np.array([[1.0, 2.0], [3.0, 4.0]]))

    run = record(script)
    assert [row.rewards for row in said(store, run)] == [{"form": 1.0, "right": 1.0}, {"form": 0.5, "right": None}]
    assert [row.reward for row in said(store, run, 2)] == [None, None]
    assert lost(store, run) == ["reward of a completion is left out because it is not a number but ndarray."]


@pytest.mark.parametrize(
    ("rewards", "config", "method"), [([1], None, "rl"), (None, None, "unknown"), ([1], {"algo": "RLOO"}, "rloo")]
)
def test_a_group_names_no_method_that_nobody_named(
    rewards: Any, config: Any, method: str, store: Store, record: Callable[..., RunDetail]
) -> None:
    run = record(lambda run: run.group(1, "Q?", None, ["a"], rewards=rewards), config=config)
    assert run.method == method


@pytest.mark.parametrize("gold", [1.5, [1, 2, 3, 4], {"box": [0.1, 0.2]}, True, "four", "", [], 1e300])
def test_a_gold_answer_is_kept_whatever_it_is(gold: Any, store: Store, record: Callable[..., RunDetail]) -> None:
    run = record(lambda run: run.group(1, "Q?", None, ["a"], answer=gold))
    (group,) = list_groups(store, run.id, 1)
    assert group.example is not None and group.example.gold == (str(gold) if gold == 1e300 else gold)


def test_an_evaluation_is_kept_however_it_comes(store: Store, record: Callable[..., RunDetail]) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a", "completion": "x", "tokens": "some", "correct": np.bool_(True)},
        {"prompt": "b", "completion": None, "tokens": np.int64(3), "correct": float("nan"), "rewards": {"": 1e300}},
        {"completion": "x", "correct": False},
    ]
    run = record(lambda run: run.evaluation(2, "b/🙂" * 90, rows))
    (evaluation,) = list_evaluations(store, run.id)
    found = list(iter_predictions_of(store, evaluation.id))
    assert [(row.text, row.tokens, row.correct) for row in found] == [
        ("x", None, True),
        ("", 3, None),
        ("x", None, False),
    ]
    assert len(evaluation.benchmark) == 200 and lost(store, run) == []


@pytest.mark.parametrize(("state", "known"), [("done", "finished"), ("failed", "failed")])
def test_a_run_ends_whatever_is_said_of_its_end(
    state: str, known: str, store: Store, record: Callable[..., RunDetail]
) -> None:
    run = record(lambda run: run.finish(state, "e" * 30_000))
    assert run.status == known and run.job is not None and run.job.error == "e" * 20_000


def test_what_comes_after_the_end_is_kept_until_the_script_ends(store: Store, record: Callable[..., RunDetail]) -> None:
    def script(run: vr1z.Run) -> None:
        run.finish()
        loss(run)

    run = record(script)
    assert curves(store, run) == {"loss": [(1, 0.5)]} and run.status == "finished"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
def test_a_forked_process_neither_records_nor_waits(store: Store, record: Callable[..., RunDetail]) -> None:
    def script(run: vr1z.Run) -> None:
        loss(run)
        began = time.monotonic()
        if not (child := os.fork()):
            run.log(2, {"loss": 0.25})
            run.finish("failed")
            os._exit(0 if time.monotonic() - began < vr1z.END_SECONDS / 2 else 1)
        assert os.waitpid(child, 0)[1] == 0

    run = record(script)
    assert curves(store, run) == {"loss": [(1, 0.5)]} and run.status == "finished"
