"""Writes the logs beside it with the tools themselves: `python tests/store/written/write_logs.py`.

Needs tensorboard 2.21, tensorboardX 2.6 and wandb 0.31, which the tests do not (W&B alone is 62 MB): an environment of
their own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
TYPES = (
    *("float16", "float32", "float64", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64", "bool"),
)


def tensors(folder: Path) -> None:
    """A tag for each type and encoding; 1 at step 0 and 0 at step 1."""
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util import tensor_util

    writer = EventFileWriter(str(folder))
    for step in (0, 1):
        for kind in TYPES:
            number = np.array(1 - step, kind)
            listed = tensor_util.make_tensor_proto(number)
            packed = type(listed)(dtype=listed.dtype, tensor_content=number.tobytes())
            for how, tensor in (("listed", listed), ("packed", packed)):
                metadata = summary_pb2.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
                value = summary_pb2.Summary.Value(tag=f"{kind}/{how}", tensor=tensor, metadata=metadata)
                writer.add_event(event_pb2.Event(wall_time=1.7e9, step=step, summary={"value": [value]}))
    writer.close()


def summary_writer(folder: Path) -> None:
    """All that a writer of PyTorch's kind logs, and a second attempt that purges the last step."""
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder))
    for step in range(4):
        writer.add_scalar("loss", 1 - step / 4, step)
    writer.add_scalars("val/quality", {"precision": 0.5, "recall": 0.25}, 2)
    writer.add_hparams({"seed": 7, "rate": 1e-3, "note": "x", "on": True}, {"best": 0.5}, name="trial")
    writer.add_text("note", "hello", 0)
    writer.add_histogram("weights", np.arange(9.0), 0)
    writer.add_image("picture", np.zeros((3, 4, 4), "uint8"), 0)
    writer.close()
    writer = SummaryWriter(str(folder), purge_step=2, filename_suffix=".later")
    writer.add_scalar("loss", 9.0, 2)
    writer.close()


def resumed(folder: Path) -> None:
    """A run of W&B in two files; the second one begins at an earlier step of the trainer than the first ended."""
    import wandb

    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    for first, last, level in ((1, 6, 1.0), (4, 5, 2.0)):
        with tempfile.TemporaryDirectory() as place:
            run: Any = wandb.init(project="cows", id="twice", name="resumed", dir=place, resume="allow")
            for step in range(first, last + 1):
                run.log({"train/global_step": step, "train/loss": level, "train/epoch": step / 10})
                run.log({"off_by_one": level / 10, "note": "x"})
            run.finish()
            wandb.teardown()  # only now all of it is in the file
            (file,) = Path(place).rglob("*.wandb")
            kept = folder / file.parent.name / file.name
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, kept)


if __name__ == "__main__":
    for name, write in {"tensors": tensors, "summary_writer": summary_writer, "resumed": resumed}.items():
        shutil.rmtree(HERE / name, ignore_errors=True)
        write(HERE / name)
