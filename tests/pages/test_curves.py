"""The page of many runs' curves: what is chosen, grouped and drawn, and what the address keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.shared import data, intents
from store.db.engine import Store, StoreError, open_store
from store.runs import add_tag, get_run, list_run_heads
from tests import overlaid, seeded
from tests.pages.conftest import copied
from tests.store import make

Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database of 8 arms with 2 seeds each."""
    folder = tmp_path_factory.mktemp("overlaid")
    store = open_store(str(folder / "runs.db"))
    overlaid.fill(store, seeds=2, steps=24)
    store.close()
    return folder


@pytest.fixture
def arms(experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return copied(experiment, tmp_path / "data", monkeypatch)


def words(app: AppTest) -> str:
    return "\n".join(each.value for each in (*app.title, *app.markdown, *app.caption, *app.error))


def test_without_a_step_it_says_what_to_do(empty_store: Store, open_page: Open) -> None:
    assert "the curves of many runs in one chart" in open_page("curves").info[0].value
    make.run(empty_store, "waiting")
    data.forget()
    assert "No run has completed a step yet" in words(open_page("curves"))


def test_the_newest_experiment_is_shown_by_its_arms(arms: Store, open_page: Open) -> None:
    app = open_page("curves")
    assert "16 runs, of the newest experiment “evidence”." in words(app)
    assert app.multiselect(key="curves.group").value == ["arm"]
    assert {"**Reward**", "**Held\\-out accuracy**", "**Gradient norm**"} <= {each.value for each in app.markdown}


def test_runs_in_the_address_are_drawn_one_by_one(seeded_store: Store, open_page: Open) -> None:
    two = [seeded.find(seeded_store, name).uid for name in ("shapes-grpo", "shapes-sft")]
    app = open_page("curves", runs=",".join(two))
    assert "2 runs, chosen." in words(app) and app.multiselect(key="curves.group").value == []
    assert app.multiselect(key="curves.runs").value == two
    # SFT samples nothing: the probe's reward is what both have, and it has no rollouts to clip.
    assert any("probe/reward" in (each.help or "").replace("\\", "") for each in app.markdown)
    app = open_page("curves", runs=two[1])
    assert "1 run, chosen." in words(app) and "Not recorded" not in words(app)


def test_tags_and_words_choose_runs(arms: Store, open_page: Open) -> None:
    for run in list_run_heads(arms)[:3]:
        add_tag(arms, run.id, "kept")
    assert "3 runs, chosen." in words(open_page("curves", tags="kept"))
    assert "8 runs, chosen." in words(open_page("curves", find="grpo r64"))
    assert "0 runs, chosen." in words(open_page("curves", find="nothing like this"))


def test_runs_that_have_not_begun_are_counted_not_drawn(seeded_store: Store, open_page: Open) -> None:
    queued = seeded.find(seeded_store, "shapes-collapse")
    finished = seeded.find(seeded_store, "shapes-grpo")
    app = open_page("curves", runs=f"{queued.uid},{finished.uid}")
    assert "1 run, chosen; 1 without a completed step left out." in words(app)


def test_groups_by_fields_that_differ_and_the_numbers_behind_a_chart(arms: Store, open_page: Open) -> None:
    app = open_page("curves", group="lora.rank", numbers="Reward")
    assert "lora.rank" in app.multiselect(key="curves.group").options
    table = app.dataframe[0].value
    assert set(table["curve"]) == {"rank 16", "rank 64"} and set(table["n"]) == {8}
    assert table["curve"][0] == "rank 64", "the faster one comes first"


def test_charts_are_chosen_by_the_address_and_by_a_search(arms: Store, open_page: Open) -> None:
    app = open_page("curves", charts="Entropy,time/update")
    assert [each.value for each in app.markdown if each.value.startswith("**")] == [
        "**Entropy \\(nats/token\\)**",
        "**time/update**",
    ]
    app.text_input(key="curves.find_metric").set_value("(").run()
    assert "The regular expression is invalid" in words(app)
    app.text_input(key="curves.find_metric").set_value("^reward/").run()
    labels = [each.label for each in app.button_group if each.key and each.key.startswith("curves.pills")]
    assert labels == ["Default charts", "reward/"]


@pytest.mark.parametrize("kind", ["time", "tokens", "examples"])
def test_every_axis_has_its_place_for_these_runs(kind: str, arms: Store, open_page: Open) -> None:
    assert "Unknown" not in words(open_page("curves", axis=kind))


def test_a_zoom_in_the_address_is_told_and_nonsense_is_not(arms: Store, open_page: Open) -> None:
    assert "step 5 to 9, at full resolution" in words(open_page("curves", zoom="5,9")).replace("5.00", "5").replace(
        "9.00", "9"
    )
    for nonsense in ("9,5", "x,1", "inf,nan", "1", ""):
        assert "full resolution" not in words(open_page("curves", zoom=nonsense))
    assert "no values in the visible range" in words(open_page("curves", zoom="900,950"))


def test_two_runs_are_told_apart(seeded_store: Store, open_page: Open) -> None:
    two = [seeded.find(seeded_store, name).uid for name in ("shapes-grpo", "shapes-grpo-no-steps")]
    app = open_page("curves", runs=",".join(two))
    assert not app.dataframe
    app.toggle(key="difference").set_value(True).run()
    assert not app.exception
    settings, curves = (each.value for each in app.dataframe)
    assert "rewards" in set(settings["area"]) and "name" not in set(settings["field"])
    assert "Reward" in set(curves["curve"])


def values_of(open_page: Open, **query: str) -> AppTest:
    app = open_page("runs", **query)
    app.segmented_control(key="table").set_value("Values").run()
    assert not app.exception
    return app


def test_the_table_of_values_shows_what_differs(arms: Store, open_page: Open) -> None:
    app = values_of(open_page)
    assert app.multiselect(key="values.columns").value == [
        *("seed", "lora.rank", "reward:last", "val/accuracy:highest", "note")
    ]
    assert "optimization.learning_rate" not in app.multiselect(key="values.columns").options
    app.toggle(key="differs").set_value(False).run()
    assert "optimization.learning_rate" in app.multiselect(key="values.columns").options


def test_rows_are_grouped_with_their_spread(arms: Store, open_page: Open) -> None:
    app = values_of(open_page, columns="reward:last", group="lora.rank")
    table = app.dataframe[0].value
    assert list(table["group"]) == ["rank 16", "rank 64"] and list(table["n"]) == [8, 8]
    assert all("±" in cell for cell in table["reward · last"])


def test_archived_runs_are_left_out_until_asked_for(arms: Store, open_page: Open) -> None:
    for run in list_run_heads(arms)[:15]:
        add_tag(arms, run.id, "archived")
    app = values_of(open_page, columns="reward:last", group="method")
    assert list(app.dataframe[0].value["n"]) == [1]
    app.toggle(key="archived").set_value(True).run()
    assert list(app.dataframe[0].value["n"]) == [16]


def test_a_run_is_renamed_and_noted_but_never_nameless(arms: Store, open_page: Open) -> None:
    run = list_run_heads(arms)[0]
    intents.change_run(run, name="  another ", note="it broke")
    with pytest.raises(StoreError, match="needs a name"):
        intents.change_run(run, name="   ")
    assert (get_run(arms, run.id).name, get_run(arms, run.id).note) == ("another", "it broke")
