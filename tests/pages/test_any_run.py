"""Runs of scripts that recorded what they have, on every page: what they lack is said, and the rest is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.compare import groups as comparison
from app.compare import tables
from app.emergence import rows as emergence_rows
from app.shared import data_needs
from app.shared.conditions import differences
from store.completions.emergence import emergence
from store.contents import Contents, read_contents
from store.db.engine import Store, open_store
from store.evaluations.predictions import read_scores
from store.evaluations.records import list_evaluations
from store.runs import get_run, resolve_run
from tests import scripts_elsewhere
from tests.pages.conftest import copied

Open = Callable[..., AppTest]
NAMES = tuple(scripts_elsewhere.SCRIPTS)
OF_A_RUN = (
    ("emergence", {}),
    ("rewards", {"view": "A whole run"}),
    ("find", {}),
    ("traces", {}),
    ("traces", {"view": "Predictions"}),
    ("run", {}),
    ("run", {"tab": "Evaluations"}),
)
NO_TAGS, NO_FORM = "its texts have no think tags", "its texts have no required format"
UNJUDGED, NO_GROUPS = (
    "none of its answers was judged right or wrong",
    "no groups of completions were recorded",
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database that has all of the scripts."""
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VR1Z_TOKEN", "t" * 40)
        store = open_store(str(folder / "runs.db"))
        scripts_elsewhere.take_in(store, folder / "journals", *NAMES)
        store.close()
    return folder


@pytest.fixture
def store(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return copied(recorded, tmp_path / "data", monkeypatch)


def contents(store: Store, name: str) -> Contents:
    return read_contents(store, resolve_run(store, name))


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("words", {NO_FORM, NO_TAGS, UNJUDGED, "its texts have no answer tags"}),
        ("boxed", {NO_TAGS, "its texts have no answer tags"}),
        ("grounding", {NO_FORM, NO_TAGS, UNJUDGED, "no rewards were recorded", "its texts have no answer tags"}),
        ("tagged", set()),
    ],
)
def test_what_a_run_lacks_is_known_from_its_answers(name: str, reasons: set[str], store: Store) -> None:
    found = data_needs.missing_parts(contents(store, name), emergence_rows.PARTS)
    plain = {
        "no token counts were recorded",
        "no answer could be read as a count",
        "no question has a count as its",
    }
    assert {why for why in found if not why.startswith(tuple(plain))} == reasons


def test_facts_of_training_and_of_evaluations_are_told_apart(store: Store) -> None:
    has = contents(store, "boxed")
    assert has.form == "boxed" and has.sampled.groups and has.sampled.lengths and has.sampled.images
    assert has.evaluated.judged and not has.evaluated.lengths and not has.evaluated.images
    assert not contents(store, "evaluated").sampled.any and contents(store, "evaluated").evaluated.any
    assert not contents(store, "grounding").sampled.groups and contents(store, "grounding").sampled.images
    assert contents(store, "nothing") == Contents("none", *2 * [data_needs.Answers()])
    assert not read_contents(store, 999).answers.any


def test_dead_groups_are_known_although_nothing_was_judged(store: Store) -> None:
    found = emergence(store, resolve_run(store, "words"))
    assert found.groups["live"].sum() == len(found.step) and not found.groups["dead"].any()
    assert not found.groups["accuracy"].any() and not found.groups["wrong"].any()


@pytest.mark.parametrize("name", NAMES)
def test_every_page_of_a_run_shows_it_and_says_what_is_missing(name: str, store: Store, open_page: Open) -> None:
    uid = get_run(store, resolve_run(store, name)).uid
    for page, query in OF_A_RUN:
        at = open_page(page, run=uid, **query)
        assert not list(empty_frames(at.main)), (page, query)
        assert not [each.value for each in at.markdown if "None" in each.value or "nan" in each.value.split()]


def empty_frames(block: Any) -> Iterator[str]:
    """Yield the headings below which a page has nothing, neither a figure nor a reason."""
    children = list(block.children.values())
    for child in children:
        if hasattr(child, "children"):
            yield from empty_frames(child)
    heading = None
    for child in children:
        is_heading = getattr(child, "type", "") in ("header", "title")
        if is_heading and heading is not None:
            yield heading
        heading = child.value if is_heading else None
    only = children[0] if len(children) == 1 else None
    if only is not None and getattr(only, "type", "") == "markdown" and str(only.value).startswith("**"):
        yield str(only.value)


def test_scripts_are_compared_with_each_other(store: Store, open_page: Open) -> None:
    uids = ",".join(get_run(store, resolve_run(store, name)).uid for name in NAMES)
    at = open_page("compare", runs=uids)
    said = "\n".join(each.value for each in at.caption).replace("\\", "")
    assert "(no evaluation was recorded)" in said and "evaluated (none of its evaluations was judged)" in said
    assert "finding" in "\n".join(each.value for each in at.html)
    assert not list(empty_frames(at.main))


def test_a_script_is_measured_against_the_first_one_on_its_benchmark(store: Store) -> None:
    members = []
    for name in ("boxed", "tools"):
        run = get_run(store, resolve_run(store, name))
        members.append(comparison.Member(run, list_evaluations(store, run.id), []))
    grouped = comparison.groups(members, {})
    assert len(grouped) == 2, "two scripts whose settings are equally unknown are two"
    table = tables.compare_scripts(grouped, comparison.benchmarks(members), lambda id: read_scores(store, id))
    assert [line.cells[3].text for line in table.lines] == ["finding", "sums"]
    assert [line.cells[6].text.split(" %")[0] for line in table.lines] == ["50.0", "0.0"]


@pytest.mark.parametrize("view", ["Side by side", "Over training", "Map", "What changed"])
def test_drift_reads_two_checkpoints_of_a_script(view: str, store: Store, open_page: Open) -> None:
    run = get_run(store, resolve_run(store, "evaluated"))
    first, *_, last = [each.id for each in list_evaluations(store, run.id) if each.benchmark == "saying"]
    at = open_page("drift", sides=f"{first},{last}", view=view)
    said = "\n".join(str(each.value) for kind in ("markdown", "caption") for each in at.get(kind)).replace("\\", "")
    assert "Their accuracy is unknown" in said and "no question has reference reasoning" in said
    assert "0.00 (0.00" not in "\n".join(each.value for each in at.html), "what was not judged is not wrong"


def test_evaluations_of_a_script_differ_from_ours_in_words() -> None:
    ours = {"decoding": {"temperature": 0.0, "max_tokens": 9}, "prompt": "p"}
    theirs = {"recorded": True, "decoding": "as the script chose"}
    assert "only one comes from a script" in differences(ours, theirs)
    sampled = theirs | {"decoding": "sampled by the trainer"}
    assert differences(theirs, sampled) == ["decoding as the script chose vs sampled by the trainer"]
    assert differences(theirs, theirs) == []


def test_the_accuracy_of_each_benchmark_is_a_curve(store: Store, open_page: Open) -> None:
    run = get_run(store, resolve_run(store, "tools"))
    at = open_page("run", run=run.uid)
    said = "\n".join(each.value for each in at.caption)
    assert "no evaluation was recorded" not in said and "Not recorded: its texts have no think tags." in said
