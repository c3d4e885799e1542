"""The drift page: its head, its columns, what its address means, and what it does where something is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.drift import changes, reading, reads, sentence_pairs
from app.drift.reading import ReadingColumn
from app.drift.sentences import align
from app.drift.sides import Side
from app.runs import table
from app.shared import data
from store import embeddings
from store.db.engine import Store, open_store
from store.db.rows import EvaluationRow
from store.evaluations.predictions import list_predictions, read_scores
from store.evaluations.records import list_evaluations
from store.examples import get_examples
from store.runs import list_runs
from tests import compared, seeded
from tests.pages.conftest import copied
from tests.pages.test_compare import htmls, words
from tests.pages.test_trace_view import HOSTILE
from tests.pages.test_trace_view import read as inert
from trainer.spec.wording import NULL, sentences, style_text

Open = Callable[..., AppTest]
ONE_RANK = replace(compared.TABLES, ranks=(32,))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drifted")
    store = open_store(str(folder / "runs.db"))
    compared.fill(store, ONE_RANK, n=12)
    store.close()
    return folder


@pytest.fixture
def drifted(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The base, SFT and GRPO, tested on 12 examples of three benchmarks."""
    return copied(filled, tmp_path / "data", monkeypatch)


def the_test(store: Store, name: str, benchmark: str = "shapes-simple") -> EvaluationRow:
    found = list_evaluations(store, seeded.find(store, name).id)
    return next(each for each in found if each.kind == "test" and each.benchmark == benchmark)


def sides(store: Store, *names: str) -> str:
    return ",".join(str(the_test(store, name).id) for name in names)


def say(store: Store, name: str, thinking: str, *, n: int = 6) -> int:
    """A probe of a run that says the same thing to each of n questions; returns its id."""
    held_out = compared.shapes.examples("complex", "val", n, 0)
    texts = [f"<think>{thinking.format(noun=one.meta['noun'], n=one.answer)}</think>" for one in held_out]
    return compared.probe(store, seeded.find(store, name).id, held_out, texts)


SFT, GRPO, BASE = "sft-cot-tiny-r32-s0", "grpo-cot-tiny-r32-s0", "zero-shot-cot-tiny"


def test_without_runs_and_without_evaluations_it_says_what_to_do(empty_store: Store, open_page: Open) -> None:
    assert "No runs yet" in words(open_page("drift"))
    seeded.new_run(empty_store, seeded.config("shapes-grpo"))
    data.forget()
    assert "Drift needs two finished evaluations on the same questions" in words(open_page("drift"))


def test_one_look_tells_whether_they_drifted_apart(drifted: Store, open_page: Open) -> None:
    app = open_page("drift")
    assert "SFT and GRPO drifted apart" in words(app).replace("\\", "")
    assert "close to it by construction" in words(app)
    shown = htmls(app)
    assert "Similarity (all-MiniLM-L6-v2)" in shown and "GRPO minus SFT" in shown
    found = (
        read_scores(drifted, the_test(drifted, GRPO).id).similarity
        - read_scores(drifted, the_test(drifted, SFT).id).similarity
    )
    assert f"{found.mean():+.2f}".replace("-", "−") in shown
    assert shown.count('<div class="dr-said">') == 2 * 10


def test_reference_and_four_columns_with_the_differences_to_one_of_them(drifted: Store, open_page: Open) -> None:
    app = open_page("drift", sides=sides(drifted, SFT, GRPO, BASE), against="SFT")
    cards = next(each.proto.body for each in app.get("html") if "dr-columns" in each.proto.body)
    assert cards.count('class="dr-name"') == 4
    measure = cards.split('<div class="dr-column')[3]
    assert measure.startswith(" dr-measure") and "<ins>" not in measure
    assert cards.count("similarity <b>") == 3 and "<ins>" in cards and "tokens" in cards
    assert [html.proto.body.count("dr-pairs") for html in app.get("html")].count(1) == 3


def test_the_question_and_the_order_stand_in_the_address(drifted: Store, open_page: Open) -> None:
    both = sides(drifted, SFT, GRPO)
    ids = read_scores(drifted, the_test(drifted, SFT).id).example_id.tolist()
    app = open_page("drift", sides=both, order="random", example=str(ids[4]))
    assert get_examples(drifted, ids)[ids[4]].question in htmls(app)
    place = next(caption.value for caption in app.caption if " of 12" in caption.value)
    app.button(key="drift.Right").click().run() if not place.startswith("12") else None
    assert app.query_params["order"] == "random" and app.query_params["sides"] == both
    assert app.query_params["example"] != str(ids[4]) or place.startswith("12")
    app.segmented_control(key="drift.order").set_value("similar").run()
    assert "example" not in app.query_params and app.query_params["order"] == "similar"
    assert any(caption.value == "1 of 12" for caption in app.caption)


def test_the_ten_furthest_apart_are_one_click_from_the_number(drifted: Store, open_page: Open) -> None:
    app = open_page("drift", view="What changed", order="wrong", phrase="so")
    app.button(key="drift.ten").click().run()
    assert not app.exception
    assert "phrase" not in app.query_params and app.query_params["order"] == "drift"
    assert "Questions 1 to 10" in words(app)
    one, other = (read_scores(drifted, the_test(drifted, name).id) for name in (SFT, GRPO))
    far = int(one.example_id[abs(one.similarity - other.similarity).argmax()])
    assert get_examples(drifted, [far])[far].question in htmls(app)


def test_a_phrase_leaves_the_questions_where_it_is_said(drifted: Store, open_page: Open) -> None:
    app = open_page("drift", phrase="nobody says this")
    assert "Only questions where one of the two says “nobody says this”" in htmls(app)
    assert "There are no such questions" in words(app)


def test_what_changed_has_phrases_structure_and_repetition(drifted: Store, open_page: Open) -> None:
    made = [
        say(drifted, SFT, "I look for {noun} in the picture and find {n}. So the total comes to {n}.", n=24),
        say(drifted, GRPO, "1. one of the {noun} so {n}", n=24),
    ]
    app = open_page("drift", view="What changed", sides=",".join(map(str, made)))
    shown = htmls(app)
    for name in ("Numbered list", "Prose", "Restated question", "Verification", "Hedging", "Compression ratio"):
        assert name in shown
    assert "More common in GRPO" in words(app)
    assert "phrase=find" in shown and "phrase=one" in shown
    app.segmented_control(key="drift.words").set_value(3).run()
    assert "phrase=i+look+for" in htmls(app) and "phrase=1+one+of" in htmls(app)


def test_only_shared_questions_count(drifted: Store, open_page: Open) -> None:
    wider = compared.measure(
        drifted,
        seeded.find(drifted, SFT).id,
        next(config for arm, config in compared.experiments.plan_runs(ONE_RANK) if arm == "SFT CoT"),
        the_test(drifted, SFT).conditions,
        compared.shapes.examples("simple", "test", 20, 0),
        kind="test",
        step=7,
        progress=1.0,
    )
    app = open_page("drift", sides=f"{wider},{the_test(drifted, GRPO).id}")
    assert "Only the 12 questions that all of them answered are compared" in words(app).replace("\\", "")
    hard = the_test(drifted, GRPO, "shapes-hard").id
    app = open_page("drift", sides=f"{wider},{hard}")
    assert [each.value for each in app.warning] == ["Columns with other questions than the first one are left out."]


def test_it_works_with_texts_alone(empty_store: Store, open_page: Open) -> None:
    """Probes have no similarity: the page says so, and words tell what is furthest apart."""
    compared.fill(empty_store, ONE_RANK, n=4)
    made = [
        say(empty_store, SFT, "I see {n} of them. So there are {n}."),
        say(empty_store, GRPO, "1. one 2. two so {n} {n}"),
    ]
    app = open_page("drift", sides=",".join(map(str, made)))
    shown = words(app).replace("\\", "")
    assert "their thinking is not embedded" in shown
    assert any(button.label == "Embed traces" for button in app.button)
    assert "cosines of word counts" in shown
    assert "since they are not embedded" in app.segmented_control(key="drift.order").help


@pytest.mark.parametrize("query", [{"sides": "99999"}, {"sides": "x,-1,1e9"}, {"run": "gone"}, {"on": "no such"}])
def test_an_address_of_something_gone_shows_something_else(
    drifted: Store, open_page: Open, query: dict[str, str]
) -> None:
    assert "drifted apart" in words(open_page("drift", **query)).replace("\\", "")


def test_a_run_alone_finds_its_counterpart(drifted: Store, open_page: Open) -> None:
    for name in (SFT, GRPO):
        app = open_page("drift", run=seeded.find(drifted, name).uid)
        assert app.multiselect(key="drift.sides").value == [the_test(drifted, SFT).id, the_test(drifted, GRPO).id]


def test_selected_runs_lead_here(drifted: Store, open_page: Open) -> None:
    app = open_page("runs")
    uids = [seeded.find(drifted, name).uid for name in (GRPO, BASE)]
    app.session_state[table.SELECTED] = uids
    app.run().button(key="drift").click().run()
    assert not app.exception
    assert app.title[0].value == "Drift"
    assert app.multiselect(key="drift.sides").value == [the_test(drifted, name).id for name in (GRPO, BASE)]


def test_embedded_texts_are_matched_and_measured_by_their_vectors(drifted: Store, open_page: Open) -> None:
    made = [say(drifted, SFT, "I see {n}. So there are {n}."), say(drifted, GRPO, "1. one 2. two so {n}")]
    rows = [row for id in made for row in list_predictions(drifted, id)]
    examples = get_examples(drifted, [row.example_id for row in rows])
    texts = (
        {style_text(row.text, row.think) for row in rows} | {one.reference or "" for one in examples.values()} | {NULL}
    )
    texts |= {part for text in texts for part in sentences(text)}
    rng = np.random.default_rng(0)
    drawn = {text: rng.normal(size=8) for text in sorted(texts)}
    unit = {text: vector / np.linalg.norm(vector) for text, vector in drawn.items()}
    encoder = embeddings.use_encoder(drifted, "all-MiniLM-L6-v2", "1", 8)
    embeddings.add_embeddings(drifted, encoder, unit)
    (used,) = embeddings.encoders(drifted)
    known = {side.evaluation.id: side for side in sides_of(drifted)}
    found = reads.reading(drifted, [known[id] for id in made], used)
    assert found.encoder == "all-MiniLM-L6-v2"
    for side, id in enumerate(made):
        for place, row in enumerate(list_predictions(drifted, id)):
            own = unit[NULL] if not row.wellformed else unit[style_text(row.text, row.think)]
            cosine = own @ unit[examples[row.example_id].reference or ""]
            assert found.shared.similarity[side, place] == pytest.approx(cosine, abs=0.002)
    app = open_page("drift", sides=",".join(map(str, made)))
    assert "cosines of all-MiniLM-L6-v2" in words(app).replace("\\", "")
    embeddings.use_encoder(drifted, "all-MiniLM-L6-v2", "2", 8)
    assert reads.reading(drifted, [known[id] for id in made], embeddings.encoders(drifted)[0]).encoder is None


def sides_of(store: Store) -> list[Side]:
    return [Side(run, each) for run in list_runs(store) for each in list_evaluations(store, run.id)]


def test_other_questions_keep_the_runs(drifted: Store, open_page: Open) -> None:
    app = open_page("drift", sides=sides(drifted, SFT, GRPO))
    app.selectbox(key="drift.on").set_value("shapes-hard test").run()
    assert not app.exception
    assert app.multiselect(key="drift.sides").value == [
        the_test(drifted, name, "shapes-hard").id for name in (SFT, GRPO)
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_inert(text: str) -> None:
    column = ReadingColumn(text, "#000000", f"{text} {text}")
    shown = [
        reading.card(column, "1. red", measure=False),
        reading.card(column, None, measure=True),
        sentence_pairs.pairs(text, text, align([text], [f"{text} red"], None)),
        changes._shares([(text, 0.5)]),
    ]
    for html in shown:
        found = inert(html)
        assert set(found.tags) <= {"div", "span", "b", "i", "ins", "del", "small", "br"}
        assert {name for name, _ in found.attributes} <= {"class", "style"}
