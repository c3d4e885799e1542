"""Index a dataset in a separate process: start it, and close what it has left open.

The process itself is `python -m trainer data index`; its work is in `trainer.datasets.index`.
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
"""Usable questions of a split."""
LOG = "index.log"
START_SECONDS = 60.0
"""Seconds within which a started process must report."""


def start(store: Store, config: DataConfig, split: str, limit: int) -> None:
    """Start to index a split. Raises ConfigError when it cannot, StoreError while another process does."""
    if config.path and not paths.is_dir(config.path):
        raise ConfigError(f"data.path: there is no folder {config.path}. Check it.")
    close_gone(store)
    index_id = ask_index(store, name=config.dataset, path=config.path or "", split=split, limit=limit)
    folder = ["--path", config.path] if config.path else []
    try:
        local.start_alone(store, LOG, "data", "index", config.dataset, *folder, "--split", split, "--limit", str(limit))
    except OSError as error:
        sentence = f"The process could not be started ({error.strerror}): see whether {log(store)} can be written."
        fail_index(store, index_id, sentence)
        raise ConfigError(sentence) from error


def log(store: Store) -> Path:
    """Return the log of the indexing processes."""
    return local.data_folder(store) / LOG


def close_gone(store: Store) -> list[str]:
    """Close the indexes of this host whose process is gone, and return sentences about them."""
    closed = []
    for row in list_indexes(store):
        if _is_gone(row):
            fail_index(store, row.id, f"Its process is gone; {log(store)} may say why. Index it again.")
            closed.append(f"The process that indexed {row.name} ({row.split}) is gone.")
    return closed


def _is_gone(row: IndexRow) -> bool:
    if row.state == "starting":
        return time.time() - row.started_at > START_SECONDS
    if row.state != "running" or row.host is None or row.pid is None:
        return False
    return not identity.is_alive(Identity(row.host, row.boot_id, row.pid, row.pid_started))
