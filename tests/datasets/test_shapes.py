"""The drawn world: deterministic, splits that never share a scene, counts as promised."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import islice

import pytest

from store import trace
from trainer.datasets import shapes
from trainer.datasets.images import encode_png
from trainer.datasets.shapes import World
from trainer.datasets.shapes import text as shapes_text
from trainer.spec.config import DRAWN_DATASETS
from trainer.tiny import corpus

each_world = pytest.mark.parametrize("world", shapes.WORLDS.values(), ids=shapes.WORLDS.keys())


@each_world
@pytest.mark.parametrize("difficulty", shapes.DIFFICULTIES)
def test_no_scene_is_in_two_splits(difficulty: str, world: World) -> None:
    seen = {
        split: {scene.canonical() for scene, _, _ in islice(shapes.scenes(difficulty, split, seed, world), 600)}
        for seed, split in enumerate(shapes.SPLITS)
    }
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_pre_training_draws_from_the_train_split_only() -> None:
    assert {document.scene.split() for document in islice(corpus.documents(5), 1500)} == {"train"}


@pytest.mark.parametrize("difficulty", shapes.DIFFICULTIES)
def test_the_same_seed_gives_the_same_examples_byte_for_byte(difficulty: str) -> None:
    first, second = (shapes.examples(difficulty, "val", 20, 3) for _ in range(2))
    assert [(e.id, e.question, e.answer, e.reference, e.meta) for e in first] == [
        (e.id, e.question, e.answer, e.reference, e.meta) for e in second
    ]
    assert [encode_png(e.images[0]) for e in first] == [encode_png(e.images[0]) for e in second]
    assert shapes.examples(difficulty, "val", 20, 4)[0].id != first[0].id


def test_keys_are_unique_and_do_not_depend_on_how_many_are_drawn() -> None:
    many = shapes.examples("simple", "test", 1000, 0)
    assert len({e.id for e in many}) == 1000
    assert [e.id for e in shapes.examples("simple", "test", 50, 0)] == [e.id for e in many[:50]]


@each_world
@pytest.mark.parametrize("split", shapes.SPLITS)
def test_simple_counts_are_near_uniform_with_few_zeros(split: str, world: World) -> None:
    counts = Counter(e.answer for e in shapes.examples("simple", split, 1500, 0, world))
    assert counts[0] <= 0.05 * 1500
    assert max(counts) == world.most
    for n in range(1, world.most + 1):
        assert 0.07 < counts[n] / 1500 < 0.15, (n, counts)


@each_world
@pytest.mark.parametrize("difficulty", shapes.DIFFICULTIES)
def test_the_answer_is_the_number_of_drawn_objects_that_were_asked_for(difficulty: str, world: World) -> None:
    for example in shapes.examples(difficulty, "train", 200, 1, world):
        assert example.images[0].size == (world.size, world.size)
        assert example.answer == sum(o["hit"] for o in example.meta["objects"])


@each_world
def test_the_reference_names_every_object_and_the_count(world: World) -> None:
    for example in shapes.examples("simple", "train", 200, 1, world):
        hits = [o for o in example.meta["objects"] if o["hit"]]
        reference = example.reference or ""
        for o in hits:
            assert f"a {o['color']} {o['kind']}" in reference
        assert shapes_text.NUMBER_WORDS[len(hits)] in reference


@pytest.mark.parametrize(("closes_lists", "share"), [(False, 0.0), (True, corpus.CLOSED_SHARE)])
def test_a_list_that_is_closed_answers_with_what_it_counted(closes_lists: bool, share: float) -> None:
    listed = [d for d in islice(corpus.documents(3, closes_lists), 2000) if d.user.startswith("List")]
    closed = [trace.parse(d.assistant) for d in listed if d.assistant.endswith("</answer>")]
    assert len(closed) / len(listed) == pytest.approx(share, abs=0.04)
    assert all(each.wellformed and each.text.count(". ") == each.answer for each in closed)


def test_no_question_is_answered_in_the_reference_style_in_the_pre_training_text() -> None:
    """No run of four words of a reference occurs in an answer to a question or in a list."""
    documents = [d for d in islice(corpus.documents(2), 4000) if d.user.startswith(("How many", "List"))]
    texts = [document.assistant for document in documents]
    known = {tuple(words[i : i + 4]) for text in texts for words in [text.split()] for i in range(len(words) - 3)}
    for example in shapes.examples("simple", "train", 300, 9, corpus.WORLD):
        words = (example.reference or "").split()
        assert not known & {tuple(words[i : i + 4]) for i in range(len(words) - 3)}


GOLDEN = {
    "simple": "eae41657e913c40bfc6306bb4672bf8c5fe4f8dacc46eabce9a7b9c0f12b20ff",
    "complex": "6f484204ca4dff653fcdc2e3791851b3f4793d3e1a40ef33a87d13bcd6b204e5",
    "hard": "deabaafe951a5ea6f9e8cba95ca2e9a8eb9089487f04871c7c218a4cfbc891c0",
}
"""SHA-256 of sixty examples of each split of the first world, so that old runs stay comparable with new ones."""


@pytest.mark.parametrize("difficulty", shapes.DIFFICULTIES)
def test_the_first_world_stays_what_it_was(difficulty: str) -> None:
    digest = hashlib.sha256()
    for split in shapes.SPLITS:
        for e in shapes.examples(difficulty, split, 60, 7):
            told = (e.id, e.key, e.question, e.answer, e.reference, e.meta, e.dataset, e.split, e.pictures[0].identity)
            digest.update(repr(told).encode() + encode_png(e.images[0]))
    assert digest.hexdigest() == GOLDEN[difficulty]


def test_a_drawn_set_is_known_by_its_name() -> None:
    assert shapes.world_of("board-hard") == (shapes.BOARD, "hard")
    assert shapes.world_of("board") is shapes.world_of("shapes-easy") is shapes.world_of("tdiuc") is None
    assert set(DRAWN_DATASETS) == {f"{world}-{level}" for world in shapes.WORLDS for level in shapes.DIFFICULTIES}


def test_a_wrong_difficulty_or_split_says_what_there_is() -> None:
    with pytest.raises(ValueError, match="simple, complex, hard"):
        next(shapes.scenes("easy", "train", 0, shapes.SHAPES))
    with pytest.raises(ValueError, match="train, val, test"):
        next(shapes.scenes("simple", "dev", 0, shapes.SHAPES))
