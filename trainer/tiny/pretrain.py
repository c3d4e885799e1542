"""Make the embedded base model from scratch: tokenizer, weights, processor.

    python -m trainer.tiny.pretrain --out FOLDER --minutes 50
    python -m trainer.tiny.pretrain --out FOLDER --minutes 15 --continue FOLDER --peak 1e-3 --seed 1

Reads no file and no network; the scenes come from the train split only. Prints the loss as it goes and
saves a checkpoint every few minutes, so that an interrupted run leaves a usable model.
`python -m trainer.tiny.measure` says what came out."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from trainer.datasets import shapes
from trainer.tiny import architecture, corpus
from trainer.tiny.corpus import Document

BATCH = 64
BUCKET = 16 * BATCH
WARM_UP = 100


def encode(processor: Any, document: Document) -> tuple[list[int], list[int]]:
    """Return token ids of the whole conversation, and labels (-100 outside the assistant's turn)."""
    user = [{"type": "image"}, {"type": "text", "text": document.user}]
    rendered = processor.apply_chat_template([{"role": "user", "content": user}], add_generation_prompt=True)
    image = f"<fake_token_around_image><global-img>{'<image>' * architecture.IMAGE_TOKENS}<fake_token_around_image>"
    tokenizer = processor.tokenizer
    before = tokenizer(rendered.replace("<image>", image), add_special_tokens=False)["input_ids"]
    after = tokenizer(f" {document.assistant}<end_of_utterance>", add_special_tokens=False)["input_ids"]
    return before + after, [-100] * len(before) + after


def batches(processor: Any, seed: int, stage: str) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of documents of similar length (less padding), in random order; pixel values in [-1, 1]."""
    stream = corpus.documents(seed, stage)
    order = np.random.default_rng(seed)
    pad = processor.tokenizer.pad_token_id
    while True:
        chunk = [(encode(processor, d), d) for d, _ in zip(stream, range(BUCKET), strict=False)]
        chunk.sort(key=lambda item: len(item[0][0]))
        groups = [chunk[i : i + BATCH] for i in range(0, BUCKET, BATCH)]
        for index in order.permutation(len(groups)):
            yield _collate(groups[index], pad)


def _collate(group: list, pad: int) -> dict[str, torch.Tensor]:
    width = max(len(ids) for (ids, _), _ in group)
    input_ids = torch.full((len(group), width), pad)
    labels = torch.full((len(group), width), -100)
    mask = torch.zeros((len(group), width), dtype=torch.long)
    pixels = np.empty((len(group), 1, 3, shapes.SIZE, shapes.SIZE), dtype=np.float32)
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


def rate(peak: float, step: int, done: float) -> float:
    """Return a linear warm-up, then a cosine to 2 % of the peak; `done` is the share of the time that has passed."""
    return peak * min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def make(seed: int) -> tuple[Any, Any]:
    """Return a new tokenizer with its processor, and a randomly initialised model."""
    tokenizer = architecture.train_tokenizer(corpus.tokenizer_texts(8000, seed))
    return architecture.build_processor(tokenizer), architecture.build_model(tokenizer)


def load(folder: Path) -> tuple[Any, Any]:
    return AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder, dtype="float32")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peak", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--continue", dest="base", type=Path, help="second stage: go on from this model")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    stage = "second" if args.base else "first"
    processor, model = load(args.base) if args.base else make(args.seed)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.peak, weight_decay=0.01, betas=(0.9, 0.98))
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, {len(processor.tokenizer)} tokens", flush=True)

    start, saved, losses = time.monotonic(), time.monotonic(), []
    for step, batch in enumerate(batches(processor, args.seed, stage)):
        done = (time.monotonic() - start) / (60 * args.minutes)
        for group in optimizer.param_groups:
            group["lr"] = rate(args.peak, step, done)
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 100 == 99:
            print(
                f"{step + 1} batches, {time.monotonic() - start:.0f} s, loss {np.mean(losses[-100:]):.4f}", flush=True
            )
        if done >= 1 or time.monotonic() - saved > 240:
            model.save_pretrained(args.out)
            processor.save_pretrained(args.out)
            saved = time.monotonic()
        if done >= 1:
            break


if __name__ == "__main__":
    main()
