"""Tables as people and libraries write them: dialects, encodings, JSON in its layouts, values that are absent."""

from __future__ import annotations

import csv
import io
import itertools
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.layouts import encoded, picture, put
from trainer.datasets import inspect
from trainer.datasets.example import Example
from trainer.datasets.folder import FolderDataset
from trainer.datasets.questions import Skipped
from trainer.datasets.source import open_source
from trainer.datasets.tables import encodings, reading
from trainer.datasets.tables.reading import Table
from trainer.datasets.tables.rows import rows
from trainer.spec.config import DataConfig
from trainer.spec.errors import TrainerError

HEADER = ["question", "answer", "image"]
QUESTION = 'How many "big, red; ones"\tor | blue?\nLook well.'


def read(path: Path) -> list[dict[str, Any] | str]:
    return [record.row if record.row is not None else record.fault for record in Table(path).records()]


def written(rows: list[list[str]], **options: Any) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, **options).writerows(rows)
    return file.getvalue()


def usable(root: Path) -> list[Example]:
    put(root / "a.png", encoded(picture(0)))
    source = FolderDataset(root)
    rows = [row for split in source.splits for row in source.read(split)]
    assert not [row for row in rows if isinstance(row, Skipped)]
    return [row for row in rows if isinstance(row, Example)]


def said(root: Path) -> str:
    with pytest.raises(TrainerError) as caught:
        open_source(DataConfig(dataset="folder", path=str(root)))
    return caught.value.message


ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252")


@pytest.mark.parametrize(
    ("delimiter", "encoding", "end", "quoting"),
    list(itertools.product(",;\t|", ENCODINGS, ("\n", "\r\n", "\r"), (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))),
)
def test_every_dialect_in_every_encoding(delimiter: str, encoding: str, end: str, quoting: Any, tmp_path: Path) -> None:
    rows = [HEADER, [f"{QUESTION} Café?", "2", "a.png"], ["How many?", "1", "b.png"]]
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") and end == "\n" else ""
    text = mark + written(rows, delimiter=delimiter, lineterminator=end, quoting=quoting)
    path = put(tmp_path / "examples.csv", text.encode(encoding))
    assert read(path) == [dict(zip(HEADER, row, strict=True)) for row in rows[1:]]


CELL = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.lists(CELL, min_size=3, max_size=3).filter(lambda row: any(cell.strip() for cell in row))),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_csv_writes_is_read_as_it_was(
    rows: list[list[str]], delimiter: str, encoding: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = written([HEADER, *rows], delimiter=delimiter)
    path = put(tmp_path_factory.mktemp("csv") / "examples.csv", text.encode(encoding))
    assert read(path) == [dict(zip(HEADER, row, strict=True)) for row in rows]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries({"question": st.text(min_size=1), "answer": st.integers(), "x": CELL}), min_size=2
    ),
    indent=st.sampled_from([None, 0, 2]),
    chunk=st.integers(1, 50),
)
def test_what_json_writes_is_read_as_it_was(
    rows: list[dict[str, Any]], indent: int | None, chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("json")
    layouts = {
        "list": json.dumps(rows, indent=indent),
        "lines": "\n".join(json.dumps(row) for row in rows),
        "unicode": "\ufeff" + "\r\n".join(json.dumps(row, ensure_ascii=True) for row in rows),
        "objects": "\n".join(json.dumps(row, indent=2) for row in rows),
        "columns": json.dumps({name: [row[name] for row in rows] for name in rows[0]}, indent=indent),
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(encodings, "CHUNK", chunk)
        for name, text in layouts.items():
            assert read(put(folder / f"{name}.json", text)) == rows, name


@pytest.mark.parametrize(
    "break_", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\xa0", "\ufeff"]
)
def test_rare_line_breaks_part_no_rows(break_: str, tmp_path: Path) -> None:
    text = f"question,answer,image\nHow many{break_}cats?,2,a.png\n"
    assert read(put(tmp_path / "examples.csv", text))[0]["question"] == f"How many{break_}cats?"  # type: ignore[index]
    line = json.dumps({"question": f"How many{break_}cats?"}, ensure_ascii=False)
    found = read(put(tmp_path / "examples.jsonl", f"{line}\n{line}\n"))
    assert found == [{"question": f"How many{break_}cats?"}] * 2


@pytest.mark.parametrize(
    "text",
    [
        "question,answer,image\nHow many?,2,a.png\n",
        "Question,ANSWER,Image\nHow many?,2,a.png",
        "question, answer, image\nHow many?, 2, a.png\n",
        'question , answer , image\n"How many?" ,2 , a.png \n',
        'question, answer, image\n"How many?", "2", "a.png"\n',
        "\ufeff Question ;Answer;Image\r\nHow many?;2;a.png\r\n",
        "sep=;\r\nquestion;answer;image\r\nHow many?;2;a.png\r\n",
        "\ufeffsep=\t\nquestion\tanswer\timage\nHow many?\t2\ta.png\n",
        'SEP=,\nquestion,answer,image\nHow many?,"2,0",a.png\n',
        "sep=:\nquestion:answer:image\nHow many?:2:a.png\n",
        "\n\nquestion,answer,image\n\nHow many?,2,a.png\n,,\n;;\n"[:-3],
        "id,question,answer,image,note\n7,How many?,2,a.png,\n",
        "question,answer,image\nHow many?,2,a.png,,,\n",
        "question,answer,images\nHow many?,2,a.png\n",
        'question,answer,images\nHow many?,2,"[""a.png""]"\n',
        "question,answer,images\nHow many?,2,['a.png']\n",
        "question,answer,image,images\nHow many?,2,a.png,\n",
        "question;answer;image\nHow many?;2,0;a.png\n",
        "question,answer,image\nHow many?,2.0,.\\a.png\n",
        "question,answer,image,split\nHow many?,2,a.png,Train\n",
        "question,answer,image,split\nHow many?,2,a.png,nan\n",
        "question,answer,image,split\nHow many?,2,a.png,validation\n",
    ],
)
def test_a_table_is_read_as_people_write_it(text: str, tmp_path: Path) -> None:
    put(tmp_path / "examples.csv", text)
    [found] = usable(tmp_path)
    assert (found.question.strip(), found.answer, len(found.images)) == ("How many?", 2, 1)


@pytest.mark.parametrize("name", ["examples.csv", "Examples.CSV", "examples.tsv", "examples.txt", "examples.jsonl"])
def test_the_content_says_what_a_table_is(name: str, tmp_path: Path) -> None:
    put(tmp_path / name, "question\tanswer\timage\nHow many?\t2\ta.png\n")
    assert len(usable(tmp_path)) == 1


FRAME = pd.DataFrame(
    {
        "key": [7, None, 9],
        "question": ["How many?", "How many cats?", "How many, say; “dogs”?"],
        "answer": pd.array([4, 0, 12], dtype="Int64"),
        "image": ["a.png"] * 3,
        "reference": ["I see four.", None, float("nan")],
        "difficulty": [None, "hard", "nan"],
    }
)


@pytest.mark.parametrize("integers", ["Int64", "float64", "int16", "object"])
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("examples.csv", lambda frame, path: frame.to_csv(path, index=False)),
        ("examples.csv", lambda frame, path: frame.to_csv(path)),
        ("examples.csv", lambda frame, path: frame.to_csv(path, index=False, na_rep="nan", encoding="utf-16")),
        ("examples.csv", lambda frame, path: frame.to_csv(path, index=False, sep=";", decimal=",", encoding="cp1252")),
        ("examples.csv", lambda frame, path: frame.to_csv(path, index=False, float_format="%.3f")),
        ("examples.tsv", lambda frame, path: frame.to_csv(path, index=False, sep="\t", quoting=csv.QUOTE_ALL)),
        ("examples.jsonl", lambda frame, path: frame.to_json(path, orient="records", lines=True)),
        ("examples.json", lambda frame, path: frame.to_json(path, orient="records", indent=1)),
        ("examples.json", lambda frame, path: frame.to_json(path)),
        (
            "examples.json",
            lambda frame, path: path.write_text(json.dumps(frame.astype(object).to_dict("list"), default=str)),
        ),
        ("examples.parquet", lambda frame, path: frame.to_parquet(path)),
    ],
)
def test_what_pandas_writes_is_read_as_it_was(integers: str, name: str, write: Any, tmp_path: Path) -> None:
    write(FRAME.astype({"answer": integers}), tmp_path / name)
    found = usable(tmp_path)
    assert [row.question for row in found] == list(FRAME["question"])
    assert [row.answer for row in found] == [4, 0, 12]
    assert [row.reference for row in found] == ["I see four.", None, None]
    assert [row.difficulty for row in found] == [None, "hard", None]
    assert [row.key.removesuffix(".0").removesuffix(".000").removesuffix(",0") for row in found] == ["7", "1-0", "9"]


def test_pictures_lie_in_a_parquet_file(tmp_path: Path) -> None:
    cell = {"bytes": encoded(picture(2)), "path": None}
    pd.DataFrame({"question": ["How many?"] * 2, "answer": [3, 3], "image": [cell, cell]}).to_parquet(
        tmp_path / "examples.parquet"
    )
    first, second = usable(tmp_path)
    assert first.pictures[0].load() == picture(2)
    assert first.pictures[0].identity == second.pictures[0].identity
    (tmp_path / "examples.parquet").rename(tmp_path / "examples-00000-of-00001.parquet")
    assert len(usable(tmp_path)) == 2


def test_a_column_of_no_use_makes_no_parquet_file_unreadable(tmp_path: Path) -> None:
    scores = pa.array([[("red", 1)]], pa.map_(pa.string(), pa.int64()))
    table = pa.table({"question": ["How many?"], "Answer": [3], "image": ["a.png"], "scores": scores})
    pq.write_table(table, tmp_path / "examples.parquet")
    assert [row.answer for row in usable(tmp_path)] == [3]


def test_a_class_is_read_by_its_name(tmp_path: Path) -> None:
    features = Features(question=Value("string"), answer=ClassLabel(names=["3", "4", "ten"]), image=Value("string"))
    given = {"question": ["How many?"] * 3, "answer": [2, 0, None], "image": ["a.png"] * 3}
    table = Dataset.from_dict(given, features=features)
    assert [row.given["answer"] for row in rows(table, "train")] == ["ten", "3", None]
    table.select([0, 1]).to_parquet(str(tmp_path / "examples.parquet"))
    assert [row.answer for row in usable(tmp_path)] == [10, 3]


def test_shards_of_different_columns_are_refused(tmp_path: Path) -> None:
    rows = {"question": ["How many?"], "answer": [3], "image": ["a.png"]}
    pd.DataFrame(rows | {"note": ["x"]}).to_parquet(tmp_path / "examples-00000-of-00002.parquet")
    pd.DataFrame(rows).to_parquet(tmp_path / "examples-00001-of-00002.parquet")
    assert len(usable(tmp_path)) == 2
    pd.DataFrame(rows | {"reference": ["Three."]}).to_parquet(tmp_path / "examples-00001-of-00002.parquet")
    assert said(tmp_path).endswith(
        "examples-00001-of-00002.parquet has the columns question, answer, image, reference, but "
        "examples-00000-of-00002.parquet has question, answer, image. All shards must have the same columns."
    )


TEXTS = {
    "cp1252": "Wie viele große Äpfel? “Zwölf”, naïve señor, 5 € — it’s; ¿Cuántos? 3 m³",
    "cp1250": "Ile jest czerwonych kół? Żółta łódź, mały koń",
    "cp1251": "Сколько красных кругов на картинке? Три больших",
    "cp1253": "Πόσοι κόκκινοι κύκλοι υπάρχουν στην εικόνα;",
    "gb18030": "图中有多少个红色圆圈",
    "cp949": "빨간 원은 몇 개입니까",
}


@pytest.mark.parametrize("encoding", TEXTS)
def test_code_pages_of_windows_are_told_apart_and_said(encoding: str, tmp_path: Path) -> None:
    rows = [HEADER, *[[TEXTS[encoding], "3", "a.png"]] * 3]
    path = put(tmp_path / "examples.csv", written(rows).encode(encoding))
    put(tmp_path / "a.png", encoded(picture(0)))
    assert read(path)[0]["question"] == TEXTS[encoding]  # type: ignore[index]
    found = inspect.inspect(DataConfig(dataset="folder", path=str(tmp_path)))
    windows = encoding.replace("cp125", "Windows-125")
    assert found["notes"] == [
        f"examples.csv is not UTF-8 and was read as {windows}. Save it as UTF-8 if letters are wrong."
    ]


ABSENT = (None, float("nan"), "", " ", "nan", "NaN", "None", "null", "NULL", "<NA>", "NaT", "N/A", "#N/A")


@pytest.mark.parametrize("absent", ABSENT)
def test_what_is_absent_is_absent_in_every_column(absent: object, tmp_path: Path) -> None:
    sound = {"question": "How many?", "answer": 1, "image": "a.png"}
    optional = dict.fromkeys(("key", "reference", "difficulty", "split", "images"), absent)
    lines = [sound | optional, sound | optional, *(sound | {name: absent} for name in sound)]
    put(tmp_path / "a.png", encoded(picture(0)))
    put(tmp_path / "examples.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    config = DataConfig(dataset="folder", path=str(tmp_path))
    found = inspect.inspect(config)["splits"]["train"]
    assert (found["usable"], found["traces_accepted"], found["difficulty"]) == (2, 0, {"unknown": 2})
    assert found["skipped"] == {
        "question is blank": 1,
        "answer is not a whole number": 1,
        "image is missing": 1,
    }
    assert [row.key for row in open_source(config).source.read("train") if isinstance(row, Example)][:2] == [
        "0-0",
        "1-0",
    ]


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"examples.csv": "img,q,a\n1,2,3\n"}, "found columns img, q, a; required are question, answer, image. Name"),
        (
            {"examples.csv": "How many?,2,a.png\n"},
            "found columns How many?, 2, a.png; required are question, answer, image.",
        ),
        ({"examples.csv": ""}, "found columns none; required are question, answer, image."),
        (
            {"examples.csv": "question,answer\nQ,1\n"},
            "found columns question, answer; required are question, answer, image.",
        ),
        (
            {"examples.csv": "question,answer,image,Answer\n"},
            "has the column answer twice. Rename one of them.",
        ),
        (
            {"examples.csv": 'question,answer,image\n"Q,1,a.png\nQ,1,a.png\n'},
            "opened in line 2 is not closed). Fix the file.",
        ),
        (
            {"examples.csv": 'question,answer,image\n"How many \\"red\\" cats?",2,a.png\n'},
            "line 2: a cell that contains a quote must be quoted, with the inner quote doubled). Fix the file.",
        ),
        (
            {"examples.tsv": 'question\tanswer\timage\nQ\t1\ta.png\n"Many" cats?\t2\ta.png\n'},
            "line 3: a cell that contains a quote must be quoted",
        ),
        (
            {"examples.csv": 'question , answer , image\n"Q,1,a.png\nQ,1,a.png\n'},
            "opened in line 2 is not closed). Fix the file.",
        ),
        ({"examples.csv": "a\x1b[31mb,c\n"}, "found columns a\ufffd[31mb, c; required are"),
        ({"examples.csv": ",".join(f"c{i}" for i in range(90)) + "\n"}, "c18, c19 and 70 more; required are"),
        ({"examples.jsonl": '{"q": 1}\n{"a": 2}\n'}, "found columns q, a; required are question, answer, image. Use"),
        ({"examples.jsonl": ""}, "found columns none"),
        ({"examples.json": "[]"}, "has no row that can be read. Check the file."),
        (
            {"examples.jsonl": '["Q", 1, "a.png"]\n["Q", 2, "a.png"]\n'},
            "has no row that can be read (row is not an object). Check the file.",
        ),
        (
            {"examples.csv": "question,answer,image\n'How many, red?',2,a.png\n"},
            "(row has more cells than the first line names: quote what holds a delimiter). Check the file.",
        ),
        ({"examples.json": '[{"question": "Q"'}, "is not valid JSON"),
        ({"examples.json": '{"data": [{"question": "Q"}], "version": 1}'}, "found columns data, version; required are"),
        ({"examples.csv": POINTER}, "is a Git LFS pointer: run git lfs pull."),
        ({"examples.jsonl": POINTER}, "is a Git LFS pointer: run git lfs pull."),
        ({"examples.parquet": POINTER}, "is a Git LFS pointer: run git lfs pull."),
        ({"examples.csv": "PK\x03\x04..."}, "is a ZIP archive or an Excel workbook: unpack it, or save it as CSV."),
        ({"examples.csv": "<!doctype html><p>"}, "is a web page: download the file itself."),
        ({"examples.csv": b"a\0\0\0\xff\xfe\0\0\0" * 9}, "is not a text file. Check data.path."),
        ({"examples.csv": b"\xff\xfea"}, "is damaged: it begins as UTF-16 but is not valid. Download it again."),
        ({}, "has no examples.jsonl, .json, .csv, .tsv, .parquet or .arrow. Create one of them."),
        ({"train.csv": "a"}, "Create one of them. Found train.csv: rename the table."),
        ({"data/train.parquet": "PAR1"}, "Found data/train.parquet: use its folder, and rename the table."),
        ({"examples.pkl": "x"}, "Found examples.pkl: save it as CSV."),
        ({"examples.jsonl.gz": "\x1f"}, "Create one of them. Found examples.jsonl.gz: unpack it."),
        ({"table.xlsx": "PK"}, "Create one of them. Found table.xlsx: save it as CSV."),
    ],
)
def test_what_cannot_be_read_is_said_once_by_what_was_found(
    files: dict[str, str | bytes], words: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        put(tmp_path / name, content)
    assert words in said(tmp_path)


def test_a_second_table_is_said_not_to_be_read(tmp_path: Path) -> None:
    put(tmp_path / "examples.csv", "question,answer,image\nHow many?,2,a.png\n")
    assert FolderDataset(tmp_path).notes == ()
    put(tmp_path / "examples.jsonl", json.dumps({"question": "How many?", "answer": 3, "image": "a.png"}))
    assert FolderDataset(tmp_path).notes == ("examples.csv is not read, because examples.jsonl exists.",)
    assert [row.answer for row in usable(tmp_path)] == [3]


def test_rows_that_cannot_be_read_cost_only_themselves(tmp_path: Path) -> None:
    text = "question,answer,image\nHow many red, big ones?,2,a.png\nHow many?,2,a.png\nHow many?\n"
    put(tmp_path / "examples.csv", text)
    put(tmp_path / "a.png", encoded(picture(0)))
    found = inspect.inspect(DataConfig(dataset="folder", path=str(tmp_path)))["splits"]["train"]
    assert found["usable"] == 1
    assert found["skipped"] == {reading.MORE_CELLS: 1, "answer is not a whole number": 1}
    assert found["first_skipped"] == {reading.MORE_CELLS: "row 1", "answer is not a whole number": "row 3: None"}


@pytest.mark.parametrize("name", ["examples.csv", "examples.jsonl", "examples.json"])
def test_a_large_table_is_not_held_in_memory(name: str, tmp_path: Path) -> None:
    row = {"question": "How many squares are there in this picture?" * 25, "answer": 3, "image": "a.png"}
    n = 8_000
    if name.endswith("csv"):
        text = written([HEADER, *[[str(cell) for cell in row.values()]] * n])
    else:
        text = json.dumps([row] * n) if name.endswith("json") else (json.dumps(row) + "\n") * n
    path = put(tmp_path / name, text)
    assert path.stat().st_size > 8_000_000
    table = Table(path)
    tracemalloc.start()
    try:
        assert sum(record.row is not None for record in table.records()) == n
        assert tracemalloc.get_traced_memory()[1] < 7_000_000
    finally:
        tracemalloc.stop()


FORMS = """
import pandas as pd, pyarrow as pa
from datasets import Dataset, DatasetDict, Image

ROWS = [{"Question": "How many?", "ANSWER": n, " image ": "a.png"} for n in (1, 2)]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}

def rows(split): return ROWS
def lazily(split): yield from ROWS
def frame(split): return pd.DataFrame(ROWS)
def nullable(split): return pd.DataFrame(ROWS).convert_dtypes()
def arrow(split): return pa.Table.from_pylist(ROWS)
def dataset(split): return Dataset.from_list(ROWS)
def tensors(split): return Dataset.from_list(ROWS).with_format("torch")
def iterable(split): return Dataset.from_list(ROWS).to_iterable_dataset()
def by_split(split): return DatasetDict(train=Dataset.from_list(ROWS), validation=Dataset.from_list(ROWS[:1]))
def by_column(split): return COLUMNS
def nothing_else(split):
    if split == "train":
        return ROWS
"""


@pytest.mark.parametrize("form", [line.split()[1].partition("(")[0] for line in FORMS.split("\n") if line[:3] == "def"])
def test_a_function_gives_rows_in_any_form(form: str, tmp_path: Path) -> None:
    put(tmp_path / "a.png", encoded(picture(0)))
    put(tmp_path / "mine.py", FORMS)
    source = open_source(DataConfig(dataset=f"{tmp_path}/mine.py:{form}")).source
    found = [row for row in source.read("train") if isinstance(row, Example)]
    assert [(row.answer, len(row.images)) for row in found] == [(1, 1), (2, 1)]
    others = {"by_split": 1, "nothing_else": 0}
    assert len(list(source.read("val"))) == others.get(form, 2)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "[{'q': 'How many?', 'a': 1, 'img': 'a.png'}]",
            "found columns q, a, img; required are question, answer, image. Use",
        ),
        ("7", "TypeError: it returned int, not rows"),
        ("'a.csv'", "TypeError: it returned str, not rows"),
        ("{'a': 1}", "TypeError: it returned a dict that has neither splits nor columns of equal length"),
    ],
)
def test_a_function_that_gives_no_rows_is_told_what_is_needed(body: str, words: str, tmp_path: Path) -> None:
    put(tmp_path / "mine.py", f"def mine(split):\n    return {body}\n")
    with pytest.raises(TrainerError) as caught:
        list(open_source(DataConfig(dataset=f"{tmp_path}/mine.py:mine")).source.read("train"))
    assert words in caught.value.message


def test_pictures_of_a_function_may_lie_in_data_path(tmp_path: Path) -> None:
    put(tmp_path / "photos/a.png", encoded(picture(0)))
    given = str(tmp_path / "photos/a.png")
    put(tmp_path / "code/mine.py", f"def mine(split):\n    return [dict(question='Q', answer=1, image={given!r})]\n")
    config = DataConfig(dataset=f"{tmp_path}/code/mine.py:mine")
    assert inspect.inspect(config, "train")["splits"]["train"]["usable"] == 0
    config = config.model_copy(update={"path": str(tmp_path / "photos")})
    assert inspect.inspect(config, "train")["splits"]["train"]["usable"] == 1


def test_numpy_writes_tables_too(tmp_path: Path) -> None:
    for n, form in enumerate(("%.18e", "%d", "%g", "%.1f")):
        file = io.StringIO()
        np.savetxt(file, np.array([[4.0, 12.0]]).T, form)
        counts = file.getvalue().split()
        put(tmp_path / f"{n}/examples.csv", written([HEADER, *(["How many?", count, "a.png"] for count in counts)]))
        assert [row.answer for row in usable(tmp_path / str(n))] == [4, 12]
