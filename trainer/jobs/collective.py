"""What the processes of a training tell each other: rows of all, and the first one's word. Alone, it is at once done.

All of them must call the same function at the same place, or they wait for each other in vain.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer.jobs import ranks

Row = TypeVar("Row")
PATIENCE_SECONDS = 24 * 3600
"""How long the others wait for the first one's probe, validation or database."""


def join() -> None:
    """Meets the other processes of a job on a CPU, where TRL's own patience would not be asked for."""
    if ranks.is_rank() and not torch.cuda.is_available():
        distributed.init_process_group("gloo", timeout=timedelta(seconds=PATIENCE_SECONDS))


@contextmanager
def one_dice() -> Iterator[None]:
    """Sampling meanwhile draws on each process for the rows of all, of which it takes its own.

    So the rows are those that one process with the whole batch would sample. Every process must sample as many rows,
    and have the same random state; those that end earlier draw on. Alone, it changes nothing.
    """
    state = PartialState()
    if state.num_processes == 1:
        yield
        return
    original, draws, noise = torch.multinomial, 0, torch.empty(0)

    def draw(probabilities: torch.Tensor, num_samples: int, **_: Any) -> torch.Tensor:
        # As torch does it for one sample a row.
        assert num_samples == 1
        nonlocal draws, noise
        rows, draws = len(probabilities), draws + 1
        noise = torch.cat([torch.empty_like(probabilities)] * state.num_processes).exponential_(1)
        own = noise[state.process_index * rows : (state.process_index + 1) * rows]
        return (probabilities / own).argmax(-1, keepdim=True)

    torch.multinomial = draw
    try:
        yield
    finally:
        torch.multinomial = original
    for _ in range(max(gathered([draws])) - draws):
        noise.exponential_(1)


def gathered(rows: list[Row]) -> list[Row]:
    """The rows of all processes, in the order of their ranks."""
    found: list[Row] = gather_object(rows)
    return found


def agree(control: TrainerControl) -> None:
    """All stop and save where the first one does."""
    words = [(control.should_training_stop, control.should_save)]
    broadcast_object_list(words)
    control.should_training_stop, control.should_save = words[0]


class Follower(TrainerCallback):
    """On the other processes: does after each step what the first one decided."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if logs and "train_runtime" not in logs:
            agree(control)
