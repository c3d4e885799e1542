"""Runs from somebody who means no good: a run with everything, and what can be written in place of its values."""

from __future__ import annotations

import math
import random
import shutil
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from store.care import transfer
from store.care.backup import IMAGES, NAME
from store.db.engine import Store
from store.db.rows import RunRef, TokenRow
from store.db.schema import Base
from store.db.states import JobState
from store.evaluations.records import begin_evaluation, finish_evaluation, record_predictions
from store.examples import add_examples
from store.jobs import end_job
from store.runs import add_tag, describe_run
from store.steps import record_step
from tests.store import make
from trainer.spec.config import preset

ODD: tuple[Any, ...] = (
    *("abc", "", "nan", "1e5", "../../evil", "/etc/passwd", "<script>alert(1)</script>", "\0", "x" * 5000, "é\u202e"),
    *(0, -1, 1, 2, 2**31, 10**16, 2**53 + 1, 2**63 - 1, -(2**63), 0.5, -0.5, 1e308, -1e308, math.inf, -math.inf),
    *(b"", b"\xff\xfe", None, "[]", "{}", "null", "1", '"text"', "[1, 2]", '{"a": "b"}', '{"a": NaN}', '{"a": 1e999}'),
    *(
        '{"exact_match": "abc"}',
        '{"exact_match": [1]}',
        '{"by_count": 3}',
        '{"by_count": {"1": ["a", 2]}}',
        "{",
        "[" * 9000,
    ),
    *(
        '{"a": {"a": {"a": []}}}',
        '{"optimization": []}',
        '{"method": "grpo"}',
        f'{{"a": {"9" * 5000}}}',
        f'{{"n": {10**40}}}',
    ),
    *("queued", "zombie", "finished", "grpo", "none", "direct", "val", "probe", "train"),
)
"""One of each kind that a column of another kind would hold."""


def run_with_everything(store: Store, name: str = "demo") -> RunRef:
    """A finished run that has a row in every table that goes with a run."""
    config = preset("shapes-grpo").model_dump(mode="json")
    run = make.run(store, name, config=config, max_steps=4, lora_rank=8, seed=1)
    describe_run(store, run.id, prompt="How many?", note="n", environment={"python": "3"}, sources={"r": "x"})
    add_tag(store, run.id, "mine")
    ids = add_examples(store, [make.example(), make.example("b", images=(make.image("blue"),))])
    job = make.running_job(store, run.id)
    tokens = TokenRow((3, 6), (0.5, 0.1), (-0.1, -0.2), (-0.3, None))
    for step in range(1, 5):
        rows = [make.completion(index, example_id=ids[index % 2]) for index in range(4)]
        metrics = {"reward": 0.2 * step, "kl": None, "val/accuracy": 0.5}
        record_step(
            store, run.id, step, metrics, at=1e9 + step, tokens=9.0 * step, completions=rows, measured={0: tokens}
        )
    figures = {"n": 2, "exact_match": 0.5, "exact_match_low": 0.1, "exact_match_high": 0.9, "by_count": {"1": [1, 2]}}
    figures |= {"wellformed": 1.0, "mean_steps": 1.0, "mean_tokens": 9.0, "cos_mean": 0.5, "cos_at_0.8": 0.0}
    for kind in ("probe", "val", "test"):
        words: dict[str, Any] = {"split": "val" if kind != "test" else kind, "conditions": {"style": "cot"}}
        evaluation = begin_evaluation(
            store, run.id, benchmark="shapes-simple", kind=kind, step=4, encoder=None, total=2, **words
        )
        record_predictions(store, evaluation, [make.prediction(id) for id in ids])
        finish_evaluation(store, evaluation, figures)
    end_job(store, job, JobState.STOPPED, exit_code=143)
    return run


def mutations(seed: int, number: int) -> Iterator[tuple[str, str, Any]]:
    """Table, column and a value for it: every column of a run's tables first, then at random."""
    tables = [table.name for table in transfer.run_tables()] + ["example", "example_image", "media", "metric_name"]
    columns = [(name, column.name) for name in tables for column in Base.metadata.tables[name].columns]
    chance = random.Random(seed)
    for place in range(number):
        table, column = columns[place % len(columns)]
        yield table, column, chance.choice(ODD)


def damage(database: Path, table: str, column: str, value: Any) -> bool:
    """Writes a value into one row of a database; False where SQLite itself, or its keys, did not take it."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        name = f'"{column}"'
        keys = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")') if row[5]]
        quoted = ", ".join(f'"{key}"' for key in keys)
        one = f'({quoted}) = (SELECT {quoted} FROM "{table}" LIMIT 1)'
        try:
            return connection.execute(f'UPDATE "{table}" SET {name} = ? WHERE {one}', (value,)).rowcount == 1
        except (sqlite3.IntegrityError, OverflowError):
            return False


class RunFile:
    """An exported run that can be packed again after its database was changed."""

    def __init__(self, file: Path, folder: Path) -> None:
        self.folder = folder
        with zipfile.ZipFile(file) as archive:
            archive.extractall(folder / "whole")

    def with_damage(self, table: str, column: str, value: Any) -> Path | None:
        """The file with one value changed; None where it cannot be."""
        database = self.folder / "changed.db"
        shutil.copy(self.folder / "whole" / NAME, database)
        return self.packed(database) if damage(database, table, column, value) else None

    def packed(self, database: Path) -> Path:
        file = self.folder / "changed.zip"
        with zipfile.ZipFile(file, "w") as archive:
            archive.write(database, NAME)
            for path in (self.folder / "whole" / IMAGES).glob("*/*"):
                archive.write(path, f"{IMAGES}/{path.parent.name}/{path.name}")
        return file
