"""The drawn world: deterministic, splits that never share a scene, counts as promised."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from trainer.datasets import shapes, shapes_text
from trainer.datasets.images import encode_png
from trainer.tiny import corpus


@pytest.mark.parametrize("difficulty", shapes.DIFFICULTIES)
def test_no_scene_is_in_two_splits(difficulty: str) -> None:
    seen = {
        split: {scene.canonical() for scene, _, _ in islice(shapes.scenes(difficulty, split, seed), 600)}
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


@pytest.mark.parametrize("split", shapes.SPLITS)
def test_simple_counts_are_near_uniform_with_few_zeros(split: str) -> None:
    counts = Counter(e.answer for e in shapes.examples("simple", split, 1500, 0))
    assert counts[0] <= 0.05 * 1500
    for n in range(1, 10):
        assert 0.07 < counts[n] / 1500 < 0.15, (n, counts)


@pytest.mark.parametrize("difficulty", shapes.DIFFICULTIES)
def test_the_answer_is_the_number_of_drawn_objects_that_were_asked_for(difficulty: str) -> None:
    for example in shapes.examples(difficulty, "train", 200, 1):
        assert example.answer == sum(o["hit"] for o in example.meta["objects"])


def test_the_reference_names_every_object_and_the_count() -> None:
    for example in shapes.examples("simple", "train", 200, 1):
        hits = [o for o in example.meta["objects"] if o["hit"]]
        reference = example.reference or ""
        for o in hits:
            assert f"a {o['color']} {o['kind']}" in reference
        assert shapes_text.NUMBER_WORDS[len(hits)] in reference


def test_the_reference_style_is_not_in_the_pre_training_text() -> None:
    """No run of four words of a reference occurs in an answer of the corpus, echoes of shuffled words aside."""
    texts = [d.assistant for d in islice(corpus.documents(2), 4000) if not d.user.startswith("Repeat")]
    known = {tuple(words[i : i + 4]) for text in texts for words in [text.split()] for i in range(len(words) - 3)}
    for example in shapes.examples("simple", "train", 300, 9):
        words = (example.reference or "").split()
        assert not known & {tuple(words[i : i + 4]) for i in range(len(words) - 3)}


def test_a_wrong_difficulty_or_split_says_what_there_is() -> None:
    with pytest.raises(ValueError, match="simple, complex, hard"):
        next(shapes.scenes("easy", "train", 0))
    with pytest.raises(ValueError, match="train, val, test"):
        next(shapes.scenes("simple", "dev", 0))
