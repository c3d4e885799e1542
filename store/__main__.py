"""Export recorded data and maintain the database: `python -m store COMMAND`.

`runs`, `metrics`, `completions` and `predictions` export tables; `export-run`, `export-experiment` and `import-run`
move runs between databases; `backup`, `restore`, `copy` and `orphans` maintain one; `import` and `follow` read
files of other tools, `sync` journals of recorded scripts. Only `import`, `follow`, `sync`, `import-run`, `restore`,
`copy`, `delete` and `orphans --remove` write to a database."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import make_url

from store.care import backup, copying, deletion, orphans, transfer
from store.care.export import completion_fields, prediction_fields
from store.completions.rows import iter_completions
from store.db.engine import Store, StoreError, database_url, media_place, open_store, sqlite_path
from store.db.rows import RunRow
from store.evaluations.predictions import iter_predictions
from store.experiments import get_experiment
from store.importing import following, saving
from store.importing.found import pluralize
from store.jobs import list_jobs
from store.metrics import list_metric_names, read_series
from store.recording import folders as journals
from store.recording import silence
from store.runs import find_run, get_run, list_runs, resolve_run
from store.terminal import cell, shown, unformulaic

EVERY_POINT = 10**9
COLUMNS = ("uid", "name", "method", "model", "dataset", "status", "step", "max_steps", "accuracy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Return 0, or 2 after an error message on standard error."""
    options = _parser().parse_args(arguments)
    try:
        if options.command is _restore:
            _restore(options)
            return 0
        with closing(open_store(options.db, readonly=not options.writes, must_exist=not options.creates)) as store:
            options.command(store, options)
            sys.stdout.flush()
    except StoreError as error:
        print(shown(error), file=sys.stderr)
    except BrokenPipeError:
        # Buffered output would fail again when the interpreter closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print("The output was closed before everything was written.", file=sys.stderr)
    except OSError as error:
        told = (error.strerror or str(error)).rstrip(".")
        print(shown(f"Cannot write {error.filename or 'the output'}: {told}."), file=sys.stderr)
    else:
        return 0
    return 2


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--db", metavar="URL", help="database URL or path (default: $VR1Z_DATABASE_URL, or else data/)")
    of_run = argparse.ArgumentParser(add_help=False, parents=[common])
    of_run.add_argument("run", metavar="RUN", help="uid of a run, or its name if that is unique")
    lines = argparse.ArgumentParser(add_help=False, parents=[of_run])
    lines.add_argument(
        "--jsonl", metavar="FILE", required=True, help="file to write, one JSON object per line; - for standard output"
    )

    parser = argparse.ArgumentParser(prog="python -m store", description=(__doc__ or "").splitlines()[0])
    parser.set_defaults(writes=False, creates=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = commands.add_parser("runs", parents=[common], help="list all runs, newest first")
    add.add_argument("--json", action="store_true", help="print a JSON array with everything that the Runs page shows")
    add.set_defaults(command=_runs)
    add = commands.add_parser(
        "metrics", parents=[common], help="export the metrics of one run as a table, or of many runs"
    )
    help = "uid or unique name of a run; with --to also tag:NAME, experiment:NAME, or several separated by commas"
    add.add_argument("run", metavar="RUN", help=help)
    add.add_argument("names", metavar="NAME", nargs="*", help="metrics to write (default: all)")
    add.add_argument("--csv", action="store_true", help="write CSV instead of tab-separated values")
    add.add_argument("--to", metavar="FILE", type=Path, help="write FILE.csv or FILE.parquet with one row per value")
    help = "with --to: add a column with this setting (lora.rank), arm or method; repeatable"
    add.add_argument("--group-by", metavar="FIELD", action="append", default=[], help=help)
    add.set_defaults(command=_metrics)
    add = commands.add_parser("completions", parents=[lines], help="export every completion sampled during training")
    add.set_defaults(command=_completions)
    add = commands.add_parser("predictions", parents=[lines], help="export every answer of every evaluation")
    add.set_defaults(command=_predictions)
    add = commands.add_parser("copy", help="copy all rows and images to an empty database, verified by checksums")
    add.add_argument("db", metavar="FROM", help="database URL or path")
    add.add_argument("target", metavar="TO", help="database URL or path")
    add.add_argument(
        "--media", metavar="PLACE", help="folder or URL for the images (default: $VR1Z_MEDIA, or else next to TO)"
    )
    add.set_defaults(command=_copy)
    add = commands.add_parser("import", parents=[common], help="import runs recorded by another tool")
    words = "tool that wrote the files; `lines` for any log with a step in each line"
    add.add_argument("tool", choices=[*saving.READERS], help=words)
    add.add_argument(
        "path", metavar="PATH", help="output_dir of TRL, project of Trackio, or log folder of another tool"
    )
    add.add_argument("--name", help="name for the run, if PATH has only one (default: its own)")
    add.set_defaults(command=_import, writes=True, creates=True)
    add = commands.add_parser(
        "follow", parents=[common], help="import runs continuously while another tool writes them"
    )
    add.add_argument("tool", choices=[*saving.READERS], help="tool that wrote the files")
    add.add_argument("path", metavar="PATH", help="see `import`")
    add.add_argument("--name", help="name for the run, if PATH has only one (default: its own)")
    add.set_defaults(command=_follow, writes=True, creates=True)
    add = commands.add_parser(
        "sync", parents=[common], help="import records that a script's recorder could not deliver"
    )
    add.add_argument(
        "folders", metavar="FOLDER", nargs="+", type=Path, help="a run's journal folder, or a parent folder of several"
    )
    add.set_defaults(command=_sync, writes=True, creates=True)
    _add_care(commands, common, of_run)
    return parser


def _add_care(commands: Any, common: argparse.ArgumentParser, of_run: argparse.ArgumentParser) -> None:
    add = commands.add_parser("backup", parents=[common], help="back up database and images, even while in use")
    add.add_argument(
        "folder", metavar="FOLDER", type=Path, help="new or empty folder; the backup in it is usable as a database"
    )
    add.set_defaults(command=_backup)
    add = commands.add_parser("restore", parents=[common], help="create a database from a backup; none may exist there")
    add.add_argument("folder", metavar="FOLDER", type=Path, help="folder that `backup` wrote")
    add.set_defaults(command=_restore)
    add = commands.add_parser("export-run", parents=[of_run], help="export one run with its images to a file")
    add.add_argument("file", metavar="FILE", type=Path, help="new zip file")
    add.set_defaults(command=_export_run)
    add = commands.add_parser(
        "export-experiment", parents=[common], help="export the ended runs of an experiment to one file"
    )
    add.add_argument("experiment", metavar="EXPERIMENT", help="its uid, or its name (the newest of that name)")
    add.add_argument("file", metavar="FILE", type=Path, help="new zip file")
    add.add_argument("--without-completions", action="store_true", help="leave out completions sampled during training")
    add.set_defaults(command=_export_experiment)
    add = commands.add_parser("import-run", parents=[common], help="import the runs in such a file")
    add.add_argument("file", metavar="FILE", type=Path)
    add.add_argument("--anew", action="store_true", help="give the runs new uids, so that they can be imported again")
    add.set_defaults(command=_import_run, writes=True, creates=True)
    add = commands.add_parser("delete", parents=[of_run], help="delete a run and all of its data permanently")
    add.set_defaults(command=_delete, writes=True)
    add = commands.add_parser("orphans", parents=[common], help="find examples, images and folders that no run needs")
    add.add_argument("--remove", dest="writes", action="store_true", help="remove them; no job may be running")
    add.set_defaults(command=_orphans)


def _sync(store: Store, options: argparse.Namespace) -> None:
    problems = []
    for result in journals.sync(store, options.folders):
        if result.run:
            summary = f"{result.new:,} new records" if result.new else "nothing new"
            print(shown(f"{get_run(store, resolve_run(store, result.run)).name} ({result.run}): {summary}"))
        if result.problem:
            problems.append(f"{result.folder}: {result.problem}")
    if problems:
        raise StoreError("\n".join(problems))


def _import(store: Store, options: argparse.Namespace) -> None:
    _print_report(saving.import_runs(store, options.tool, options.path, options.name))


def _follow(store: Store, options: argparse.Namespace) -> None:
    print(shown(f"Following {options.path}. Stop with Ctrl-C."))
    try:
        for report in following.follow(store, options.tool, options.path, options.name):
            _print_report(report) if isinstance(report, saving.Report) else print(shown(report), file=sys.stderr)
            sys.stdout.flush()
    except KeyboardInterrupt:
        print()


def _print_report(report: saving.Report) -> None:
    for run in report.runs:
        summary = f"{run.name} ({run.uid}): {pluralize(run.steps, 'step')}, {pluralize(run.completions, 'completion')}"
        if run.is_new:
            print(shown(f"imported {summary}"))
        elif run.changed:
            print(shown(f"updated, {pluralize(run.changed, 'step')} changed: {summary}"))
        else:
            print(shown(f"already imported, nothing new: {summary}"))
        for note in run.notes:
            print(shown(f"  {note}"))
    for problem in report.unread:
        print(shown(f"not imported: {problem}"))


def _runs(store: Store, options: argparse.Namespace) -> None:
    rows, now = list_runs(store), time.time()
    if options.json:
        json.dump([_run(row, now) for row in rows], sys.stdout, indent=1)
        print()
        return
    silent = {row.id: silence.in_words(since) for row in rows if (since := silence.silent_since(row, now))}
    shown_rows = [replace(row, status=silent.get(row.id, row.status)) for row in rows]
    lines = [COLUMNS, *([_cell(getattr(row, name)) for name in COLUMNS] for row in shown_rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if silent:
        print(silence.HINT, file=sys.stderr)


def _run(row: RunRow, now: float) -> dict[str, Any]:
    extra = {"accuracy": row.accuracy, "accuracy_n": row.accuracy_n, "silent_since": silence.silent_since(row, now)}
    return asdict(row) | extra


def _metrics(store: Store, options: argparse.Namespace) -> None:
    if options.to is not None:
        _tidy_metrics(store, options)
        return
    if options.group_by:
        raise StoreError(
            "--group-by needs --to FILE.csv or --to FILE.parquet, because the table of one run has no groups."
        )
    try:
        run_id = resolve_run(store, options.run)
    except StoreError:
        if "," not in options.run and not options.run.startswith(("tag:", "experiment:")):
            raise
        raise StoreError("Curves of several runs are written to a file: add --to FILE.csv or FILE.parquet.") from None
    recorded_names = list_metric_names(store, run_id)
    names = options.names or recorded_names
    if unknown := [name for name in names if name not in recorded_names]:
        raise StoreError(f"The run has no metric {unknown[0]!r}; it has {', '.join(recorded_names) or 'none'}.")
    values: dict[int, dict[str, float]] = {}
    for name, curve in read_series(store, run_id, names, points=EVERY_POINT).items():
        for step, value in zip(curve.step.tolist(), curve.value.tolist(), strict=True):
            if value == value:
                values.setdefault(step, {})[name] = value
    out = csv.writer(sys.stdout, delimiter="," if options.csv else "\t", lineterminator="\n")
    out.writerow(["step", *map(unformulaic, names)])
    out.writerows([step, *(values[step].get(name, "") for name in names)] for step in sorted(values))
    if not sys.stdout.isatty():
        _say_written(f"{pluralize(len(values), 'step')} of {pluralize(len(names), 'metric')}", "-")


def _tidy_metrics(store: Store, options: argparse.Namespace) -> None:
    from store.frames import Frames  # pandas takes half a second to load

    if options.to.suffix not in (".csv", ".parquet"):
        raise StoreError(f"{options.to} must end in .csv or .parquet, which selects the format.")
    if not options.to.absolute().parent.is_dir():
        raise StoreError(f"The folder {options.to.absolute().parent} does not exist. Create it, or name another file.")
    asked = [run.strip() for run in options.run.split(",") if run.strip()]
    frame = Frames(store).metrics(asked, options.names or None, options.group_by)
    if frame.empty:
        raise StoreError("These runs have no such metric. List those of a run with `python -m store metrics RUN`.")
    if options.to.suffix == ".parquet":
        frame.to_parquet(options.to, index=False)
    else:
        words = frame.select_dtypes(exclude="number").columns
        frame.assign(**{column: frame[column].map(_safe) for column in words}).to_csv(options.to, index=False)
    print(
        shown(f"Wrote {pluralize(len(frame), 'value')} of {_of_runs(asked, frame['run'].nunique())} to {options.to}.")
    )


def _of_runs(asked: Sequence[str], found: int) -> str:
    """Return `3 runs`, or `2 of 3 runs` if some of those named have none of the metrics."""
    is_whole = found >= len(set(asked)) or any(run.startswith(("tag:", "experiment:")) for run in asked)
    return pluralize(found, "run") if is_whole else f"{found:,} of {pluralize(len(set(asked)), 'run')}"


def _safe(value: Any) -> Any:
    return unformulaic(value) if isinstance(value, str) else value


def _completions(store: Store, options: argparse.Namespace) -> None:
    run = get_run(store, resolve_run(store, options.run))
    written = _write(options.jsonl, (completion_fields(run.uid, row) for row in iter_completions(store, run.id)))
    _say_written(f"{pluralize(written, 'completion')} of {run.name}", options.jsonl)


def _predictions(store: Store, options: argparse.Namespace) -> None:
    run = get_run(store, resolve_run(store, options.run))
    written = _write(options.jsonl, (prediction_fields(run.uid, row) for row in iter_predictions(store, run.id)))
    _say_written(f"{pluralize(written, 'prediction')} of {run.name}", options.jsonl)


def _copy(store: Store, options: argparse.Namespace) -> None:
    with closing(open_store(options.target)) as opened:
        place = media_place(sqlite_path(make_url(opened.url)), options.media)
        target = replace(opened, media=place)
        copying.copy(store, target, lambda copied: print(f"{copied.table}: {copied.rows:,}", file=sys.stderr))


def _backup(store: Store, options: argparse.Namespace) -> None:
    _say_copied(backup.backup(store, options.folder))


def _restore(options: argparse.Namespace) -> None:
    _say_copied(backup.restore(options.folder, database_url(options.db)))


def _say_copied(copied: backup.WrittenBackup) -> None:
    print(f"Wrote and verified {copied.path} with {copied.images:,} images. It does not include logs and checkpoints.")
    if copied.lost:
        print(f"{copied.lost:,} images were already missing or damaged in the source.", file=sys.stderr)


def _export_run(store: Store, options: argparse.Namespace) -> None:
    transfer.export_runs(store, [resolve_run(store, options.run)], options.file)
    print(f"Wrote {options.file}. It does not include checkpoints and logs.")


def _export_experiment(store: Store, options: argparse.Namespace) -> None:
    experiment = get_experiment(store, options.experiment)
    at_work = {job.run_id for job in list_jobs(store, open_only=True)}
    ended = [run_id for run_id in experiment.arms if run_id not in at_work]
    if not ended:
        raise StoreError(f"{experiment.name} has no run that has ended. Wait for one.")
    transfer.export_runs(store, ended, options.file, completions=not options.without_completions)
    print(f"Wrote {len(ended)} of {pluralize(len(experiment.arms), 'run')} to {options.file}: those that have ended.")


def _import_run(store: Store, options: argparse.Namespace) -> None:
    for run in transfer.import_runs(store, options.file, anew=options.anew):
        print(f"imported run {run.uid}")


def _delete(store: Store, options: argparse.Namespace) -> None:
    run = find_run(store, options.run)
    folder = deletion.delete(store, run.id, run.uid)
    print(f"deleted run {run.uid}" + (f" and {folder}." if folder else "; it has no output folder here."))
    print("Images are kept until `python -m store orphans --remove` removes those that no run needs.")


def _orphans(store: Store, options: argparse.Namespace) -> None:
    unused = orphans.remove(store) if options.writes else orphans.find(store)
    for path in (*(file.address for file in unused.files), *unused.folders):
        print(shown(path))
    verb = "were removed" if options.writes else "can be removed with --remove"
    print(
        f"{unused.examples:,} examples, {unused.images:,} images, {len(unused.files):,} stray files and "
        f"{len(unused.folders):,} output folders ({unused.size / 1e6:,.1f} MB) {verb}."
    )


@contextmanager
def _output(path: str) -> Iterator[TextIO]:
    if path == "-":
        yield sys.stdout
    else:
        with open(path, "w", encoding="utf-8") as file:
            yield file


def _write(path: str, rows: Iterable[dict[str, Any]]) -> int:
    """Write one line of JSON per row; return the number of rows."""
    written = 0
    with _output(path) as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            written += 1
    return written


def _say_written(what: str, path: str) -> None:
    """Say what was written, on standard error if standard output has the data."""
    if path == "-":
        sys.stdout.flush()
        print(shown(f"Wrote {what}."), file=sys.stderr)
    else:
        print(shown(f"Wrote {what} to {path}."))


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else cell(value)


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # JSON is UTF-8, whatever the shell's encoding
    sys.exit(main())
