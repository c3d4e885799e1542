"""Explain in one sentence why a model cannot be loaded, from exceptions of the hub and transformers."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError

from trainer.spec.config import ModelConfig
from trainer.spec.errors import TrainerError

LOADING_FAILURES = (OSError, ValueError, SafetensorError)
"""Exceptions of transformers for a model that it cannot load."""

_SENTENCES: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((GatedRepoError,), "The model {id!r} is gated: accept its terms on its hub page, then run `hf auth login`."),
    (
        (RevisionNotFoundError,),
        "The model {id!r} has no revision {revision!r}: correct model.revision or leave it out.",
    ),
    (
        (RepositoryNotFoundError, HFValidationError),
        "There is no model {id!r}: give `tiny`, a folder that exists, or a hub id that you may read.",
    ),
    (
        (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError, TimeoutError, HfHubHTTPError),
        "The model {id!r} is not on this machine and the hub cannot be reached: connect once to download it, "
        "or give a local folder.",
    ),
    ((SafetensorError,), "The weights of {id!r} are damaged: download or copy them again."),
)
"""From the special to the general: a gated repository also counts as not found."""


def failure(config: ModelConfig, error: BaseException) -> TrainerError:
    """Return the TrainerError (kind `model`, or `disk` on a full disk) for `error`."""
    causes = list(_causes(error))
    if any(isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT) for cause in causes):
        return TrainerError("disk", f"No space is left to download the model {config.id!r}: free some, or set HF_HOME.")
    for kinds, sentence in _SENTENCES:
        if any(isinstance(cause, kinds) for cause in causes):
            return TrainerError("model", sentence.format(id=config.id, revision=config.revision))
    text = str(error)
    if "Error no file named" in text or ("does not appear to have a file named" in text and ".safetensors" in text):
        return TrainerError(
            "model", f"The model {config.id!r} has no safetensors weights: convert it, or choose another."
        )
    first_line = text.strip().partition("\n")[0].rstrip(".")
    return TrainerError("model", f"Cannot load the model {config.id!r}: {first_line}. Check model.id and its files.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
