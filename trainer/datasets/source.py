"""Find the reader of a dataset by its name, for a local folder or a copy downloaded from the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from trainer.datasets import coco_vqa, parquet
from trainer.datasets.example import Example
from trainer.datasets.folder import FolderDataset
from trainer.datasets.python_file import PythonFile
from trainer.datasets.questions import Skipped
from trainer.datasets.tallyqa import TallyQa
from trainer.spec import paths
from trainer.spec.config import HUB_DATASETS, DataConfig
from trainer.spec.errors import TrainerError


class Source(Protocol):
    """A dataset on disk."""

    @property
    def name(self) -> str: ...

    @property
    def splits(self) -> tuple[str, ...]:
        """The existing splits."""

    def read(self, split: str) -> Iterator[Example | Skipped]:
        """Yield every row of a split in file order, without decoding images. Raises TrainerError."""


class Opened(NamedTuple):
    """An open dataset; `revision` is the commit of a copy from the hub."""

    source: Source
    revision: str | None


_READERS: dict[str, Callable[[Path], Source]] = {
    "tdiuc": coco_vqa.tdiuc,
    "vqav2": coco_vqa.vqav2,
    "tallyqa": TallyQa,
    "tallyqa-test": parquet.tallyqa_test,
    "countqa": parquet.countqa,
    "cauldron": parquet.cauldron,
    "folder": FolderDataset,
}


def open_source(config: DataConfig) -> Opened:
    """Open a dataset. Raises TrainerError if it is missing, ConfigError if its code cannot be imported."""
    if ".py:" in config.dataset:
        root = Path(config.path).expanduser() if config.path else None
        return Opened(PythonFile(config.dataset, root), None)
    root, revision = (Path(config.path).expanduser(), None) if config.path else _fetch(config)
    if paths.is_file(root):
        raise TrainerError("data", f"{root} is a file. Set data.path to its folder.")
    if not paths.is_dir(root):
        raise TrainerError("data", f"The folder {root} does not exist. Check data.path.")
    if config.dataset == "quantity-23k":
        trace_file = Path(config.traces).expanduser() if config.traces else None
        source: Source = parquet.quantity(root, trace_file)
    else:
        source = _READERS[config.dataset](root)
    if not source.splits:
        raise TrainerError(
            "data",
            f"{root} does not contain {config.dataset} in its original layout{_needed(source)}. Check data.path.",
        )
    return Opened(source, revision)


def _needed(source: Source) -> str:
    """Return the missing file by which a published dataset is recognised."""
    name = getattr(source, "needed", "")
    return f" ({name} is missing)" if name else ""


def _fetch(config: DataConfig) -> tuple[Path, str]:
    """Return the hub cache's copy of a dataset, downloaded if necessary, and its commit."""
    from huggingface_hub import errors, snapshot_download

    repository, pattern = HUB_DATASETS[config.dataset]
    where = f"the dataset {repository}"
    folder = f"set data.path to the folder of a copy of {config.dataset}"
    try:
        folder_path = Path(
            snapshot_download(repository, repo_type="dataset", revision=config.revision, allow_patterns=pattern)
        )
    except errors.GatedRepoError as error:
        sentence = (
            f"Access to {where} must be requested. Do so on its page and log in with `hf auth login`, or {folder}."
        )
        raise TrainerError("data", sentence) from error
    except errors.RevisionNotFoundError as error:
        raise TrainerError(
            "data", f"Revision {config.revision!r} of {where} does not exist. Correct data.revision."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise TrainerError("data", f"The hub no longer has {where}: {folder}.") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        sentence = f"No copy of {where} is on this machine, and the hub cannot be reached. Go online, or {folder}."
        raise TrainerError("data", sentence) from error
    except (errors.HfHubHTTPError, errors.IncompleteSnapshotError, OSError) as error:
        fault = str(error).strip().splitlines()[0].rstrip(".")
        raise TrainerError("data", f"Downloading {where} failed ({fault}). Try again, or {folder}.") from error
    return folder_path, folder_path.name
