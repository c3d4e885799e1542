"""Scripts written for Weights & Biases that record with `import vr1z as wandb`."""

from __future__ import annotations

import argparse
import copy
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from store.db.engine import Store
from store.db.rows import RunDetail
from store.recording import folders
from store.runs import get_run, list_runs
from tests.scripts_elsewhere import NOBODY
from tests.store.test_vr1z import curves, lost
from trainer.record import vr1z

wandb: Any = vr1z


@pytest.fixture
def script(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RunDetail]]:
    """Runs a script while no dashboard answers, and takes its journal in."""
    monkeypatch.setenv("VR1Z_TOKEN", "t" * 40)
    monkeypatch.setenv("VR1Z_URL", NOBODY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vr1z, "_RUNS_BY_NAME", {})
    monkeypatch.setattr(vr1z, "_WARNED", set())

    def taken_in(work: Callable[[], object]) -> RunDetail:
        work()
        for run in [*vr1z._RUNS_BY_NAME.values()]:
            run.close()
        assert [taken.problem for taken in folders.sync(store, [tmp_path])] == [None]
        (row,) = list_runs(store)
        return get_run(store, row.id)

    yield taken_in
    for run in [*vr1z._RUNS_BY_NAME.values()]:
        run.close()


def test_the_first_script_of_the_guide_of_wandb_runs(store: Store, script: Callable[..., RunDetail]) -> None:
    def work() -> None:
        with wandb.init(
            project="cats", config={"learning_rate": 0.02, "epochs": 3}, tags=["a", "b"], notes="why"
        ) as run:
            for epoch in range(run.config.epochs):
                run.log({"acc": epoch / 4, "loss": run.config["learning_rate"]})
            run.summary["best"] = 0.5

    run = script(work)
    assert curves(store, run)["acc"] == [(0, 0.0), (1, 0.25), (2, 0.5)] and run.status == "finished"
    assert run.name == "cats" and run.tags == ("a", "b") and run.note == "why"
    assert run.config == {"recorded": {"project": "cats", "learning_rate": 0.02, "epochs": 3}}
    assert run.environment["summary"] == {"best": 0.5} and lost(store, run) == []


def test_the_functions_of_the_module_work_on_the_open_run(store: Store, script: Callable[..., RunDetail]) -> None:
    def work() -> None:
        assert wandb.run is None
        wandb.log({"loss": 1.0})
        wandb.login(key="x")
        wandb.init(project="cats", name="first", entity="me", group="g", settings=object())
        assert wandb.run.name == "first" and wandb.run.id == wandb.run.uid
        wandb.config.update(argparse.Namespace(lr=1, algorithm="RLOO"), allow_val_change=True)
        wandb.config.batch = 8
        wandb.watch(object(), log="all")
        wandb.log({"loss": 1.0}, step=3)
        wandb.log({"own": {"deep": 2.0}}, step=3, commit=True)
        wandb.log({"loss": 0.5})
        wandb.run.summary.update({"best": 0.5})
        wandb.run.name = "renamed"
        wandb.run.save()
        wandb.finish(exit_code=1)
        assert wandb.run is None

    run = script(work)
    assert curves(store, run) == {"loss": [(3, 1.0), (4, 0.5)], "own/deep": [(3, 2.0)]}
    told = {"project": "cats", "entity": "me", "group": "g", "lr": 1, "algorithm": "RLOO", "batch": 8}
    assert run.config == {"recorded": told} and (run.name, run.method, run.status) == ("renamed", "rloo", "failed")


@pytest.mark.parametrize(
    ("calls", "found"),
    [
        ([(({"a": 1},), {}), (({"a": 2},), {})], {"a": [(0, 1.0), (1, 2.0)]}),
        (
            [(({"a": 1},), {"commit": False}), (({"b": 2},), {}), (({"a": 3},), {})],
            {"a": [(0, 1), (1, 3)], "b": [(0, 2)]},
        ),
        ([(({"a": 1}, 5), {}), (({"b": 2},), {}), (({"b": 3},), {})], {"a": [(5, 1)], "b": [(5, 2), (6, 3)]}),
        ([((5, {"a": 1}), {}), (({"b": 2},), {})], {"a": [(5, 1)], "b": [(5, 2)]}),
        ([((), {"step": 2, "values": {"a": 1}}), ((), {"data": {"a": 2}, "step": 3})], {"a": [(2, 1), (3, 2)]}),
        ([((4,), {"values": {"a": 1}}), (({"a": 2},), {"step": None})], {"a": [(4, 2)]}),
    ],
)
def test_steps_come_first_or_second_or_count_up(
    calls: Any, found: Any, store: Store, script: Callable[..., RunDetail]
) -> None:
    def work() -> None:
        with vr1z.init("mine") as run:
            for given, named in calls:
                run.log(*given, **named)

    run = script(work)
    assert curves(store, run) == found and lost(store, run) == []


def test_metrics_without_a_step_go_to_that_of_the_latest_group(store: Store, script: Callable[..., RunDetail]) -> None:
    def work() -> None:
        with vr1z.init("mine") as run:
            for step in (1, 2):
                run.group(step, "Q?", None, ["a"])
                run.log({"loss": step})

    assert curves(store, script(work))["loss"] == [(1, 1.0), (2, 2.0)]


def test_pictures_and_tables_are_left_out_with_what_to_write_instead(
    store: Store, script: Callable[..., RunDetail]
) -> None:
    def work() -> None:
        run = wandb.init("mine")
        table = wandb.Table(columns=["a"])
        table.add_data(1)
        run.log({"loss": 1.0, "samples": [wandb.Image(object(), caption="x")], "table": table})
        run.log_artifact(wandb.Artifact("a", type="model"))
        run.define_metric("val/*", step_metric="epoch")

    run = script(work)
    assert curves(store, run) == {"loss": [(0, 1.0)]}
    (told,) = lost(store, run)
    assert told.startswith("Pictures and tables in metrics are left out: samples, table.") and "run.group(" in told


def test_what_wandb_has_and_we_do_not_is_refused_by_a_sentence(script: Callable[..., RunDetail]) -> None:
    for thing in (wandb, vr1z.init("mine")):
        with pytest.raises(AttributeError, match="stands in for wandb's init, log"):
            thing.sweep  # noqa: B018
    assert not hasattr(vr1z, "__path__")


def test_init_again_goes_on_unless_a_new_run_is_asked_for(
    script: Callable[..., RunDetail], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "vr1z"):
        first = vr1z.init("mine", config={"a": 1})
        assert vr1z.init("mine", config={"b": 2}) is first and first.config == {"a": 1, "b": 2}
    assert any("Call finish before init" in entry.message for entry in caplog.records)
    second = vr1z.init("mine", reinit=True)
    assert second is not first and not first._is_open


def test_a_disabled_run_leaves_nothing(tmp_path: Path, script: Callable[..., RunDetail]) -> None:
    with vr1z.init("mine", mode="disabled") as run:
        run.log({"loss": 1.0})
        run.config.lr = 1
    run.close()
    assert not list(tmp_path.rglob("journal.jsonl"))


def test_a_copy_of_the_settings_is_a_plain_dict(script: Callable[..., RunDetail]) -> None:
    run = vr1z.init("mine", config={"a": {"b": 1}})
    assert type(copy.deepcopy(run.config)) is dict and run.config.as_dict() == {"a": {"b": 1}}
    with pytest.raises(AttributeError, match="no 'lr' here, only a"):
        run.config.lr  # noqa: B018
