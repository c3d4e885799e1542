"""Tiny sets in every layout. A set has IMAGES images with two questions each; image i holds i + 1 squares."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from store.trace import NUMBER_WORDS
from trainer.spec.config import DataConfig

IMAGES = 16
CELL = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXTS = pa.list_(pa.string())
SQUARES, CIRCLES = "How many squares are there?", "How many circles are there?"


def picture(i: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """i + 1 squares on a background of its own."""
    image = Image.new("RGB", size, (200, 220, 240 - 8 * i))
    pen = ImageDraw.Draw(image)
    for n in range(i + 1):
        x, y = 4 + n % 6 * 10, 4 + n // 6 * 10
        pen.rectangle((x, y, x + 6, y + 6), fill=(20, 40, 160))
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def put(path: Path, content: bytes | str | list[Any] | dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, (bytes, str)):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def put_shards(folder: Path, split: str, rows: list[dict[str, Any]], schema: pa.Schema, n: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        part = rows[len(rows) * i // n : len(rows) * (i + 1) // n]
        table = pa.Table.from_pylist(part, schema=schema)
        pq.write_table(table, folder / f"{split}-{i:05d}-of-{n:05d}.parquet")


def coco_parts(split: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[int]]:
    """Questions, annotations without answers, and image numbers of a split: 12 train, 4 val."""
    numbers = list(range(12) if split == "train" else range(12, IMAGES))
    questions = [
        {"question_id": 10 * i + k, "image_id": i, "question": text}
        for i in numbers
        for k, text in enumerate((SQUARES, CIRCLES, "What color is it?"))
    ]
    annotations = [{"question_id": q["question_id"], "image_id": q["image_id"]} for q in questions]
    return questions, annotations, numbers


def truth(question_id: int) -> int:
    image, k = divmod(question_id, 10)
    return image + 1 if k == 0 else 0


def tdiuc(root: Path) -> Path:
    base = root / "TDIUC"
    for split in ("train", "val"):
        questions, annotations, numbers = coco_parts(split)
        for row in annotations:
            number = row["question_id"]
            counting = number % 10 < 2
            row["question_type"] = "counting" if counting else "color"
            row["answers"] = [{"answer": NUMBER_WORDS[truth(number)] if counting else "blue"}]
        for i in numbers:
            put(base / f"Images/{split}2014/COCO_{split}2014_{i:012d}.jpg", encoded(picture(i), "JPEG"))
        put(base / f"Questions/OpenEnded_mscoco_{split}2014_questions.json", {"questions": questions})
        put(base / f"Annotations/mscoco_{split}2014_annotations.json", {"annotations": annotations[::-1]})
    return root


def vqav2(root: Path) -> Path:
    for split in ("train", "val"):
        questions, annotations, numbers = coco_parts(split)
        for row in annotations:
            number = row["question_id"]
            row["question_type"] = ("how many", "how many people are", "what color is the")[number % 10]
            row["answer_type"] = "number"
            row["multiple_choice_answer"] = str(truth(number))
        for i in numbers:
            put(root / f"{split}2014/COCO_{split}2014_{i:012d}.jpg", encoded(picture(i), "JPEG"))
        put(root / f"v2_OpenEnded_mscoco_{split}2014_questions.json", {"questions": questions})
        put(root / f"v2_mscoco_{split}2014_annotations.json", {"annotations": annotations})
    return root


def tallyqa(root: Path) -> Path:
    for split, numbers in (("train", range(12)), ("test", range(12, IMAGES))):
        rows = []
        for i in numbers:
            name = f"VG_100K/{i}.jpg"
            put(root / "images" / name, encoded(picture(i), "JPEG"))
            for k, text in enumerate((SQUARES, CIRCLES)):
                row = {"question_id": 10 * i + k, "image": name, "question": text, "answer": truth(10 * i + k)}
                rows.append(row if split == "train" else row | {"issimple": k == 0})
        put(root / f"{split}.json", rows)
    return root


def tallyqa_test(root: Path) -> Path:
    qa = pa.list_(pa.struct([("question", pa.string()), ("answer", pa.string()), ("is_simple", pa.bool_())]))
    rows = [
        {
            "image": {"bytes": encoded(picture(i)), "path": None},
            "qa": [
                {"question": SQUARES, "answer": str(i + 1), "is_simple": True},
                {"question": CIRCLES, "answer": "0", "is_simple": False},
            ],
        }
        for i in range(IMAGES)
    ]
    put_shards(root / "data", "test", rows, pa.schema([("image", CELL), ("qa", qa)]))
    return root


def countqa(root: Path) -> Path:
    rows = [
        {
            "image": {"bytes": encoded(picture(i)), "path": f"{i}.png"},
            "questions": [SQUARES, CIRCLES],
            "answers": [str(i + 1), "0"],
            "objects": ["square"],
        }
        for i in range(IMAGES)
    ]
    schema = pa.schema([("image", CELL), ("questions", TEXTS), ("answers", TEXTS), ("objects", TEXTS)])
    put_shards(root / "data", "test", rows, schema)
    return root


def quantity(root: Path) -> Path:
    """Every row but each fifth has an accepted trace."""
    rows, lines = [], []
    for number in range(2 * IMAGES):
        i, k = divmod(number, 2)
        count = i + 1 if k == 0 else 0
        cell = {"bytes": encoded(picture(i)), "path": None}
        rows.append({"image": cell, "question": (SQUARES, CIRCLES)[k], "answer": NUMBER_WORDS[count]})
        said = count + (number % 5 == 0)
        lines.append({"generated_cot": f"<think>\n1. **I** see {said}.\n</think>\n<answer>{said}</answer>"})
    schema = pa.schema([("image", CELL), ("question", pa.string()), ("answer", pa.string())])
    put_shards(root / "data", "train", rows, schema)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    put(root / "Quantity-Reasoning-VQA-23K-Reasoning-Trace.jsonl", text)
    return root


def cauldron(root: Path) -> Path:
    turns = pa.list_(pa.struct([("user", pa.string()), ("assistant", pa.string()), ("source", pa.string())]))
    rows = [
        {
            "images": [{"bytes": encoded(picture(i)), "path": None}],
            "texts": [
                {"user": f"{SQUARES}\nAnswer briefly.", "assistant": f"{i + 1}.", "source": "TallyQA"},
                {"user": CIRCLES, "assistant": "0.", "source": "TallyQA"},
            ],
        }
        for i in range(IMAGES)
    ]
    put_shards(root / "tallyqa", "train", rows, pa.schema([("images", pa.list_(CELL)), ("texts", turns)]))
    return root


def folder(root: Path) -> Path:
    lines = []
    for i in range(IMAGES):
        put(root / f"pictures/{i}.png", encoded(picture(i)))
        rows = ((SQUARES, i + 1), (CIRCLES, 0))
        lines += [{"image": f"pictures/{i}.png", "question": q, "answer": n, "reference": f"1. {n}"} for q, n in rows]
    put(root / "examples.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    return root


MAKERS = {
    "tdiuc": tdiuc,
    "vqav2": vqav2,
    "tallyqa": tallyqa,
    "tallyqa-test": tallyqa_test,
    "countqa": countqa,
    "quantity-23k": quantity,
    "cauldron": cauldron,
    "folder": folder,
}
SPLITS = {
    "tdiuc": {"train": 24, "val": 8},
    "vqav2": {"train": 24, "val": 8},
    "tallyqa": {"train": 24, "test": 8},
    "tallyqa-test": {"test": 32},
    "countqa": {"test": 32},
    "quantity-23k": {"train": 32},
    "cauldron": {"train": 32},
    "folder": {"train": 32},
}
"""Usable questions of each split."""


def made(name: str, root: Path, **settings: Any) -> DataConfig:
    """The set in `root`, and the config that reads it."""
    return DataConfig(dataset=name, path=str(MAKERS[name](root)), **settings)
