"""Tables and cells in the less usual forms that people have: Arrow, rows below keys, paths as addresses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Image
from pyarrow import feather, ipc

from tests.datasets.layouts import encoded, picture, put
from trainer.datasets import inspect, pictures
from trainer.datasets.tables.reading import Table
from trainer.spec.config import DataConfig


@pytest.mark.parametrize("kind", ["save_to_disk", "stream", "file", "feather"])
def test_arrow_files_are_read(kind: str, tmp_path: Path) -> None:
    put(tmp_path / "set" / "a.png", encoded(picture(3)))
    rows = {"question": ["How many?"] * 2, "answer": [3, 4], "image": [str(tmp_path / "set" / "a.png")] * 2}
    given = Dataset.from_dict(rows)
    if kind == "save_to_disk":
        given = given.cast_column("image", Image()).cast_column("answer", ClassLabel(names=list("01234")))
        given.save_to_disk(str(tmp_path / "set"))
    elif kind == "feather":
        feather.write_feather(given.data.table, str(tmp_path / "set" / "examples.feather"))
    else:
        table = given.data.table
        opened = ipc.new_stream if kind == "stream" else ipc.new_file
        with opened(str(tmp_path / "set" / "examples.arrow"), table.schema) as writer:
            writer.write_table(table)
    found = inspect.inspect(DataConfig(dataset="folder", path=str(tmp_path / "set")))["splits"]["train"]
    assert (found["answers"], found["images"]) == ({"3": 1, "4": 1}, 1)


@pytest.mark.parametrize("shape", ['{"data": [ROW, ROW]}', '{"1": ROW, "2": ROW}'])
def test_rows_may_lie_below_keys(shape: str, tmp_path: Path) -> None:
    row = json.dumps({"question": "How many?", "answer": 3, "image": "a.png"})
    assert len(list(Table(put(tmp_path / "examples.json", shape.replace("ROW", row))).records())) == 2


def test_a_row_that_ends_early_lacks_its_last_cells_alone(tmp_path: Path) -> None:
    put(tmp_path / "a.png", encoded(picture(0)))
    put(tmp_path / "examples.csv", "question,answer,image\nHow many?,3\n")
    found = inspect.inspect(DataConfig(dataset="folder", path=str(tmp_path)))["splits"]["train"]
    assert found["skipped"] == {"image is missing": 1}


@pytest.mark.parametrize("written", ["a b.png", "a%20b.png", "file:{}", "FILE://localhost{}", "file://c.png"])
def test_a_path_may_be_written_as_an_address(written: str, tmp_path: Path) -> None:
    for name in ("a b.png", "c.png"):
        put(tmp_path / "set" / name, encoded(picture(0)))
    place = (tmp_path / "set" / "a b.png").as_uri().removeprefix("file://")
    put(tmp_path / "set" / "examples.csv", f"question,answer,image\nHow many?,3,{written.format(place)}\n")
    assert inspect.inspect(DataConfig(dataset="folder", path=str(tmp_path / "set")))["splits"]["train"]["usable"] == 1


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("<PIL.PngImagePlugin.PngImageFile image mode=RGB size=40x30 at 0x7F12>", pictures.PRINTED),
        ("array([[0, 1]])", pictures.PRINTED),
        ("file:///etc/passwd", "image lies outside the dataset's folder"),
        ("a%2F..%2F..%2Fa.png", "image lies outside the dataset's folder"),
    ],
)
def test_what_stands_for_no_picture_is_said(cell: str, reason: str, tmp_path: Path) -> None:
    put(tmp_path / "examples.csv", f'question,answer,image\nHow many?,3,"{cell}"\n')
    found = inspect.inspect(DataConfig(dataset="folder", path=str(tmp_path)))["splits"]["train"]
    assert found["skipped"] == {reason: 1}
