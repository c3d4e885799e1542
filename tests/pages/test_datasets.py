"""The Datasets page: examples, filters, one example's answers, shared images, indexing, and hostile texts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.datasets.grid import A_PAGE
from store.completions.rows import list_completions
from store.datasets import advance_index, ask_index, fail_index, list_examples, list_indexes
from store.db.engine import Store
from store.db.rows import ExampleRow, StoredExample
from store.evaluations.predictions import list_predictions_of_example
from store.examples import add_examples
from tests.datasets import layouts
from tests.pages.test_trace_view import HOSTILE
from trainer.datasets import shapes
from trainer.datasets.images import encode_png
from trainer.datasets.index import index
from trainer.spec.config import DataConfig

OpenPage = Callable[..., AppTest]


@pytest.fixture
def indexed(seeded_store: Store, tmp_path: Path) -> Store:
    """Runs, two splits of drawn scenes, one with their examples, and two sets with the same photos."""
    index(seeded_store, DataConfig(dataset="shapes-simple"), "train", 40)
    index(seeded_store, DataConfig(dataset="shapes-simple"), "val", 40)
    index(seeded_store, DataConfig(dataset="tdiuc", path=str(layouts.tdiuc(tmp_path / "a"))), "train", 100)
    index(seeded_store, DataConfig(dataset="vqav2", path=str(layouts.vqav2(tmp_path / "b"))), "train", 100)
    return seeded_store


def html(at: AppTest) -> str:
    return "".join(element.value for element in at.html)


def cards(at: AppTest) -> list[str]:
    return re.findall(r'<a class="eg-card".*?</a>', html(at), re.DOTALL)


def metrics(at: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in at.metric}


def test_an_index_is_told_in_numbers(indexed: Store, open_page: OpenPage) -> None:
    at = open_page("datasets", dataset="tdiuc", split="train")
    counts = {"Rows": "36", "Usable": "24", "Skipped": "12", "Images": "12", "Questions per image": "2.00"}
    assert metrics(at) == counts | {"Width (px)": "64", "Height (px)": "48"}
    assert at.code[0].value.strip() == "12  not a counting question"
    assert len(cards(at)) == 24
    assert "api/media/" in cards(at)[0]


def test_examples_of_runs_are_shown_without_an_index(seeded_store: Store, open_page: OpenPage) -> None:
    at = open_page("datasets")
    assert any("not indexed: it shows only 24 examples that runs used" in each.value for each in at.caption)
    assert len(cards(at)) == 24


def test_a_split_without_a_usable_row_says_why(empty_store: Store, open_page: OpenPage, tmp_path: Path) -> None:
    layouts.put(tmp_path / "set/examples.jsonl", '{"question": "How many?", "answer": "many", "image": "a.png"}\n')
    index(empty_store, DataConfig(dataset="folder", path=str(tmp_path / "set")), "train", 10)
    at = open_page("datasets")
    assert (metrics(at)["Rows"], metrics(at)["Usable"]) == ("1", "0")
    assert at.code[0].value.strip() == "1  answer is not a whole number"
    assert "None of its rows" in at.info[0].value


def test_filters_and_pages_are_the_databases(indexed: Store, open_page: OpenPage) -> None:
    at = open_page("datasets", dataset="shapes-simple", split="train")
    assert len(cards(at)) == A_PAGE
    count = next(option for option in at.selectbox(key="datasets.answer").options if option not in ("any", "0"))
    at.selectbox(key="datasets.answer").set_value(count).run()
    assert not at.exception
    shown = re.findall(r'title="True count">(\d+)<', html(at))
    assert shown and set(shown) == {count}
    at.text_input(key="datasets.words").set_value("no question says this").run()
    assert "No example matches" in at.info[0].value


def test_another_dataset_starts_without_filters(indexed: Store, open_page: OpenPage) -> None:
    at = open_page("datasets", dataset="shapes-simple", split="train")
    at.selectbox(key="datasets.answer").set_value("9").run()
    at.selectbox(key="datasets.dataset").set_value("tdiuc").run()
    assert not at.exception
    assert at.selectbox(key="datasets.answer").value == "any"
    assert at.query_params["dataset"] == "tdiuc"
    assert len(cards(at)) == 24


@pytest.mark.parametrize(
    "address",
    [{"dataset": "![x](http://evil.example)"}, {"split": "nowhere"}, {"example": "²"}, {"example": "999999"}],
)
def test_an_address_that_leads_nowhere_still_shows_a_page(
    indexed: Store, open_page: OpenPage, address: dict[str, str]
) -> None:
    at = open_page("datasets", **address)
    assert "split" in address or at.warning


def answered(store: Store, split: str) -> StoredExample:
    """An example that runs have answered."""
    found = [
        example
        for example in list_examples(store, "shapes-simple", split, limit=100)
        if list_predictions_of_example(store, example.id) or list_completions(store, None, example_id=example.id)
    ]
    return found[0]


def test_one_example_has_every_prediction_with_a_link(indexed: Store, open_page: OpenPage) -> None:
    example = answered(indexed, "val")
    at = open_page("datasets", example=str(example.id))
    rows = list_predictions_of_example(indexed, example.id, limit=1000)
    assert {f"prediction={row.id}" for _, row in rows[:30]} <= set(re.findall(r"prediction=\d+", html(at)))
    assert example.question in html(at)
    assert "No completions for this example" in "".join(caption.value for caption in at.caption)
    assert any("shapes-grpo" in element.value.replace("\\", "") for element in at.markdown)


def test_one_example_has_its_completions_and_shows_more_when_asked(indexed: Store, open_page: OpenPage) -> None:
    example = answered(indexed, "train")
    total = len(list_completions(indexed, None, example_id=example.id, limit=1000))
    at = open_page("datasets", example=str(example.id))
    assert len(re.findall(r"completion=\d+", html(at))) == 30 < total
    next(button for button in at.button if button.label == "Show more").click().run()
    assert len(re.findall(r"completion=\d+", html(at))) == min(60, total)


def test_shared_images_are_found_and_shown_in_pairs(indexed: Store, open_page: OpenPage) -> None:
    at = open_page("datasets", view="Overlap", training="tdiuc · train", benchmark="vqav2 · train")
    told = metrics(at)
    assert (told["Benchmark images"], told["Same file"]) == ("12", "12")
    assert told["Affected benchmark questions"] == "24 of 24"
    assert html(at).count('class="eg-two"') == 12
    assert "same file · 0 of 64 bits differ" in html(at)


def test_accuracy_is_offered_without_shared_images(indexed: Store, open_page: OpenPage) -> None:
    at = open_page("datasets", view="Overlap", training="shapes-simple · train", benchmark="shapes-simple · val")
    (table,) = at.dataframe
    assert set(table.value["run"]) == {"shapes-grpo", "shapes-sft"}
    assert all("n 24" in words for words in table.value["all"])
    at.slider[0].set_value(0).run()
    assert not at.exception
    assert set(at.dataframe[0].value["difference"]) == {"+0.0"}


def test_known_exposure_names_a_source_for_each_claim(empty_store: Store, open_page: OpenPage) -> None:
    at = open_page("datasets", view="Seen by base models")
    told = "".join(element.value for element in at.markdown)
    for name in ("tiny", "SmolVLM", "Qwen2-VL", "tallyqa", "the_cauldron", "arxiv.org"):
        assert name in told


def test_an_empty_database_says_what_to_do(empty_store: Store, open_page: OpenPage) -> None:
    for view in ("Examples", "Overlap"):
        assert "Index a dataset here" in open_page("datasets", view=view).info[0].value


def submit(at: AppTest) -> None:
    next(button for button in at.button if button.label == "Index").click().run()
    assert not at.exception


def test_indexing_starts_in_the_form(empty_store: Store, open_page: OpenPage) -> None:
    at = open_page("datasets")
    at.number_input(key="index.limit").set_value(30)
    at.selectbox(key="index.split").set_value("val")
    submit(at)
    deadline = time.monotonic() + 90
    while (row := list_indexes(empty_store)[0]).state != "finished":
        assert time.monotonic() < deadline and row.state != "failed", row
        time.sleep(0.3)
    at = open_page("datasets")
    assert metrics(at)["Usable"] == "30"


def test_the_form_refuses_what_cannot_be_indexed(empty_store: Store, open_page: OpenPage) -> None:
    at = open_page("datasets")
    at.selectbox(key="index.dataset").set_value("tdiuc")
    for folder in ("", "/nowhere/at/all"):
        at.text_input(key="index.folder").set_value(folder)
        submit(at)
        assert list_indexes(empty_store) == []


def test_what_is_at_work_and_what_failed_is_shown(seeded_store: Store, open_page: OpenPage) -> None:
    what = {"path": "/data/x", "split": "test", "limit": 200}
    failed = ask_index(seeded_store, name="countqa", **what)
    fail_index(seeded_store, failed, "The disk is full: free *some* space.")
    working = ask_index(seeded_store, name="tallyqa", **what)
    advance_index(seeded_store, working, 100)
    at = open_page("datasets")
    assert r"free \*some\* space" in at.error[0].value
    assert at.get("progress")[0].value == 50
    next(button for button in at.button if button.label == "Dismiss").click().run()
    assert [row.name for row in list_indexes(seeded_store)] == ["tallyqa"]


def test_hostile_texts_are_inert_on_the_page(empty_store: Store, open_page: OpenPage) -> None:
    picture = encode_png(shapes.examples("simple", "train", 1, 0)[0].images[0])
    rows = [
        ExampleRow(
            dataset="<b>data</b>",
            split="![s](http://evil.example/s.png)",
            key=f'"><script>{i}</script>',
            question=text.encode("utf-8", "replace").decode(),
            answer=i,
            reference="<script>alert(2)</script> ![r](http://evil.example/r.png)",
            difficulty="<img src=x onerror=alert(1)> ![d](http://evil.example/d.png)",
            images=(picture,),
        )
        for i, text in enumerate(HOSTILE)
    ]
    ids = add_examples(empty_store, rows)
    pages = [open_page("datasets"), open_page("datasets", example=str(ids[0]))]
    assert len(cards(pages[0])) == len(rows)
    for at in pages:
        for element in at.html:
            assert set(re.findall(r"<([a-z]+)", element.value)) <= {"a", "b", "div", "img", "span", "style"}
            assert not re.search(r'<img(?! class="(?:eg|tv)-image")', element.value)
        for kind in ("markdown", "caption", "info", "warning", "badge"):
            told = "".join(str(getattr(element, "value", "")) for element in at.get(kind))
            assert "](http" not in told
