"""Cache the answers of base models in a folder next to the database, for later runs with the same base and questions.

The key covers everything that decides an answer: the base's files or commit, its precision and device, the libraries
and our own sources for generation, prompt, pixels, decoding, question and the images' bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from store.db import private
from trainer.datasets.example import Example
from trainer.evaluate.generation import Decoding, GeneratedAnswer
from trainer.models import loading
from trainer.spec import paths
from trainer.spec.config import ModelConfig

logger = logging.getLogger(__name__)

FOLDER = "base-answers"
MOST_FILES = 20
"""Most files (one per base and conditions); the oldest are removed first."""
PACKAGES = ("torch", "transformers", "tokenizers", "peft", "bitsandbytes", "pillow", "numpy")
OWN = ("evaluate/generation.py", "evaluate/decoding.py", "models/*.py", "patches/*.py", "spec/prompt.py")
"""Our source files that decide an answer, relative to `trainer/`."""


class BaseAnswers:
    """The answers of one base on one machine, in a file with one JSON object per line."""

    def __init__(self, folder: Path, model: Any, config: ModelConfig, conditions: dict[str, Any]) -> None:
        described = [config.model_dump(), _weights(model, config), str(model.device), _surroundings(), conditions]
        name = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:32]
        self.path = folder / FOLDER / f"{name}.jsonl"
        self._known = _read(self.path)

    def find(self, example: Example, decoding: Decoding, copies: int) -> list[GeneratedAnswer] | None:
        """Return an example's answers; None unless all are known."""
        candidates = [self._known.get(_key(example, decoding, copy)) for copy in range(copies)]
        known = [answer for answer in candidates if answer is not None]
        return known if len(known) == copies else None

    def keep(self, examples: Sequence[Example], decoding: Decoding, answers: Sequence[GeneratedAnswer]) -> None:
        """Add the answers to some examples, the same number for each."""
        copies = len(answers) // len(examples)
        new = {
            _key(example, decoding, copy): answers[i * copies + copy]
            for i, example in enumerate(examples)
            for copy in range(copies)
        }
        self._known |= new
        lines = "".join(json.dumps([key, asdict(answer)]) + "\n" for key, answer in new.items())
        try:
            private.make_folder(self.path.parent)
            with private.append(self.path) as stream:
                stream.write(lines.encode())
            _forget_oldest(self.path.parent)
        except OSError as error:
            logger.warning("The base model's answers could not be cached (%s). The job continues.", error)


def _read(path: Path) -> dict[str, GeneratedAnswer]:
    answers: dict[str, GeneratedAnswer] = {}
    if not path.is_file():
        return answers
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            key, fields = json.loads(line)
            answers[key] = GeneratedAnswer(**fields | {"ids": tuple(fields["ids"])})
        except (ValueError, TypeError, KeyError):
            continue  # another run was killed while it wrote this line
    return answers


def _forget_oldest(folder: Path) -> None:
    files = sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    for path in files[:-MOST_FILES]:
        path.unlink(missing_ok=True)


def _key(example: Example, decoding: Decoding, copy: int) -> str:
    pictures = [_digest(picture.encoded()) for picture in example.pictures]
    identity = [example.id, example.question, pictures, asdict(decoding), copy]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _weights(model: Any, config: ModelConfig) -> Any:
    """Return what identifies the weights: the commit on the hub or the files of a folder."""
    place = loading.location(config)
    if not paths.is_dir(place):
        return loading.commit_of(model.config)
    files = sorted(path for path in paths.absolute(place).iterdir() if path.is_file())
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]


@cache
def _surroundings() -> list[str]:
    root = Path(__file__).parents[1]
    source_files = sorted(path for pattern in OWN for path in root.glob(pattern))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    return [device, *(version(name) for name in PACKAGES), *(_digest(path.read_bytes()) for path in source_files)]
