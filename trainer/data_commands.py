"""The commands of `python -m trainer data`: inspect a dataset, index it, and export its questions."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from store.db.engine import open_store
from store.terminal import shown
from trainer.launch import indexing
from trainer.spec import config as configs
from trainer.spec.config import ConfigError, DataConfig

FINISHED = 0


def add(commands: Any, positive_number: Callable[[str], int]) -> None:
    """Add the command `data` with its actions."""
    help_text = "inspect, index or export a dataset"
    data = commands.add_parser("data", help=help_text, description=f"{help_text.capitalize()}.")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    inspect = _action(actions, "inspect", inspect_command, "show what a dataset contains and which rows are skipped")
    inspect.add_argument("--split", metavar="SPLIT", help="a split of the source (default: all)")
    inspect.add_argument("--json", action="store_true", help="print the summary as JSON")
    index = _action(actions, "index", index_command, "store a dataset's examples and statistics for the dashboard")
    index.add_argument("--split", metavar="SPLIT", help="a split of the source (default: all)")
    index.add_argument(
        "--limit",
        type=positive_number,
        default=indexing.DEFAULT_LIMIT,
        metavar="N",
        help="index only the first N usable questions of a split (default: %(default)s)",
    )
    index.add_argument("--db", metavar="URL", help="database path or SQLAlchemy URL")
    export = _action(actions, "export", export_command, "write every usable question as one line of JSON")
    export.add_argument("--split", metavar="SPLIT", required=True, help="a split of the source: train, val or test")
    export.add_argument("--jsonl", metavar="FILE", required=True, help="file to write; - for standard output")


def _action(actions: Any, name: str, function: Any, help_text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = actions.add_parser(
        name, help=help_text, description=help_text.capitalize() + "."
    )
    command.add_argument("dataset", metavar="NAME", help=f"{', '.join(configs.DATASETS)}, or FILE.py:function")
    command.add_argument("--path", type=Path, metavar="FOLDER", help="folder with the dataset's files")
    command.set_defaults(command=function)
    return command


def inspect_command(options: argparse.Namespace) -> int:
    inspection = import_module("trainer.datasets.inspect")
    inspection_result = inspection.inspect(_real_data(options), options.split)
    print(json.dumps(inspection_result) if options.json else shown(inspection.text(inspection_result)))
    return FINISHED


def index_command(options: argparse.Namespace) -> int:
    index, inspection = (import_module(f"trainer.datasets.{name}") for name in ("index", "inspect"))
    config = data_config(options.dataset, options.path)
    store = open_store(options.db)
    indexing.close_gone(store)
    for split in [options.split] if options.split else index.splits_of(config):
        tally = index.index(store, config, split, options.limit)
        end = "" if tally.complete else f"; stopped at {options.limit:,} (raise with --limit)"
        print(f"{split}: {tally.usable:,} of {tally.rows:,} rows are usable, {len(tally.hashed):,} images{end}")
        for line in inspection.counts(dict(tally.skipped.most_common()), tally.first):
            print(shown(line))
    return FINISHED


def export_command(options: argparse.Namespace) -> int:
    inspection = import_module("trainer.datasets.inspect")
    config = _real_data(options)
    if options.jsonl == "-":
        written = inspection.export(config, options.split, sys.stdout)
        sys.stdout.flush()
        print(f"wrote {written} questions", file=sys.stderr)
        return FINISHED
    try:
        with open(options.jsonl, "w", encoding="utf-8") as file:
            written = inspection.export(config, options.split, file)
    except OSError as error:
        raise ConfigError(f"Cannot write {options.jsonl}: {error.strerror}. Choose another file.") from None
    print(f"wrote {written} questions to {options.jsonl}")
    return FINISHED


def _real_data(options: argparse.Namespace) -> DataConfig:
    if options.dataset in configs.DRAWN_DATASETS:
        raise ConfigError(
            f"{options.dataset} is generated without end. Choose one of {', '.join(configs.REAL_DATASETS)}."
        )
    return data_config(options.dataset, options.path)


def data_config(dataset: str, path: Path | None) -> DataConfig:
    """Return a DataConfig for a dataset and its folder. Raises ConfigError."""
    data = {"dataset": dataset, "path": None if path is None else str(path.expanduser().absolute())}
    return configs.from_dict({"method": "none", "data": data}).data
