"""Data as other tools lay it out: their column names, their placeholders, their lists of images, their files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.datasets.layouts import encoded, picture, put
from tests.datasets.test_tables import said, usable
from trainer.datasets.folder import FolderDataset
from trainer.datasets.questions import TOO_LARGE, Skipped
from trainer.datasets.tables import encodings


def table(root: Path, *rows: dict[str, object], name: str = "examples.jsonl") -> Path:
    put(root / name, "".join(f"{json.dumps(row)}\n" for row in rows).encode())
    return root


@pytest.mark.parametrize(
    "names",
    [
        ("problem", "solution", "image"),
        ("Prompt", "Label", "File Name"),
        ("question", "count", "image-path"),
        ("query", "ground_truth", "images"),
    ],
)
@pytest.mark.parametrize("is_csv", [True, False])
def test_usual_names_of_columns_stand_for_ours(names: tuple[str, str, str], is_csv: bool, tmp_path: Path) -> None:
    row = dict(zip(names, ("How many?", "<answer> 4 </answer>", "a.png"), strict=True))
    if is_csv:
        with (tmp_path / "examples.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerow(row)
    else:
        table(tmp_path, dict(row))
    (found,) = usable(tmp_path)
    assert (found.question, found.answer, len(found.pictures)) == ("How many?", 4, 1)
    told = FolderDataset(tmp_path).notes
    wanted = {"question": names[0], "answer": names[1], "image": names[2]}
    assert [note for note in told if "is read as" in note] == [
        f"The column {name.lower()} is read as the {ours}."
        for ours, name in wanted.items()
        if name.lower() not in (ours, "images")
    ]


def test_our_own_name_counts_if_it_is_in_any_row(tmp_path: Path) -> None:
    rows = [{"question": "a?", "label": "red", "image": "a.png"}, {"question": "b?", "answer": 2, "image": "a.png"}]
    put(tmp_path / "a.png", encoded(picture(0)))
    source = FolderDataset(table(tmp_path, *rows))
    first, second = source.read("train")
    assert isinstance(first, Skipped) and not isinstance(second, Skipped) and second.answer == 2


@pytest.mark.parametrize(
    ("row", "end"),
    [
        (
            {"question": "a?", "label": 1, "count": 2, "image": "a.png"},
            "whether label or count is the answer. Rename that column.",
        ),
        ({"messages": [{}], "images": "a.png"}, "Write the question and the answer of each in columns of their own."),
        ({"images": [{}], "annotations": [{}, {}]}, "whose objects are not questions. Write a row for each question."),
    ],
)
def test_what_is_no_table_of_questions_is_refused_with_what_to_do(
    row: dict[str, object], end: str, tmp_path: Path
) -> None:
    assert said(table(tmp_path, row)).endswith(end)


@pytest.mark.parametrize(
    ("file", "end"),
    [
        ("annotations/instances_val2017.json", "instances_val2017.json: COCO's objects are not questions."),
        ("two/a.png", "Found only images: name each in a row, with a question and an answer."),
        ("shard-000000.tar", "Found shard-000000.tar: unpack it, and name its images in a table."),
    ],
)
def test_a_folder_of_another_tool_is_refused_with_what_to_do(file: str, end: str, tmp_path: Path) -> None:
    put(tmp_path / file, b"x")
    assert said(tmp_path).endswith(end)


@pytest.mark.parametrize(
    "text", ["<image>How many?", "How many?\n<image>", "<|image_1|> How many?", "<image 1>How many? <image>"]
)
def test_the_place_of_an_image_in_a_chat_is_no_part_of_the_question(text: str, tmp_path: Path) -> None:
    (found,) = usable(table(tmp_path, {"question": text, "answer": 1, "image": "a.png"}))
    assert found.question == "How many?"


def test_a_question_of_a_placeholder_alone_is_blank(tmp_path: Path) -> None:
    (found,) = FolderDataset(table(tmp_path, {"question": "<image>", "answer": 1, "image": "a.png"})).read("train")
    assert found == Skipped("question is blank")


@pytest.mark.parametrize(("answer", "is_used"), [("999999999", True), ("1000000000", False), (10**22, False)])
def test_a_count_that_no_completion_can_give_is_left_out(answer: object, is_used: bool, tmp_path: Path) -> None:
    put(tmp_path / "a.png", encoded(picture(0)))
    (found,) = FolderDataset(table(tmp_path, {"question": "a?", "answer": answer, "image": "a.png"})).read("train")
    assert (found != Skipped(TOO_LARGE)) == is_used


@pytest.mark.parametrize("cell", ["a.png;b.png", "a.png, b.png", "a.png|b.png", "a.png\nb.png"])
def test_several_images_may_be_in_one_cell(cell: str, tmp_path: Path) -> None:
    put(tmp_path / "b.png", encoded(picture(1)))
    (found,) = usable(table(tmp_path, {"question": "a?", "answer": 1, "images": cell}))
    assert len(found.pictures) == 2 and all(each.load() for each in found.pictures)


def test_a_separator_in_the_name_of_a_file_separates_nothing(tmp_path: Path) -> None:
    put(tmp_path / "a, b;c.png", encoded(picture(1)))
    (found,) = usable(table(tmp_path, {"question": "a?", "answer": 1, "images": "a, b;c.png"}))
    assert len(found.pictures) == 1


def test_a_short_japanese_table_is_not_read_as_korean(tmp_path: Path) -> None:
    path = tmp_path / "examples.csv"
    path.write_text(
        "question,answer,image\n画像の中に猫は何匹いますか,1,a.png\nりんごはいくつ,2,a.png\n", encoding="cp932"
    )
    assert encodings.of(path).codec == "cp932"
