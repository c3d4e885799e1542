"""The commands of `python -m trainer data`: inspect a dataset, index it, and export its questions."""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

from store.db.engine import open_store
from store.terminal import shown
from trainer.launch import indexing
from trainer.spec import config as configs
from trainer.spec.config import ConfigError, DataConfig

FINISHED = 0


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
        inspection.export(config, options.split, sys.stdout)
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
