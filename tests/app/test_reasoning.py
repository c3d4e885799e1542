"""What is read in texts: steps against the scene, the answer against the steps, words that come and go."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.emergence.reasoning import (
    MATCHES,
    SceneCompletion,
    StepFigures,
    distinct_words,
    match_objects,
    read_step,
    vocabulary,
)
from app.emergence.vocabulary import table_html
from app.shared.word_diff import MOST_WORDS, word_diff
from trainer.datasets import shapes
from trainer.datasets.shapes import BOARD, COLORS, KINDS, SHAPES, World


def thing(color: str, kind: str, position: str, hit: bool = True) -> dict[str, object]:
    return {"color": color, "kind": kind, "position": position, "hit": hit}


SCENE = [
    thing("red", "circle", "top left"),
    thing("red", "circle", "middle center"),
    thing("blue", "star", "bottom right", hit=False),
]


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        (["red circle top left", "a Red circle, middle center."], {"hit": 2}),
        (["red circle top left", "the circle at the top left"], {"hit": 1, "repeated": 1, "missed": 1}),
        (["blue star bottom right"], {"beside": 1, "missed": 2}),
        (["green star bottom right", "red circle top right"], {"invented": 2, "missed": 2}),
        (["circles"], {"hit": 1, "missed": 1}),
        (["one more", "and another"], {"missed": 2}),
    ],
)
def test_steps_are_matched_to_objects(steps: list[str], found: dict[str, int]) -> None:
    assert +match_objects(steps, SCENE) == Counter(found)


def test_a_step_of_the_finer_grid_is_told_from_its_neighbour() -> None:
    scene = [thing("red", "star", "upper far left"), thing("red", "star", "upper left")]
    assert +match_objects(["red star upper left", "a red star, far left in the upper row"], scene) == Counter(
        {"hit": 2}
    )
    assert +match_objects(["red star upper left"] * 2, scene) == Counter({"hit": 1, "repeated": 1, "missed": 1})
    assert +match_objects(["red star upper far right"], scene) == Counter({"invented": 1, "missed": 2})


@pytest.mark.parametrize("world", [SHAPES, BOARD], ids=lambda world: world.name)
def test_a_faithful_list_hits_every_object_of_a_drawn_scene(world: World) -> None:
    for example in shapes.examples("simple", "train", 30, 1, world):
        objects = example.meta["objects"]
        hits = [f"{each['color']} {each['kind']} {each['position']}" for each in objects if each["hit"]]
        random.Random(0).shuffle(hits)
        assert +match_objects(hits, objects) == +Counter({"hit": example.answer})
        assert match_objects([], objects)["missed"] == example.answer


names = st.lists(st.sampled_from([*COLORS, *KINDS, *SHAPES.rows, *BOARD.columns, "so", "7"]), max_size=4).map(" ".join)


@settings(deadline=None)
@given(steps=st.lists(names, max_size=8))
def test_no_object_is_hit_twice_or_lost(steps: list[str]) -> None:
    found = match_objects(steps, SCENE)
    assert found["hit"] + found["missed"] == 2
    assert sum(found[kind] for kind in MATCHES[:-1]) <= len(steps)


def test_the_answer_is_held_against_the_last_step() -> None:
    texts = [
        "<think>1. red circle top left 2. red circle middle center</think><answer>2</answer>",
        "<think>1. red circle top left</think><answer>two</answer>",
        "<think>There are two. 1. red circle top left 2. b</think><answer>2</answer>",
        "<think>There are 21. 1. red 2. b</think><answer>2</answer>",
        "<think>none</think><answer>0</answer>",
        "1. a 2. b <answer>2</answer>",
    ]
    found = read_step([SceneCompletion(text, SCENE) for text in texts], "cot")
    assert (found.texts, found.stepped, found.agreeing, found.early) == (6, 4, 3, 1)
    assert found.matched == 4
    assert read_step([SceneCompletion(texts[0], None)], "cot").matched == 0


def test_words_are_those_of_the_text_without_tags() -> None:
    assert distinct_words("<think>Red, red 2. STAR_x</think><answer>3") == {"red", "star", "x"}
    assert distinct_words("z" * 100_000) == set()


def test_words_that_come_and_go() -> None:
    def reading(*said: str) -> StepFigures:
        return read_step([SceneCompletion(text, None) for text in said], "cot")

    early, late = reading("old and", "old"), reading("new and", "new", "new", "new")
    found = vocabulary([early, early, late, late], parts=2)
    assert [(one.word, one.shares) for one in found] == [
        ("new", (0.0, 1.0)),
        ("and", (0.5, 0.25)),
        ("old", (1.0, 0.0)),
    ]
    assert vocabulary([early]) == vocabulary([]) == []


def test_hostile_words_are_inert() -> None:
    before, after = (
        read_step([SceneCompletion(text, None)], "cot") for text in ("calm", "<img src=x onerror=alert(1)> ‮x")
    )
    shown = table_html(vocabulary([before, after]), last=2)
    assert "<img" not in shown
    assert "‮" not in shown


def test_reading_hostile_texts_takes_no_time() -> None:
    hostile = ["1. " * 40_000, "<think>" * 20_000, "<think>" + "1. red circle " * 8_000 + "</think><answer>1</answer>"]
    start = time.process_time()
    found = read_step([SceneCompletion(text, SCENE) for text in hostile], "cot")
    assert time.process_time() - start < 2
    assert found.texts == 3


def test_a_difference_shows_what_is_new_and_what_is_gone() -> None:
    shown = word_diff("<think>1. red star</think>", "<think>1. blue star</think>")
    assert shown == '<div class="wd">&lt;think&gt;1. <del>red</del><ins>blue</ins> star&lt;/think&gt;</div>'
    assert word_diff(None, "a b") == word_diff("a b", "a b") == '<div class="wd">a b</div>'


@settings(deadline=None)
@given(before=st.text(max_size=60), after=st.text(max_size=60))
def test_a_difference_loses_nothing_and_is_inert(before: str, after: str) -> None:
    inside = word_diff(before, after).removeprefix('<div class="wd">').removesuffix("</div>")
    for tag in ("<ins>", "</ins>", "<del>", "</del>", '<span class="tv-hidden">', "</span>"):
        inside = inside.replace(tag, "")
    assert "<" not in inside


def test_long_texts_are_compared_as_far_as_that_is_quick() -> None:
    rng = random.Random(0)
    before, after = (" ".join(rng.choices("abcdefgh", k=50_000)) for _ in range(2))
    start = time.process_time()
    shown = word_diff(before, after)
    assert time.process_time() - start < 5
    assert len(shown) < 60 * MOST_WORDS
