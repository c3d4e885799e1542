"""Measure the tokens of one stored completion with the nearest checkpoint.

Sampled token ids and the weights of every step are not stored, so the text is tokenized again, and the result names the
checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from store.completions.rows import get_completion
from store.completions.tokens import get_tokens, put_tokens
from store.db.engine import Store
from store.db.rows import StoredCompletion, StoredExample
from store.events import list_checkpoints
from store.examples import get_examples
from store.media.rows import media_path
from store.runs import get_run
from trainer.datasets import images
from trainer.datasets.example import Example
from trainer.evaluate import tokens
from trainer.evaluate.harness import harness_for
from trainer.jobs.activity import say
from trainer.models import adapters, chat_template, loading
from trainer.models.checkpoints import Checkpoint
from trainer.spec.config import RunConfig
from trainer.spec.errors import TrainerError


def run(store: Store, run_id: int, job_id: int, config: RunConfig, arguments: dict[str, Any]) -> None:
    """Measure and store the completion whose id is in `arguments`. Raises TrainerError if that is impossible."""
    row = get_completion(store, int(arguments.get("completion") or 0))
    if row.run_id != run_id:
        raise TrainerError("config", f"Completion {row.id} belongs to another run. Name that run.")
    if not row.text:
        raise TrainerError("data", f"Completion {row.id} is empty, so it has no tokens to measure.")
    measured_before = get_tokens(store, row.id)
    if measured_before is not None and measured_before.exact:
        raise TrainerError("config", f"Completion {row.id} was already measured when it was sampled, which is exact.")
    example = example_of(store, row)
    checkpoint = nearest(store, run_id, row.step - 1)
    say(store, job_id, "loading the model")
    base = loading.load_base(config.model)
    model = adapters.with_adapter(base, config.lora, checkpoint.path)
    start = adapters.starting_point(store, run_id, job_id, config, Path(str(get_run(store, run_id).output_dir)))
    harness = harness_for(config, model, base.processor, (), None, start=start)
    say(store, job_id, f"measuring tokens with the checkpoint of step {checkpoint.step}")
    generated = row.text.removeprefix(chat_template.read(base.processor).opening)
    ids = tokens.tokenize(base.processor.tokenizer, generated, is_whole=not row.truncated)
    (measured,) = tokens.measure(harness, [example], [row.text], [ids])
    put_tokens(store, row.id, measured, step=checkpoint.step)


def nearest(store: Store, run_id: int, step: int) -> Checkpoint:
    """Return the existing checkpoint nearest to `step`. Raises TrainerError if there is none."""
    existing = [row for row in list_checkpoints(store, run_id) if Path(row.path).is_dir()]
    if not existing:
        raise TrainerError("disk", "This run has no checkpoint, so its tokens cannot be measured.")
    chosen = min(existing, key=lambda row: abs(row.step - step))
    return Checkpoint(chosen.step, Path(chosen.path))


def example_of(store: Store, row: StoredCompletion) -> Example:
    """Rebuild a completion's example from the store. Raises TrainerError if the stored data is not sufficient."""
    stored = get_examples(store, [row.example_id]).get(row.example_id) if row.example_id is not None else None
    if stored is None:
        raise TrainerError("data", "The question of this completion was not recorded. Choose another completion.")
    return _example(store, stored)


def _example(store: Store, stored: StoredExample) -> Example:
    pictures = tuple(StoredPicture(media_path(store, sha256)) for sha256 in stored.images)
    return Example(stored.dataset, stored.split, stored.key, stored.question, stored.answer or 0, pictures)


@dataclass(frozen=True)
class StoredPicture:
    """A stored image, identified by its hash."""

    path: Path

    @property
    def identity(self) -> str:
        return self.path.name

    def load(self) -> Image.Image:
        return images.decode(self.encoded(), self.identity)

    def encoded(self) -> bytes:
        """Return the image file. Raises PictureError if it is missing."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise images.PictureError(images.MISSING, self.identity) from error
