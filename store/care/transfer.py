"""Export runs with everything that belongs to them to a file, and import such a file into another database.

The file is a zip of a database that holds these runs only, with the images of their examples. Checkpoints and logs stay
behind, and so does what refers to them. Files from others are checked by `store.care.unpacking`.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, false, insert, or_, select

from store import rollups
from store.care.backup import IMAGES, NAME
from store.care.unpacking import packed_images, unpack, unpack_known
from store.db.connection import Store, StoreError, driver_cursor, reading, writing
from store.db.engine import open_store
from store.db.redaction import redacted_values
from store.db.rows import ExampleRow, RunRef, StoredExample
from store.db.schema import Base, Completion, Example, Experiment, ExperimentRun, Job, Metric, MetricName, Run
from store.db.sql import upsert
from store.examples import add_examples, get_examples
from store.jobs import list_jobs, new_uid
from store.media import files
from store.runs import get_run, list_run_heads

LEFT_OUT = frozenset(("checkpoint", "experiment_run", "step_summary", "metric_rollup", "rolled_up"))
"""Tables of a run that have no meaning elsewhere, can be recomputed, or are copied with the rows that they join."""
AT_ONCE = 200
_RUN: Any = Run.__table__
_COMPLETION: Any = Completion.__table__
_EXAMPLE: Any = Example.__table__
_METRIC: Any = Metric.__table__
_METRIC_NAME: Any = MetricName.__table__
_AWAY = {_RUN: ("parent_id", "output_dir"), Job.__table__: ("log_path",)}
"""Columns that refer to rows that are not transferred."""

Ids = dict[Table, dict[int, int]]
"""New ids by old ids, per table."""


def export_runs(store: Store, run_ids: Iterable[int], file: Path, *, completions: bool = True) -> None:
    """Write runs to a new file; without `completions`, completions sampled during training are left out.

    Raises StoreError while a job of one is open, or when the file cannot be written.
    """
    if file.exists():
        raise StoreError(f"{file} already exists. Name a new file.")
    unfinished = file.with_name(f"{file.name}.unfinished")
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = _open_database(Path(folder))
            try:
                for run_id in run_ids:
                    copy_run(store, made, run_id, completions=completions)
            finally:
                made.close()
            _pack(Path(folder), unfinished)
        unfinished.replace(file)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise StoreError(
            f"{file} cannot be written ({error.strerror}). Free some space, or name another file."
        ) from None


def import_runs(store: Store, file: Path, *, anew: bool = False, sha256: str | None = None) -> list[RunRef]:
    """Import the runs in a file; `anew` gives them new uids, so that they can be imported again.

    Of a file with several runs, those that are here already are left as they are.

    With the `sha256` of a file of our own, rows and images are not checked, which takes most of the time; any other
    file is then refused.

    Raises StoreError, with nothing stored, when the file is not an export or of a newer version, when it holds an
    invalid row or image, or when all of its runs are here already.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            if sha256 is None:
                unpack(file, Path(folder))
            else:
                unpack_known(file, Path(folder), sha256)
        except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise StoreError(f"{file} cannot be read ({error}). Export the run again.") from None
        imported = _open_database(Path(folder))
        if sha256 is not None:
            imported = replace(imported, media=packed_images(file, Path(folder)))
        try:
            runs = list_run_heads(imported)[::-1]
            if not runs:
                raise StoreError(f"{file} contains no run. Export the run again.")
            present_uids = (
                set() if anew else {run.uid for run in list_run_heads(store, newest=0, uids=[run.uid for run in runs])}
            )
            new = [run for run in runs if run.uid not in present_uids] or runs
            return [copy_run(imported, store, run.id, anew=anew) for run in new]
        finally:
            imported.close()


def copy_run(source: Store, target: Store, run_id: int, *, anew: bool = False, completions: bool = True) -> RunRef:
    """Copy a run between two open databases, in one transaction except for its examples, which may exist already.

    It stays in its experiments, which are created if necessary.
    """
    run = get_run(source, run_id)
    if list_jobs(source, run_id=run_id, open_only=True):
        raise StoreError(f"{run.name} has a job that has not ended. Stop the job, or wait for it.")
    uid = new_uid() if anew else run.uid
    where = _rows_of(run_id, completions)
    with reading(source) as source_connection:
        ids: Ids = {_EXAMPLE: _bring_examples(source, target, _example_ids(source_connection, where))}
        with writing(target) as target_connection:
            if target_connection.scalar(select(Run.id).where(Run.uid == uid)) is not None:
                raise StoreError(f"The run {uid} already exists. Delete it first, or import this one with --anew.")
            ids[_METRIC_NAME] = _bring_metric_names(source_connection, target_connection, where[_METRIC])
            for table, condition in where.items():
                _copy_rows(
                    source_connection,
                    target_connection,
                    table,
                    condition,
                    ids,
                    {"uid": uid} if table is _RUN else {},
                    anew,
                )
            _join_experiments(source_connection, target_connection, run_id, ids[_RUN][run_id])
            rollups.build(driver_cursor(target_connection), ids[_RUN][run_id])
    return RunRef(ids[_RUN][run_id], uid)


def run_tables() -> dict[Table, tuple[Column[Any], ...]]:
    """Return the tables whose rows belong to a run, parents first, with their foreign keys to parents."""
    keys_by_table: dict[Table, tuple[Column[Any], ...]] = {_RUN: ()}
    for table in Base.metadata.sorted_tables:
        keys = sorted(table.foreign_keys, key=lambda key: key.parent.name)
        links = tuple(key.parent for key in keys if key.ondelete == "CASCADE" and key.column.table in keys_by_table)
        if links and table.name not in LEFT_OUT:
            keys_by_table[table] = tuple(link for link in links if link.references(_RUN.c.id)) or links
    return keys_by_table


def _rows_of(run_id: int, completions: bool) -> dict[Table, ColumnElement[bool]]:
    """Return the condition that selects the run's rows, by table."""
    where: dict[Table, ColumnElement[bool]] = {_RUN: _RUN.c.id == run_id}
    for table, links in run_tables().items():
        if table is not _RUN:
            parents = [next(iter(link.foreign_keys)).column.table for link in links]
            chosen = [
                link.in_(select(parent.c.id).where(where[parent])) for link, parent in zip(links, parents, strict=True)
            ]
            where[table] = or_(*chosen) if completions or table is not _COMPLETION else false()
    return where


def _example_ids(source_connection: Connection, where: Mapping[Table, ColumnElement[bool]]) -> list[int]:
    ids: set[int] = set()
    for table, condition in where.items():
        for key in table.foreign_keys:
            if key.column.table is _EXAMPLE:
                ids |= set(
                    source_connection.scalars(select(key.parent).where(condition, key.parent.is_not(None)).distinct())
                )
    return sorted(ids)


def _bring_examples(source: Store, target: Store, example_ids: list[int]) -> dict[int, int]:
    """Return new ids by old ids. Raises StoreError if the target has a different example of the same name."""
    ids: dict[int, int] = {}
    for start in range(0, len(example_ids), AT_ONCE):
        source_examples = get_examples(source, set(example_ids[start : start + AT_ONCE]))
        new = add_examples(target, [_example(source, example) for example in source_examples.values()])
        target_examples = get_examples(target, set(new))
        for (old, example), id in zip(source_examples.items(), new, strict=True):
            if _asks(target_examples[id]) != _asks(example):
                raise StoreError(
                    f"The example {example.name} has different content in this database, so the run cannot be copied."
                )
            ids[old] = id
    return ids


def _asks(example: StoredExample) -> tuple[Any, ...]:
    return example.question, example.answer, example.gold, example.prompt


def _example(store: Store, row: StoredExample) -> ExampleRow:
    """Return an example for export, without images that are missing or damaged."""
    images = []
    for sha256 in row.images:
        with suppress(files.Lost):
            images.append(files.content(store.media, sha256))
    return ExampleRow(
        dataset=row.dataset,
        split=row.split,
        key=row.key,
        question=row.question,
        answer=row.answer,
        reference=row.reference,
        difficulty=row.difficulty,
        meta=row.meta,
        gold=row.gold,
        prompt=row.prompt,
        columns=row.columns,
        images=tuple(images),
    )


def _bring_metric_names(source: Connection, target: Connection, condition: ColumnElement[bool]) -> dict[int, int]:
    used = select(Metric.name_id).where(condition)
    names = {
        id: name for id, name in source.execute(select(MetricName.id, MetricName.name).where(MetricName.id.in_(used)))
    }
    if names:
        new = [{"name": name} for name in names.values()]
        target.execute(upsert(target.dialect.name, MetricName).on_conflict_do_nothing(), new)
    ids_by_name = {name: id for id, name in target.execute(select(MetricName.id, MetricName.name))}
    return {id: ids_by_name[name] for id, name in names.items()}


def _join_experiments(source: Connection, target: Connection, old_id: int, new_id: int) -> None:
    member = select(ExperimentRun.arm, Experiment.uid, Experiment.name, Experiment.matrix, Experiment.created_at)
    for row in source.execute(member.join(Experiment).where(ExperimentRun.run_id == old_id)):
        experiment_id = target.scalar(select(Experiment.id).where(Experiment.uid == row.uid))
        if experiment_id is None:
            values = {"uid": row.uid, "name": row.name, "matrix": row.matrix, "created_at": row.created_at}
            experiment_id = target.execute(insert(Experiment).values(values).returning(Experiment.id)).scalar_one()
        target.execute(insert(ExperimentRun).values(experiment_id=experiment_id, run_id=new_id, arm=row.arm))


def _copy_rows(
    source: Connection,
    target: Connection,
    table: Table,
    condition: ColumnElement[bool],
    ids: Ids,
    fixed: dict[str, Any],
    anew: bool,
) -> None:
    has_id = "id" in table.c
    statement = insert(table)
    if has_id:
        statement = statement.returning(table.c.id, sort_by_parameter_order=True)
    moved = ids.setdefault(table, {})
    for part in _parts(source, table, condition):
        rows = [_target_row(table, row, ids) | fixed for row in part]
        if anew and table is Job.__table__:
            rows = [row | {"uid": new_uid()} for row in rows]
        result = target.execute(statement, rows)
        if has_id:
            moved.update(zip((row["id"] for row in part), result.scalars(), strict=True))


def _parts(there: Connection, table: Table, condition: ColumnElement[bool]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows in key order, in batches."""
    statement = select(table).where(condition).order_by(*table.primary_key)
    rows = there.execute(statement, execution_options={"yield_per": AT_ONCE})
    for part in rows.mappings().partitions():
        yield [dict(row) for row in part]


def _target_row(table: Table, row: Mapping[str, Any], ids: Ids) -> dict[str, Any]:
    """Return the row for the target: with new ids, and without secrets and references to rows not transferred."""
    values = {name: value for name, value in row.items() if name != "id"}
    for key in table.foreign_keys:
        name = key.parent.name
        if values[name] is not None and key.column.table is not table:
            values[name] = ids[key.column.table][values[name]]
    away = dict.fromkeys(_AWAY.get(table, ()))
    return (redacted_values(values) if table in _AWAY else values) | away


def _open_database(folder: Path) -> Store:
    """Open the database in a folder with the images next to it, regardless of VR1Z_MEDIA."""
    return replace(open_store(str(folder / NAME)), media=folder / IMAGES)


def _pack(folder: Path, file: Path) -> None:
    with zipfile.ZipFile(file, "x", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / NAME, NAME)
        for path in sorted((folder / IMAGES).glob("*/*")):
            archive.write(path, f"{IMAGES}/{path.parent.name}/{path.name}", zipfile.ZIP_STORED)
