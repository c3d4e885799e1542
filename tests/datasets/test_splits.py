"""Roles: no image in two of them, the same draws for the same seed, and refusals that say why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.datasets.layouts import MAKERS, SPLITS, encoded, made, picture, put
from trainer import datasets
from trainer.datasets import shapes, splits
from trainer.datasets.example import Example
from trainer.datasets.files import EncodedPicture
from trainer.datasets.images import BROKEN
from trainer.datasets.questions import Skipped
from trainer.datasets.splits import ROLES, Drawn, Role, Share, by_image, by_row, collect, draw, places, shares
from trainer.spec.config import ConfigError, DataConfig, from_dict
from trainer.spec.errors import TrainerError


def unread() -> bytes:
    raise AssertionError("a picture was read that was not drawn")


def example(key: str, *images: str, split: str = "train", reference: str | None = None, **more: Any) -> Example:
    pictures = tuple(EncodedPicture(image, unread) for image in images)
    return Example("set", split, key, more.pop("question", "How many?"), more.pop("answer", 1), pictures, reference)


def identities(drawn: Drawn) -> set[str]:
    return {picture.identity for row in drawn.examples for picture in row.pictures}


def test_shares() -> None:
    whole = {role: Share(role) for role in ROLES}
    assert shares(["train", "val", "test"]) == whole
    held = {"train": Share("train", 0, 90), "val": Share("train", 90, 100)}
    assert shares(["train", "val"]) == held | {"test": Share("val")}
    assert shares(["train", "test"]) == held | {"test": Share("test")}
    assert shares(["train"]) == {
        "train": Share("train", 0, 75),
        "val": Share("train", 75, 85),
        "test": Share("train", 85, 100),
    }
    assert shares(["test"]) == {"test": Share("test")}
    assert shares(["val"]) == {"test": Share("val")}


IMAGES = st.lists(st.text(st.characters(), max_size=4), min_size=1, max_size=3)


@given(st.dictionaries(st.sampled_from(ROLES), st.lists(IMAGES, max_size=30), min_size=1))
def test_no_image_is_in_two_roles(sets: dict[Role, list[list[str]]]) -> None:
    rows = {s: [example(f"{s}{i}", *images, split=s) for i, images in enumerate(each)] for s, each in sets.items()}
    parts = shares(list(sets))
    found = by_image({split: collect(each) for split, each in rows.items()}, parts, references_only=False)
    roles = list(found.values())
    for i, one in enumerate(roles):
        for other in roles[i + 1 :]:
            assert identities(one).isdisjoint(identities(other))
    for role, drawn in found.items():
        of_split = [row for row in rows[parts[role].split] if row.pictures]
        assert all(row in of_split for row in drawn.examples)
    # Nothing of the test's own split is lost.
    if parts["test"] == Share(parts["test"].split):
        assert len(found["test"].examples) == len(rows[parts["test"].split])


@given(st.sets(st.text(st.characters(), max_size=8), min_size=3, max_size=150))
def test_a_small_set_has_images_for_every_role(images: set[str]) -> None:
    found = sorted(places(images).values())
    assert len(found) == len(images)
    assert found[0] < 75 and found[-1] >= 90
    assert any(75 <= place < 85 for place in found)


def test_shares_of_images_are_near_what_is_asked() -> None:
    counts = Counter(place // 25 for place in places({f"image {i}" for i in range(4000)}).values())
    assert all(900 < counts[quarter] < 1100 for quarter in range(4))


def test_the_role_of_an_image_does_not_depend_on_the_others() -> None:
    many = places({f"image {i}" for i in range(400)})
    fewer = places({f"image {i}" for i in range(300)})
    assert all(many[image] == place for image, place in fewer.items())


@pytest.mark.parametrize("name", [name for name in MAKERS if "train" in SPLITS[name]])
def test_real_sets_have_three_roles_without_a_common_image(name: str, tmp_path: Path) -> None:
    config = made(name, tmp_path)
    found = datasets.load_roles(config, {"train": 100, "val": 100, "test": 100}).examples
    seen = {role: {p.load().tobytes() for e in found[role] for p in e.pictures} for role in ROLES}
    assert all(seen.values())
    assert not seen["train"] & seen["val"] and not seen["train"] & seen["test"] and not seen["val"] & seen["test"]
    assert sum(len(found[role]) for role in ROLES) == sum(SPLITS[name].values())
    assert {e.split for role in ROLES for e in found[role]} == set(SPLITS[name])


def test_a_draw_repeats_and_a_smaller_one_is_its_beginning(tmp_path: Path) -> None:
    config = made("tdiuc", tmp_path)
    whole = [e.key for e in datasets.load_role(config, "train", 100)]
    assert [e.key for e in datasets.load_role(config, "train", 5)] == whole[:5]
    other = [e.key for e in datasets.load_role(config.model_copy(update={"seed": 1}), "train", 100)]
    assert sorted(other) == sorted(whole)
    assert other != whole


def test_only_what_is_drawn_is_decoded_and_a_bad_picture_is_passed_over() -> None:
    good = EncodedPicture("good", lambda: open_red())
    bad = EncodedPicture("bad", lambda: b"no picture")
    rows = [Example("set", "train", str(i), "How many?", 1, (bad if i % 3 else good,)) for i in range(30)]
    found = draw(Drawn(rows, Counter(earlier=2)), 4, seed=0)
    assert [e.pictures[0].identity for e in found.examples] == ["good"] * 4
    assert found.skipped["earlier"] == 2
    assert 0 < found.skipped[BROKEN] < 20
    assert draw(Drawn([example("k", "never read")], Counter()), 0, seed=0).examples == []


def open_red() -> bytes:
    import io

    buffer = io.BytesIO()
    Image.new("RGB", (30, 30), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (example("k", "i", question="How many \ud800?"), splits.NOT_UNICODE),
        (example("k", "i", reference="\udfff"), splits.NOT_UNICODE),
        (example("k", "i", question="How many?" * 1000), splits.TOO_LONG),
        (example("k" * 300, "i"), splits.TOO_LONG),
        (example("k", "i", answer=10**9), splits.BIG_COUNT),
    ],
)
def test_what_no_run_could_hold_is_passed_over(row: Example, reason: str) -> None:
    assert draw(Drawn([row], Counter()), 1, seed=0) == Drawn([], Counter([reason]))


def test_only_rows_with_a_reference(tmp_path: Path) -> None:
    config = made("quantity-23k", tmp_path, references_only=True)
    found = datasets.load_roles(config, {"train": 100, "val": 100, "test": 100}).examples
    assert sum(len(examples) for examples in found.values()) == 25
    assert all(e.reference for role in ROLES for e in found[role])


def test_a_run_that_imitates_is_measured_on_the_same_examples_as_any_other(tmp_path: Path) -> None:
    config = made("quantity-23k", tmp_path)
    imitating, rewarded = (datasets.load_run(config, imitates=flag).examples for flag in (True, False))
    assert all(e.reference for e in imitating["train"])
    assert len(imitating["train"]) < len(rewarded["train"])
    for role in ("val", "test"):
        assert [e.id for e in imitating[role]] == [e.id for e in rewarded[role]]


def test_the_rule_row_repeats_the_seed_projects_split() -> None:
    rows: list[Example | Skipped] = [example(str(i), "one image", reference="r") for i in range(40)]
    rows += [example("without", "i"), Skipped("bad")]
    found = by_row(collect(rows))
    assert [len(found[role].examples) for role in ROLES] == [30, 4, 6]
    assert {e.key for role in ROLES for e in found[role].examples} == {str(i) for i in range(40)}
    assert found["test"].skipped == {splits.NO_REFERENCE: 1, "bad": 1}
    # numpy.random.default_rng(42).permutation(40), which `datasets.Dataset.shuffle(seed=42)` uses too.
    from datasets import Dataset

    shuffled = Dataset.from_dict({"key": [str(i) for i in range(40)]}).shuffle(seed=42)["key"]
    assert [e.key for role in ROLES for e in found[role].examples] == list(shuffled)


def test_the_rule_row_is_labelled_in_the_record(tmp_path: Path) -> None:
    loaded = datasets.load_run(made("quantity-23k", tmp_path, split_rule="row"), imitates=False)
    assert "as in the original" in loaded.facts["split"]
    assert loaded.facts["examples"] == {"train": 18, "val": 3, "test": 4}
    assert loaded.facts["skipped"]["train"] == {splits.NO_REFERENCE: 7}


def test_training_on_a_benchmark_is_refused(tmp_path: Path) -> None:
    for method in ("grpo", "sft"):
        with pytest.raises(
            ConfigError, match=r"countqa is a benchmark with a test split only.*Train on another dataset"
        ):
            from_dict({"method": method, "data": {"dataset": "countqa"}})
    config = made("countqa", tmp_path)
    with pytest.raises(TrainerError, match=r"no examples for train, only test"):
        datasets.load_role(config, "train", 1)
    assert len(datasets.load_role(config, "test", 100)) == 32


def test_a_role_of_which_nothing_can_be_used_is_refused_with_the_reasons(tmp_path: Path) -> None:
    put(tmp_path / "examples.jsonl", '{"question": "How many?", "answer": "x", "image": "a.png"}\n' * 3)
    config = DataConfig(dataset="folder", path=str(tmp_path))
    with pytest.raises(TrainerError, match=r"no usable example for train \(answer is not a whole number: 3\)"):
        datasets.load_role(config, "train", 1)


def test_too_few_images_for_all_roles_are_said_to_be_too_few(tmp_path: Path) -> None:
    put(tmp_path / "a.png", encoded(picture(1, (40, 40))))
    put(tmp_path / "examples.jsonl", '{"question": "How many?", "answer": 2, "image": "a.png"}\n')
    config = DataConfig(dataset="folder", path=str(tmp_path))
    with pytest.raises(TrainerError, match=r"too few images for train, val and test: none are left for train"):
        datasets.load_run(config, imitates=False)


def test_imitation_without_references_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"no reference reasoning.*Choose style direct, or GRPO"):
        datasets.load_run(made("tdiuc", tmp_path), imitates=True)


def test_no_test_examples_are_none() -> None:
    assert shapes.examples("simple", "test", 0, 0) == []
