"""Start the process that indexes a dataset, and close indexes whose process died.

The process is `python -m trainer data index`; it runs `trainer.datasets.index`.
"""

from __future__ import annotations

import time
from pathlib import Path

from store.datasets import ask_index, fail_index, list_indexes
from store.db.engine import Store
from store.db.rows import IndexRow
from trainer.launch import identity, local
from trainer.launch.identity import Identity
from trainer.spec import paths
from trainer.spec.config import ConfigError, DataConfig

DEFAULT_LIMIT = 5000
"""Default number of usable questions to index per split."""
LOG = "index.log"
START_SECONDS = 60.0
"""Seconds after which a process that has not reported counts as failed."""


def start(store: Store, config: DataConfig, split: str, limit: int) -> None:
    """Start indexing a split. Raises ConfigError if that is impossible, StoreError if another process does it."""
    if config.path and not paths.is_dir(config.path):
        raise ConfigError(f"data.path: the folder {config.path} does not exist. Check the path.")
    close_gone(store)
    index_id = ask_index(store, name=config.dataset, path=config.path or "", split=split, limit=limit)
    folder = ["--path", config.path] if config.path else []
    try:
        local.start_alone(store, LOG, "data", "index", config.dataset, *folder, "--split", split, "--limit", str(limit))
    except OSError as error:
        sentence = f"The process could not be started ({error.strerror}). Check that {log(store)} can be written."
        fail_index(store, index_id, sentence)
        raise ConfigError(sentence) from error


def log(store: Store) -> Path:
    """Return the log of the indexing processes."""
    return local.data_folder(store) / LOG


def close_gone(store: Store) -> list[str]:
    """Close the indexes of this host whose process has died, and return sentences about them."""
    closed = []
    for row in list_indexes(store):
        if _is_gone(row):
            fail_index(store, row.id, f"Its process died; {log(store)} may say why. Index the dataset again.")
            closed.append(f"The process that indexed {row.name} ({row.split}) died.")
    return closed


def _is_gone(row: IndexRow) -> bool:
    if row.state == "starting":
        return time.time() - row.started_at > START_SECONDS
    if row.state != "running" or row.host is None or row.pid is None:
        return False
    return not identity.is_alive(Identity(row.host, row.boot_id, row.pid, row.pid_started))
