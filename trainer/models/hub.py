"""Explain exceptions of the hub and transformers when a model cannot be loaded."""

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
"""Exceptions that transformers raises for a model that it cannot load."""

_SENTENCES: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((GatedRepoError,), "The model {id!r} is gated. Accept its terms on its hub page, then run `hf auth login`."),
    (
        (RevisionNotFoundError,),
        "The model {id!r} has no revision {revision!r}. Correct model.revision or leave it out.",
    ),
    (
        (RepositoryNotFoundError, HFValidationError),
        "The model {id!r} does not exist. Use `tiny`, an existing folder, or a hub id that you can access.",
    ),
    (
        (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError, TimeoutError, HfHubHTTPError),
        "The model {id!r} is not on this machine, and the hub cannot be reached. Go online to download it, "
        "or use a local folder.",
    ),
    ((SafetensorError,), "The weights of {id!r} are damaged. Download or copy them again."),
)
"""From specific to general: the exception for a gated repository is also one for a missing repository."""


def failure(config: ModelConfig, error: BaseException) -> TrainerError:
    """Return the TrainerError (kind `model`, or `disk` on a full disk) for `error`."""
    causes = list(_causes(error))
    if any(isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT) for cause in causes):
        return TrainerError(
            "disk",
            f"There is not enough disk space to download the model {config.id!r}. Free some space, or set HF_HOME.",
        )
    for kinds, sentence in _SENTENCES:
        if any(isinstance(cause, kinds) for cause in causes):
            return TrainerError("model", sentence.format(id=config.id, revision=config.revision))
    text = str(error)
    if "Error no file named" in text or ("does not appear to have a file named" in text and ".safetensors" in text):
        return TrainerError(
            "model", f"The model {config.id!r} has no safetensors weights. Convert it, or choose another model."
        )
    first_line = text.strip().partition("\n")[0].rstrip(".")
    return TrainerError("model", f"Cannot load the model {config.id!r}: {first_line}. Check model.id and its files.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
