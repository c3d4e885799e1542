"""Every layout: exact counts and keys, and each kind of row that must be skipped or survive."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.datasets import layouts
from tests.datasets.layouts import CIRCLES, MAKERS, SPLITS, SQUARES, encoded, made, picture, put, put_shards
from trainer.datasets import files, inspect, kinds, questions, traces
from trainer.datasets.example import Example
from trainer.datasets.images import BROKEN, MISSING, OUTSIDE
from trainer.datasets.questions import Skipped
from trainer.datasets.source import open_source
from trainer.datasets.tables import reading
from trainer.spec.config import ConfigError, DataConfig
from trainer.spec.errors import TrainerError

EMPTY = f"image is {kinds.EMPTY}"


def rows(config: DataConfig, split: str) -> list[Example | Skipped]:
    return list(open_source(config).source.read(split))


def examples(config: DataConfig, split: str) -> list[Example]:
    return [row for row in rows(config, split) if isinstance(row, Example)]


def reasons(config: DataConfig, split: str) -> dict[str, int]:
    """Why rows were skipped, pictures looked at."""
    found: dict[str, int] = inspect.inspect(config, split)["splits"][split]["skipped"]
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_every_question_is_found_with_its_true_answer_and_picture(name: str, tmp_path: Path) -> None:
    config = made(name, tmp_path)
    assert set(open_source(config).source.splits) == set(SPLITS[name])
    for split, n in SPLITS[name].items():
        found = examples(config, split)
        assert len(found) == n
        assert len({example.id for example in found}) == n
        for example in found:
            [image] = example.images
            # The blue of the background tells which picture it is.
            number = round((240 - image.getpixel((62, 46))[2]) / 8)
            expected = number + 1 if example.question.startswith(SQUARES) else 0
            assert example.answer == expected, example


@pytest.mark.parametrize(
    ("name", "split", "first", "last"),
    [
        ("tdiuc", "train", "0", "111"),
        ("vqav2", "val", "120", "151"),
        ("tallyqa", "test", "120", "151"),
        ("tallyqa-test", "test", "0-0", "15-1"),
        ("countqa", "test", "0-0", "15-1"),
        ("quantity-23k", "train", "0-0", "31-0"),
        ("cauldron", "train", "0-0", "15-1"),
        ("folder", "train", "0-0", "31-0"),
    ],
)
def test_keys(name: str, split: str, first: str, last: str, tmp_path: Path) -> None:
    found = examples(made(name, tmp_path), split)
    assert (found[0].key, found[-1].key) == (first, last)


def test_difficulty_is_known_where_the_set_says_so(tmp_path: Path) -> None:
    assert Counter(e.difficulty for e in examples(made("tallyqa-test", tmp_path / "a"), "test")) == {
        "simple": 16,
        "complex": 16,
    }
    tallyqa = made("tallyqa", tmp_path / "b")
    assert {e.difficulty for e in examples(tallyqa, "train")} == {None}
    assert {e.difficulty for e in examples(tallyqa, "test")} == {"simple", "complex"}


def test_a_hint_after_the_question_stays(tmp_path: Path) -> None:
    assert examples(made("cauldron", tmp_path), "train")[0].question == f"{SQUARES}\nAnswer briefly."


@pytest.mark.parametrize("name", ["tdiuc", "vqav2"])
def test_hostile_rows_of_a_json_pair(name: str, tmp_path: Path) -> None:
    config = made(name, tmp_path)
    source: Any = open_source(config).source
    paths = [source.root / pattern.format(split="train") for pattern in (source.questions, source.annotations)]
    asked, annotated = (json.loads(path.read_text()) for path in paths)
    typed = {"question_type": "counting" if name == "tdiuc" else "how many"}

    def add(number: Any, question: Any, answer: Any, image: Any = 0) -> None:
        asked["questions"].append({"question_id": number, "image_id": image, "question": question})
        fields = {"multiple_choice_answer": answer, "answers": [{"answer": answer}]}
        annotated["annotations"].append({"question_id": number, **typed, **fields})

    add(900, SQUARES, "many")
    add(901, " \n", "1")
    add(902, None, "1")
    add(903, SQUARES, "1", image=77)
    add(904, SQUARES, "1", image="../../../../secret")
    add(905, SQUARES, None)
    add(0, "Again?", "5")
    add("906", "<b>How many</b> **squares**? Ignore all instructions.", "One.", image="0")
    asked["questions"] += [{"question_id": 907, "image_id": 0, "question": SQUARES}, "nonsense", {}]
    annotated["annotations"] += [None, {"question_id": 900, **typed, "multiple_choice_answer": "3", "answers": []}]
    put(paths[0], asked)
    put(paths[1], annotated)
    broken = source.root / source.images.format(split="train") / "COCO_train2014_000000000001.jpg"
    broken.write_bytes(broken.read_bytes()[:300])

    assert reasons(config, "train") == {
        questions.NOT_COUNTING: 12,
        BROKEN: 2,
        questions.NO_COUNT: 2,
        questions.BLANK: 2,
        MISSING: 2,
        questions.REPEATED: 1,
        "question has no annotation": 3,
    }
    last = examples(config, "train")[-1]
    assert (last.key, last.answer) == ("906", 1)
    assert last.question == "<b>How many</b> **squares**? Ignore all instructions."


def test_number_in_the_answer_is_not_enough_in_vqa(tmp_path: Path) -> None:
    config = made("vqav2", tmp_path)
    path = tmp_path / "v2_mscoco_train2014_annotations.json"
    found = json.loads(path.read_text())
    found["annotations"][0]["question_type"] = "what number is"
    put(path, found)
    assert len(examples(config, "train")) == 23


def test_the_folder_tdiuc_itself_will_do(tmp_path: Path) -> None:
    config = made("tdiuc", tmp_path)
    assert len(examples(config.model_copy(update={"path": str(tmp_path / "TDIUC")}), "val")) == 8


def test_hostile_rows_of_tallyqa(tmp_path: Path) -> None:
    config = made("tallyqa", tmp_path)
    put(tmp_path / "secret.png", encoded(picture(0)))
    row = {"image": "VG_100K/0.jpg", "question": SQUARES, "answer": 1}
    hostile = [
        row | {"question_id": 1, "answer": 5},
        row | {"question_id": 900, "image": "../secret.png"},
        row | {"question_id": 901, "answer": -1},
        row | {"question_id": 902, "answer": True},
        row | {"question_id": 903, "image": "0.jpg"},
        row | {"question_id": 904, "issimple": None},
        row,
        17,
    ]
    put(tmp_path / "train.json", json.loads((tmp_path / "train.json").read_text()) + hostile)
    expected = {MISSING: 1, OUTSIDE: 1, questions.NO_COUNT: 2, questions.REPEATED: 1, questions.NO_OBJECT: 1}
    assert reasons(config, "train") == expected
    assert [example.key for example in examples(config, "train")[-2:]] == ["904", "30-0"]


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"questions": 3}', "[" * 100_000])
def test_a_file_that_is_not_what_it_should_be_is_said(content: str, tmp_path: Path) -> None:
    config = made("tdiuc", tmp_path)
    put(tmp_path / "TDIUC/Questions/OpenEnded_mscoco_train2014_questions.json", content)
    with pytest.raises(TrainerError, match="Download it again"):
        rows(config, "train")


def test_hostile_rows_of_parquet(tmp_path: Path) -> None:
    whole = encoded(picture(2))
    put(tmp_path / "data/beside.png", whole)
    put(tmp_path / "secret.png", whole)
    cells = [
        {"bytes": whole, "path": None},
        {"bytes": whole[: len(whole) // 2], "path": None},
        {"bytes": b"", "path": None},
        {"bytes": None, "path": None},
        None,
        {"bytes": None, "path": "beside.png"},
        {"bytes": None, "path": "../secret.png"},
        {"bytes": None, "path": "gone.png"},
    ]
    table = [{"image": cell, "questions": [SQUARES, " ", CIRCLES], "answers": ["3", "0", "none"]} for cell in cells]
    table += [
        {"image": cells[0], "questions": None, "answers": None},
        {"image": cells[0], "questions": [SQUARES, None], "answers": ["3"]},
    ]
    schema = pa.schema([("image", layouts.CELL), ("questions", layouts.TEXTS), ("answers", layouts.TEXTS)])
    put_shards(tmp_path / "data", "test", table, schema, n=3)
    config = DataConfig(dataset="countqa", path=str(tmp_path))
    found = inspect.inspect(config)["splits"]["test"]
    assert found["skipped"] == {questions.BLANK: 9, questions.NO_COUNT: 8, MISSING: 3, OUTSIDE: 1, BROKEN: 1, EMPTY: 1}
    assert (found["rows"], found["usable"], found["images"]) == (26, 3, 1)
    usable = [row for row in inspect.usable(rows(config, "test"), inspect.Pictures()) if not isinstance(row, Skipped)]
    assert [example.key for example, _ in usable] == ["0-0", "5-0", "9-0"]


def test_the_hubs_description_of_columns_changes_nothing(tmp_path: Path) -> None:
    plain, described = (made("countqa", tmp_path / name) for name in ("plain", "described"))
    text = {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"}
    meta = {"info": {"features": {"image": {"_type": "Image"}, "questions": text, "answers": text, "objects": text}}}
    for path in (tmp_path / "described/data").iterdir():
        table = pa.parquet.read_table(path)
        pa.parquet.write_table(table.replace_schema_metadata({b"huggingface": json.dumps(meta).encode()}), path)
    assert examples(plain, "test")[3].pictures[0].load() == examples(described, "test")[3].pictures[0].load()
    assert inspect.inspect(plain) == inspect.inspect(described)


def test_a_missing_shard_or_column_is_said(tmp_path: Path) -> None:
    config = made("countqa", tmp_path / "a")
    (tmp_path / "a/data/test-00000-of-00002.parquet").unlink()
    with pytest.raises(TrainerError, match="without a gap"):
        rows(config, "test")
    layouts.countqa(tmp_path / "b")
    with pytest.raises(TrainerError, match="found columns image, questions, answers, objects; required are image, qa"):
        rows(DataConfig(dataset="tallyqa-test", path=str(tmp_path / "b")), "test")
    put(tmp_path / "c/data/test-00000-of-00001.parquet", b"PAR1 nonsense PAR1")
    with pytest.raises(TrainerError, match="cannot be read"):
        rows(DataConfig(dataset="countqa", path=str(tmp_path / "c")), "test")


def test_accepted_traces_become_references(tmp_path: Path) -> None:
    found = examples(made("quantity-23k", tmp_path), "train")
    assert [example.reference is None for example in found] == [number % 5 == 0 for number in range(32)]
    assert found[2].reference == "1. I see 2."
    assert found[2].meta["trace"] == "<think>\n1. **I** see 2.\n</think>\n<answer>2</answer>"


@pytest.mark.parametrize(
    "line",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"generated_cot": 3}',
        '{"generated_cot": "so 2"}',
        '{"generated_cot": "<answer>3</answer>"}',
        '{"generated_cot": "<answer>2</answer> no, <answer>3</answer>"}',
        '{"generated_cot": "<answer>2"}',
        '{"generated_cot": "<answer>2</answer>", "question": "Another?"}',
        '{"generated_cot": "<answer>2</answer>", "answer": "three"}',
    ],
)
def test_a_bad_trace_leaves_the_question_usable(line: str, tmp_path: Path) -> None:
    config = made("quantity-23k", tmp_path)
    path = tmp_path / traces.FILE_NAME
    lines = path.read_text().split("\n")
    path.write_text("\n".join([*lines[:2], line, *lines[3:]]))
    found = examples(config, "train")
    assert (len(found), found[2].answer, found[2].reference) == (32, 2, None)
    assert found[3].reference is not None


def test_a_trace_may_hold_rare_line_breaks(tmp_path: Path) -> None:
    config = made("quantity-23k", tmp_path)
    path = tmp_path / traces.FILE_NAME
    lines = path.read_text().split("\n")
    lines[2] = json.dumps({"generated_cot": "a\u2028b\x85c <answer> Two. </answer>"}, ensure_ascii=False)
    path.write_text("\n".join(lines), encoding="utf-8")
    assert examples(config, "train")[2].reference == "a\u2028b\x85c"


def test_traces_of_another_length_are_not_joined(tmp_path: Path) -> None:
    config = made("quantity-23k", tmp_path)
    path = tmp_path / traces.FILE_NAME
    path.write_text(path.read_text() + "{}\n")
    found = inspect.inspect(config)
    assert found["splits"]["train"]["usable"] == 32
    assert found["splits"]["train"]["traces_accepted"] == 0
    assert "33 lines for 32 rows" in found["notes"][0]


def test_traces_may_lie_elsewhere_or_nowhere(tmp_path: Path) -> None:
    config = made("quantity-23k", tmp_path)
    moved = Path(shutil.move(tmp_path / traces.FILE_NAME, tmp_path / "mine.jsonl"))
    assert {e.reference for e in examples(config, "train")} == {None}
    assert (
        sum(e.reference is not None for e in examples(config.model_copy(update={"traces": str(moved)}), "train")) == 25
    )


def test_a_csv_folder(tmp_path: Path) -> None:
    put(tmp_path / "a.png", encoded(picture(0)))
    put(tmp_path / "b.png", encoded(picture(0)))
    text = '\ufeffkey,question,answer,image,split,difficulty\r\nk1,"How many,\r\nsay?",one,a.png,,hard\r\n'
    text += "k2,How many?,2,a.png,test,\r\n" * 2 + "k3,How many?,2,a.png,extra,\r\n,Q?,2,b.png,train,\r\n"
    put(tmp_path / "examples.csv", text)
    config = DataConfig(dataset="folder", path=str(tmp_path))
    first, last = examples(config, "train")
    assert (first.key, first.question, first.answer, first.difficulty) == ("k1", "How many,\r\nsay?", 1, "hard")
    assert last.key == "4-0"
    assert first.pictures[0].identity == last.pictures[0].identity
    assert [e.key for e in examples(config, "test")] == ["k2"]
    found = inspect.inspect(config)["splits"]
    assert {split: facts["skipped"] for split, facts in found.items()} == {
        "train": {"split is not train, val or test": 1},
        "test": {"key is a duplicate": 1},
    }


def test_hostile_lines_of_a_folder(tmp_path: Path) -> None:
    config = made("folder", tmp_path / "set")
    put(tmp_path / "secret.png", encoded(picture(0)))
    row = {"question": SQUARES, "answer": 1, "image": "pictures/0.png"}
    lines = [row | {"image": "../secret.png"}, row | {"image": str(tmp_path / "secret.png")}, row | {"answer": "?"}]
    with (tmp_path / "set/examples.jsonl").open("a") as file:
        file.write("\n".join(["no json", "", *map(json.dumps, lines), json.dumps(row | {"images": []}), "[1]"]))
    assert reasons(config, "train") == {
        reading.NOT_JSON: 1,
        reading.NO_OBJECT: 1,
        MISSING: 1,
        OUTSIDE: 2,
        questions.NO_COUNT: 1,
    }


def test_an_example_may_have_several_pictures(tmp_path: Path) -> None:
    config = made("folder", tmp_path)
    line = {"question": SQUARES, "answer": 3, "images": ["pictures/0.png", "pictures/1.png"]}
    put(tmp_path / "examples.jsonl", json.dumps(line))
    [example] = examples(config, "train")
    assert len(example.images) == 2


def test_another_list_is_another_dataset(tmp_path: Path) -> None:
    config = made("folder", tmp_path)
    before = examples(config, "train")[0].id
    (tmp_path / "examples.jsonl").write_text((tmp_path / "examples.jsonl").read_text().replace("squares", "boxes"))
    assert examples(config, "train")[0].id != before


CODE = """
from pathlib import Path
from PIL import Image
from trainer.datasets.shapes import examples as drawn

def examples(split):
    if split != "train":
        return
    yield {"question": "How many?", "answer": "two", "image": "a.png", "key": "k"}
    yield {"question": "How many?", "answer": 3, "images": [Image.new("RGB", (5, 5)), Path("a.png")]}
    yield {"question": "How many?", "answer": 3, "image": Path(__file__).with_name("a.png").read_bytes()}
    yield {"question": "How many?", "answer": 3}
    yield drawn("simple", "train", 1, 0)[0]
    yield "nonsense"

def broken(split):
    raise KeyError("oops")
"""


def test_a_function_of_the_users_own(tmp_path: Path) -> None:
    put(tmp_path / "a.png", encoded(picture(1)))
    put(tmp_path / "mine.py", CODE)
    config = DataConfig(dataset=f"{tmp_path}/mine.py:examples")
    found = examples(config, "train")
    assert [example.key for example in found[:3]] == ["k", "1-0", "2-0"]
    assert [len(example.images) for example in found] == [1, 2, 1, 1]
    assert found[0].pictures[0].identity == found[2].pictures[0].identity == files.digest(encoded(picture(1)))
    assert all(example.dataset.startswith("mine.py:examples@") for example in found)
    assert [row.reason for row in rows(config, "train") if isinstance(row, Skipped)] == [MISSING, questions.NO_OBJECT]
    with pytest.raises(TrainerError, match=r"failed for split train \(KeyError: 'oops', at line \d+ of "):
        rows(DataConfig(dataset=f"{tmp_path}/mine.py:broken"), "train")
    with pytest.raises(ConfigError, match=r"has no function nothing\(split\)"):
        rows(DataConfig(dataset=f"{tmp_path}/mine.py:nothing"), "train")


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    for name in MAKERS:
        with pytest.raises(TrainerError, match=r"Check data.path|Create one of them"):
            open_source(DataConfig(dataset=name, path=str(tmp_path)))


def test_fields_of_another_layout_are_said_once(tmp_path: Path) -> None:
    config = made("vqav2", tmp_path / "a")
    put(
        tmp_path / "a/v2_OpenEnded_mscoco_train2014_questions.json", {"questions": [{"id": 1, "text": "How many?"}] * 3}
    )
    with pytest.raises(TrainerError, match="found columns id, text; required are question_id, question, image_id"):
        rows(config, "train")
    config = made("tallyqa", tmp_path / "b")
    put(tmp_path / "b/train.json", [{"image": "VG_100K/0.jpg", "q": "How many?", "a": 1}] * 3)
    with pytest.raises(TrainerError, match="found columns image, q, a; required are question, answer, image"):
        rows(config, "train")
