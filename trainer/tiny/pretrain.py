"""Pre-train a base model for the drawn world `board` from scratch, with the size of the embedded model.

    python -m trainer.tiny.pretrain --out FOLDER --steps 9000
    python -m trainer.tiny.pretrain --out FOLDER --steps 13000
    python -m trainer.tiny.pretrain --out OTHER --base FOLDER --first 13000 --steps 17000 --peak 1e-3

No files or network are read; scenes come from the train split only. The learning rate depends on the step, and every
batch has its own seed, so that with the same number of threads the same command makes the same model. The state is
saved every 250 steps. The same command continues from there, and one with more steps continues from the end at the
rate of the longer schedule. `--until 2000` stops early. `--base` starts from another model's weights with a new
optimizer and the batches of step `--first`.
`python -m trainer.tiny.measure --model FOLDER --world board` measures the result."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from trainer.datasets import shapes
from trainer.tiny import architecture, corpus
from trainer.tiny.corpus import Document
from trainer.tiny.muon import Muon

BATCH = 32
BUCKET = 32
"""Number of batches that are drawn together and sorted by length, to reduce padding."""
WARM_UP = 100
SAVE_EVERY = 250
CLOSED_FROM = 9000
"""The step from which some lists end in a think body with its answer, when most lists are right."""
TAGGED_FROM = 13000
"""The step from which echoes have think tags; without them, no LoRA learns to begin or end reasoning in prose."""
STEP = "step"
STATE = "pretraining.safetensors"


def encode(processor: Any, document: Document) -> tuple[list[int], list[int]]:
    """Return the token ids of the whole conversation and the labels (-100 outside the assistant's turn)."""
    user = [{"type": "image"}, {"type": "text", "text": document.user}]
    rendered = processor.apply_chat_template([{"role": "user", "content": user}], add_generation_prompt=True)
    image = f"<fake_token_around_image><global-img>{'<image>' * architecture.image_tokens()}<fake_token_around_image>"
    tokenizer = processor.tokenizer
    before = tokenizer(rendered.replace("<image>", image), add_special_tokens=False)["input_ids"]
    after = tokenizer(f" {document.assistant}<end_of_utterance>", add_special_tokens=False)["input_ids"]
    return before + after, [-100] * len(before) + after


def batches(processor: Any, seed: int, start: int = 0) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches from number `start` on: documents of similar length in random order, with pixels in [-1, 1]."""
    pad = processor.tokenizer.pad_token_id
    number, first = divmod(start, BUCKET)
    while True:
        bucket = seed * 1_000_000 + number
        step = number * BUCKET
        stream = corpus.documents(bucket, closes_lists=step >= CLOSED_FROM, tags_echoes=step >= TAGGED_FROM)
        drawn = [(encode(processor, d), d) for d in islice(stream, BATCH * BUCKET)]
        drawn.sort(key=lambda item: len(item[0][0]))
        order = np.random.default_rng(bucket).permutation(BUCKET)
        for index in order[first:]:
            yield _collate(drawn[index * BATCH : (index + 1) * BATCH], pad)
        number, first = number + 1, 0


def _collate(group: list, pad: int) -> dict[str, torch.Tensor]:
    width, edge = max(len(ids) for (ids, _), _ in group), architecture.IMAGE_SIZE
    input_ids = torch.full((len(group), width), pad)
    labels = torch.full((len(group), width), -100)
    mask = torch.zeros((len(group), width), dtype=torch.long)
    pixels = np.empty((len(group), 1, 3, edge, edge), dtype=np.float32)
    for row, ((ids, targets), document) in enumerate(group):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        labels[row, : len(ids)] = torch.tensor(targets)
        mask[row, : len(ids)] = 1
        pixels[row, 0] = np.asarray(shapes.draw(document.scene), dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1
    return {
        "input_ids": input_ids,
        "attention_mask": mask,
        "labels": labels,
        "pixel_values": torch.from_numpy(pixels),
    }


def rate(peak: float, step: int, steps: int) -> float:
    """Return the learning rate: a linear warm-up, then a cosine to 2 % of the peak."""
    return peak * min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def make(seed: int) -> tuple[Any, Any]:
    """Return a new tokenizer with its processor, and a randomly initialised model."""
    tokenizer = architecture.train_tokenizer(corpus.tokenizer_texts(8000, seed))
    return architecture.build_processor(tokenizer), architecture.build_model(tokenizer)


def load(folder: Path) -> tuple[Any, Any]:
    return AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder, dtype="float32")


def save(folder: Path, processor: Any, model: Any, optimizer: Muon, step: int) -> None:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    unfinished = folder / f"{STATE}.part"
    save_file(optimizer.tensors() | {STEP: torch.tensor(step)}, unfinished)
    unfinished.replace(folder / STATE)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.tiny.pretrain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=9000)
    parser.add_argument("--until", type=int, help="stop after this step")
    parser.add_argument("--base", type=Path, help="start from this model instead of from scratch")
    parser.add_argument("--first", type=int, default=0, help="number of the first step, for the batches and the rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peak", type=float, default=2e-3, help="peak learning rate")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    resumed = (args.out / STATE).exists()
    source = args.out if resumed else args.base
    processor, model = load(source) if source else make(args.seed)
    model.train()
    optimizer = Muon(model, args.peak)
    first = args.first
    if resumed:
        state = load_file(args.out / STATE)
        first = int(state.pop(STEP))
        optimizer.restore(state)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, {len(processor.tokenizer)} tokens, from step {first}", flush=True)

    start, losses = time.monotonic(), []
    last = min(args.steps, args.until or args.steps)
    for step, batch in zip(range(first, last), batches(processor, args.seed, first), strict=False):
        optimizer.set_rate(rate(args.peak, step - args.first, args.steps - args.first))
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 50 == 49:
            print(f"{step + 1} steps, {time.monotonic() - start:.0f} s, loss {np.mean(losses[-50:]):.4f}", flush=True)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == last:
            save(args.out, processor, model, optimizer, step + 1)


if __name__ == "__main__":
    main()
