"""The Find page: what an address asks for is shown, exported, tagged and made a dataset; hostile input is harmless."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from app import server
from app.shared import trace_search
from store.completions.find import Order, TraceFilter, count_found, find_completions
from store.completions.rows import get_completion
from store.db.engine import Store
from store.notes import list_trace_tags, note_trace
from store.steps import record_step
from tests import seeded
from tests.store import make

Open = Callable[..., AppTest]


def ids(at: AppTest) -> list[int]:
    links = [element.value for element in at.html if element.value.startswith("<details")]
    return [int(link.split("completion=")[1].split('"')[0]) for link in links]


def wait_for_search(at: AppTest) -> AppTest:
    """A browser runs the fragment again by itself; here the page is run until the search is over."""
    for _ in range(50):
        progress = at.session_state["find.search"]
        if progress.is_over or len(progress.rows) >= progress.wanted:
            break
        at.run()
    return at


def test_the_address_decides_what_is_shown(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    at = open_page(
        "find", run=run.uid, judged="Right", form="Well-formed", sort="Highest reward", step_from="20", step_to="60"
    )
    wanted = TraceFilter(run_id=run.id, correct=True, wellformed=True, step=(20, 60))
    assert ids(at) == [row.id for row in find_completions(seeded_store, wanted, Order("reward", True), limit=25).rows]
    total = count_found(seeded_store, wanted)
    assert any(f"1 to 25 of {total:,} completions" in caption.value for caption in at.caption)


def test_pages_go_on_and_back(seeded_store: Store, open_page: Open) -> None:
    at = open_page("find", sort="Longest")
    first = ids(at)
    next(button for button in at.button if button.label == "Next").click().run()
    second = ids(at)
    assert len(second) == 25 and not set(first) & set(second)
    next(button for button in at.button if button.label == "Back").click().run()
    assert ids(at) == first


def test_a_text_is_searched_in_rounds(seeded_store: Store, open_page: Open) -> None:
    at = wait_for_search(open_page("find", q="alert(1)", sort="Earliest step"))
    found = ids(at)
    assert len(found) == 25
    assert all("alert(1)" in get_completion(seeded_store, id).text for id in found)
    next(button for button in at.button if button.label == "Search further").click().run()
    assert len(ids(wait_for_search(at))) == 50


def test_an_expression_is_searched(seeded_store: Store, open_page: Open) -> None:
    at = wait_for_search(open_page("find", q=r"^there are \d+ of", regex="true"))
    assert ids(at)
    assert all(get_completion(seeded_store, id).text.startswith("There are") for id in ids(at))


def test_what_is_no_expression_says_so(seeded_store: Store, open_page: Open) -> None:
    assert "check the syntax" in open_page("find", q="(", regex="true").error[0].value


SLOW = "(a|b)*a(a|b){500}c"
SLOW_TEXT = "".join(random.Random(1).choices("ab", k=60_000))


def test_an_expression_that_is_too_slow_ends_the_search(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    record_step(seeded_store, run.id, 171, {}, at=1.0, completions=[make.completion(text=SLOW_TEXT)])
    start = time.monotonic()
    at = wait_for_search(open_page("find", q=SLOW, regex="true"))
    assert "Simplify it" in at.error[0].value
    at.run()
    assert "Simplify it" in at.error[0].value
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    "query",
    [
        {"run": "![x](http://evil.example)"},
        {"step_from": "x", "reward_to": "nan", "answer": "9" * 40},
        {"sort": "Nonsense", "judged": "<b>", "tag": "<script>"},
        {"reward_from": "99"},
    ],
)
def test_an_address_that_asks_for_nonsense_shows_a_page(
    seeded_store: Store, open_page: Open, query: dict[str, str]
) -> None:
    at = open_page("find", **query)
    assert ids(at) or "No completion matches" in at.info[0].value


def test_an_empty_database_offers_a_launch(empty_store: Store, open_page: Open) -> None:
    assert "this page shows a search over all completions" in open_page("find").info[0].value


def test_all_that_is_found_is_tagged(seeded_store: Store, open_page: Open) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    at = open_page("find", run=run.uid, step_to="3")
    at.text_input[-1].set_value("early")
    next(button for button in at.button if button.label == "Tag all results").click().run()
    assert not at.exception
    assert list_trace_tags(seeded_store) == ["early"]
    assert count_found(seeded_store, TraceFilter(tag="early")) == 3 * seeded.GROUPS * 8
    assert ids(open_page("find", tag="early"))


@pytest.fixture
def client(seeded_store: Store) -> Iterator[TestClient]:
    from starlette.applications import Starlette

    with TestClient(Starlette(routes=server.routes(seeded_store))) as client:
        yield client


def test_the_export_holds_what_the_page_finds(seeded_store: Store, client: TestClient) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    note_trace(seeded_store, "completion", 1, "first")
    wanted = TraceFilter(run_id=run.id, wellformed=False)
    answer = client.get("/api/completions.jsonl", params={"run": run.uid, "form": "Malformed", "sort": "Earliest step"})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert len(lines) == count_found(seeded_store, wanted) > 0
    assert "attachment" in answer.headers["content-disposition"]
    first = get_completion(seeded_store, lines[0]["id"])
    assert (lines[0]["text"], lines[0]["reward"], lines[0]["run"]) == (first.text, first.reward, run.uid)
    assert lines[0]["question"].startswith("How many")
    assert all(len(image) == 64 for line in lines for image in line["images"])
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)


def test_an_export_of_nonsense_is_refused_in_a_sentence(client: TestClient) -> None:
    for pattern in ("(", "a{100000000}", r"(.)\1{9999999}"):
        assert client.get("/api/completions.jsonl", params={"q": pattern, "regex": "true"}).status_code == 400
    assert client.get("/api/completions.jsonl", params={"run": "nobody"}).status_code == 400


def test_an_export_that_must_end_early_says_why(seeded_store: Store, client: TestClient) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    record_step(seeded_store, run.id, 171, {}, at=1.0, completions=[make.completion(text=SLOW_TEXT)])
    answer = client.get("/api/completions.jsonl", params={"q": SLOW, "regex": "true"})
    assert "Simplify it" in json.loads(answer.text.splitlines()[-1])["error"]


def test_a_selection_becomes_a_dataset_that_the_trainer_loads(
    seeded_store: Store, open_page: Open, tmp_path: Path
) -> None:
    from trainer.datasets import load_run
    from trainer.spec.config import from_dict

    run = seeded.find(seeded_store, "shapes-grpo")
    at = open_page("find", run=run.uid, step_from="100")
    next(button for button in at.button if button.label == "Train on results").click().run()
    assert not at.exception
    [folder] = (seeded_store.media.parent / "selections").iterdir()
    lines = [json.loads(line) for line in (folder / "examples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) > 10
    for line in lines:
        row = get_completion(seeded_store, int(line["key"]))
        assert row.correct and row.wellformed and row.step >= 100 and row.think_text
        assert line["reference"] == row.think_text.strip()
    config = from_dict({"method": "sft", "data": {"dataset": "folder", "path": str(folder)}})
    loaded = load_run(config.data, imitates=True)
    assert all(examples and examples[0].reference for examples in loaded.examples.values())


def test_the_launch_form_is_filled_for_a_selection(seeded_store: Store, open_page: Open, tmp_path: Path) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    at = open_page("launch", folder=str(tmp_path / "chosen"), clone=run.uid)
    values = {widget.key.rpartition(".")[2]: widget.value for widget in at.text_input if widget.key}
    assert values["path"] == str(tmp_path / "chosen")
    assert values["name"] == "sft-chosen"


def test_nothing_right_is_nothing_to_train_on(seeded_store: Store, open_page: Open) -> None:
    at = open_page("find", form="Malformed")
    next(button for button in at.button if button.label == "Train on results").click().run()
    assert "trace with an image" in at.error[0].value
    assert not list((seeded_store.media.parent / "selections").iterdir())


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("judged=maybe", "judged cannot be 'maybe': choose one of Any, Right, Wrong."),
        ("form=right", "form cannot be 'right': choose one of Any, Well-formed, Malformed."),
        ("cut=yes", "cut cannot be 'yes'"),
        ("sort=newest", "sort cannot be 'newest': choose one of Latest step, "),
        ("regex=yes&q=x", "regex cannot be 'yes': choose one of true, false."),
        ("reward_from=1e400", "reward_from cannot be '1e400': write a number."),
        ("tokens_to=a+few", "tokens_to cannot be 'a few': write a number."),
        ("example=1.5", "example cannot be '1.5': write a whole number"),
        ("answer=99999999999", "answer cannot be '99999999999': write a whole number"),
        ("judge=Right", "There is no filter 'judge': the filters are answer, cut, "),
        ("judged=Right&judged=Wrong", "'judged' occurs more than once"),
        ("judged=" + "x" * 9999, "x…': choose one of"),
        ("run=nobody", "nobody"),
    ],
)
def test_an_export_leaves_no_filter_out_in_silence(client: TestClient, query: str, words: str) -> None:
    answer = client.get(f"/api/completions.jsonl?{query}")
    assert answer.status_code == 400 and words in answer.text and len(answer.text) < 500


def test_an_export_takes_every_choice_of_the_page_and_what_is_left_empty(client: TestClient) -> None:
    choices = {
        "judged": trace_search.JUDGED,
        "form": trace_search.FORMS,
        "cut": trace_search.CUT,
        "sort": trace_search.ORDERS,
    }
    for name, values in choices.items():
        for value in ("", *values):
            answer = client.get("/api/completions.jsonl", params={name: value, "step_from": "9.0", "step_to": "10"})
            assert answer.status_code == 200


def test_a_number_beyond_all_measure_is_refused_on_the_page(seeded_store: Store, open_page: Open) -> None:
    assert "answer cannot be" in open_page("find", answer="99999999999").error[0].value.replace("\\", "")
