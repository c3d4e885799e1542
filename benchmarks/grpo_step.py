"""Compare a GRPO step with stock TRL: same model, prompts, seeds and numbers of new tokens, alternately in one run.

    python -m benchmarks.grpo_step [--shape smolvlm-256m|tiny|qwen2-vl] [--longest-edge 512|2048]
        [--tokens 24 128 256] [--lengths forced|drawn] [--rounds 3] [--steps 2]

Completions have the given number of tokens or, if drawn, at most that many, distributed like the demo's (45 of 110 on
average). Weights are random except for the embedded model. The first step of each turn warms up. Loss, gradient norm
and log-probabilities of the first step are compared on the same completions; they differ only by rounding.

Targets for the SmolVLM-256M shape, G = 8, one tile (512): at least 2.5 times stock at 24 tokens, 3.2 at 128 and 2.3 at
256, at least 3 times at the default tiling of a 640 x 480 picture (2048) and 24 tokens; the embedded model with 8
prompts and 110 tokens at least 2.2 times; with drawn lengths at least 4 and 3 times.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LogitsProcessor,
    LogitsProcessorList,
    PrinterCallback,
    TrainerCallback,
    set_seed,
)
from trl import GRPOTrainer

from tests.training.tiny_models import write_qwen2vl
from trainer.datasets import shapes
from trainer.datasets.example import Example, Picture
from trainer.models import loading
from trainer.models.loading import Base
from trainer.patches import decoding_loop, pixels, prefix_sharing
from trainer.spec import config
from trainer.spec.config import RunConfig
from trainer.spec.rewards import Reward
from trainer.train import grpo

TILE = 512
GROUP = 8


@dataclass(frozen=True)
class Photo:
    """A drawn image with the usual size of a photo."""

    drawn: Picture

    @property
    def identity(self) -> str:
        return self.drawn.identity

    def load(self) -> Image.Image:
        return self.drawn.load().resize((640, 480))

    def encoded(self) -> bytes:
        return self.drawn.encoded()


@dataclass(frozen=True)
class StepMeasurement:
    """One trainer's seconds for each step after the first, and the results of its first step."""

    seconds: list[float]
    processor_seconds: list[float]
    loss: float
    gradient_norm: float
    logps: torch.Tensor
    encoded: int


def smolvlm(longest_edge: int) -> Base:
    """Return a model with SmolVLM-256M's shape, random weights, the embedded tokenizer and 512-pixel tiles."""
    processor = loading.load_processor(config.ModelConfig())
    images, tokenizer = processor.image_processor, processor.tokenizer
    images.size, images.max_image_size = {"longest_edge": longest_edge}, {"longest_edge": TILE}
    images.do_image_splitting = longest_edge > TILE
    processor.image_seq_len = 64
    places = [f"<row_{row}_col_{col}>" for row in range(1, 6) for col in range(1, 6)]
    tokenizer.add_tokens(places, special_tokens=True)
    ids = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id}
    ids["eos_token_id"] = tokenizer.eos_token_id
    described = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=4,
        tie_word_embeddings=False,
        **ids,
        vision_config={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "image_size": TILE,
            "patch_size": 16,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "vocab_size": 49280,
            "max_position_embeddings": 8192,
            "tie_word_embeddings": False,
            **ids,
        },
    )
    model = Idefics3ForConditionalGeneration(described).to(loading.device()).requires_grad_(False)
    prefix_sharing.install(model)
    decoding_loop.install(model)
    pixels.install(images)
    return Base(model, processor, None)


class Lengths(LogitsProcessor):
    """Ends each row after its own number of tokens; the longest may still be cut."""

    def __init__(self, ends: Sequence[int], lengths: Sequence[int]) -> None:
        self.ends, self.lengths, self.place = list(ends), list(lengths), 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.place += 1
        is_end = (torch.tensor(self.lengths, device=scores.device) <= self.place)[:, None]
        allowed = torch.zeros(scores.shape[-1], dtype=torch.bool, device=scores.device)
        allowed[self.ends[0]] = True
        no_end = torch.ones_like(allowed)
        no_end[self.ends] = False
        return scores.masked_fill(~torch.where(is_end, allowed, no_end), -torch.inf)

    def keep(self, rows: Sequence[int]) -> None:
        self.lengths = [self.lengths[row] for row in rows]


def lengths(kind: str, tokens: int, rows: int, dice: torch.Generator) -> list[int]:
    """Return the numbers of tokens in a batch; drawn ones have a mean of 0.41 of the longest, like the demo's."""
    if kind == "forced":
        return [tokens + 1] * rows
    drawn = -(torch.rand(rows, 3, generator=dice).log().sum(1)) * tokens * 0.137
    return drawn.clamp(4, tokens + 1).int().tolist()


def ending(generate: Any, ends: Sequence[int], kind: str, tokens: int) -> Any:
    """Return `generate` with completions of these lengths, which are the same for every trainer."""
    dice = torch.Generator().manual_seed(1)

    def limited(**inputs: Any) -> Any:
        rows = lengths(kind, tokens, len(inputs["input_ids"]), dice)
        return generate(**inputs, logits_processor=LogitsProcessorList([Lengths(ends, rows)]))

    return limited


def stock(base: Base) -> Base:
    """Return the base without our patches."""
    del base.model.generate, base.model.model.forward, base.model.model.get_image_features
    images = base.processor.image_processor
    images.__class__ = type(images).__mro__[2]
    return base


def spread(texts: list[str], *, completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
    """Reward completions differently within each group, so that there is a gradient to compare.

    Rewards depend on ids, because most ids of a large vocabulary have no text with random weights.
    """
    return [float(sum(ids) % 7) for ids in completion_ids]


def measure(
    base: Base, settings: RunConfig, examples: list[Example], folder: Path, kind: str, *, shared: bool
) -> StepMeasurement:
    trainer: Any
    with class_of_trainer(grpo.GroupedTrainer if shared else GRPOTrainer):
        trainer = grpo.build(settings, base, examples, [Reward("spread", 1.0, spread)], folder)
    cache = base.model.model.get_image_features if shared else None
    generate = base.model.generate
    base.model.generate = ending(generate, sorted(set(trainer.eos_token_ids)), kind, settings.max_tokens)
    trainer.remove_callback(PrinterCallback)
    clock = Clock()
    trainer.add_callback(clock)
    logps: list[torch.Tensor] = []
    scored = trainer._get_per_token_logps_and_entropies

    def remembering(*arguments: Any, **columns: Any) -> Any:
        result = scored(*arguments, **columns)
        logps.append(result[0].detach().float().cpu())
        return result

    trainer._get_per_token_logps_and_entropies = remembering
    trainer.train()
    base.model.generate = generate
    trainer.model.unload()
    first = next(entry for entry in trainer.state.log_history if "loss" in entry)
    # Rows are shuffled after scoring with different random states, so sort them for comparison.
    ordered = logps[0][logps[0].sum(1).argsort()]
    return StepMeasurement(
        clock.seconds[1:],
        clock.processor_seconds[1:],
        first["loss"],
        first["grad_norm"],
        ordered,
        cache.encoded if cache else 0,
    )


@contextmanager
def class_of_trainer(kind: type) -> Iterator[None]:
    """Make `grpo.build` create trainers of this class, so that stock TRL gets exactly the same arguments."""
    original, grpo.GroupedTrainer = grpo.GroupedTrainer, kind  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        grpo.GroupedTrainer = original  # type: ignore[misc]


class Clock(TrainerCallback):
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.processor_seconds: list[float] = []
        self._begun = self._busy = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._begun = self._begun or time.perf_counter()
        self._busy = self._busy or time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now, busy = time.perf_counter(), time.process_time()
        self.seconds.append(now - self._begun)
        self.processor_seconds.append(busy - self._busy)
        self._begun, self._busy = now, busy


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.grpo_step", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=("smolvlm-256m", "tiny", "qwen2-vl"), default="smolvlm-256m")
    parser.add_argument("--longest-edge", type=int, default=TILE)
    parser.add_argument("--tokens", type=int, nargs="+", default=[24, 128, 256])
    parser.add_argument("--lengths", choices=("forced", "drawn"), default="forced")
    parser.add_argument("--prompts", type=int, default=1, help="distinct prompts per step")
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=3, help="turns per trainer")
    parser.add_argument("--steps", type=int, default=2, help="steps per turn, including the warm-up step")
    options = parser.parse_args()
    for tokens in options.tokens:
        compare(options, tokens)


def base_of(options: argparse.Namespace, *, shared: bool) -> Base:
    set_seed(0)
    if options.shape == "smolvlm-256m":
        base = smolvlm(options.longest_edge)
    elif options.shape == "tiny":
        base = loading.load_base(config.ModelConfig())
    else:
        with tempfile.TemporaryDirectory() as folder:
            base = loading.load_base(config.ModelConfig(id=str(write_qwen2vl(Path(folder)))))
    return base if shared else stock(base)


def compare(options: argparse.Namespace, tokens: int) -> None:
    settings = config.from_dict(
        {
            "max_tokens": tokens,
            "grpo": {"group_size": GROUP, "beta": options.beta},
            "optimization": {
                "steps": options.steps,
                "batch_size": GROUP * options.prompts,
                "learning_rate": 1e-5,
                "warmup_steps": 0,
            },
        }
    )
    drawn = shapes.examples("simple", "train", 16, 0)
    examples = [replace(e, pictures=tuple(map(Photo, e.pictures))) for e in drawn]
    bases = {shared: base_of(options, shared=shared) for shared in (False, True)}
    measurements: dict[bool, list[StepMeasurement]] = {False: [], True: []}
    for _ in range(options.rounds):
        for shared, base in bases.items():
            set_seed(0)
            with tempfile.TemporaryDirectory() as folder:
                measurements[shared].append(
                    measure(base, settings, examples, Path(folder), options.lengths, shared=shared)
                )
    report(options, tokens, measurements[False], measurements[True])


def report(options: argparse.Namespace, tokens: int, stock: list[StepMeasurement], ours: list[StepMeasurement]) -> None:
    times = [statistics.median(a.seconds) / statistics.median(b.seconds) for a, b in zip(stock, ours, strict=True)]
    busy = [
        statistics.median(a.processor_seconds) / statistics.median(b.processor_seconds)
        for a, b in zip(stock, ours, strict=True)
    ]
    before, after = (statistics.median(s for each in rounds for s in each.seconds) for rounds in (stock, ours))
    first, second = stock[0], ours[0]
    norm = abs(first.gradient_norm - second.gradient_norm) / max(first.gradient_norm, 1e-12)
    print(
        f"{options.shape}, longest edge {options.longest_edge}, G {GROUP}, {options.prompts} prompts, "
        f"{tokens} tokens {options.lengths}, {torch.get_num_threads()} threads:\n"
        f"  stock {before:.2f} s/step, ours {after:.2f} s/step: {statistics.median(times):.2f} times "
        f"({min(times):.2f} to {max(times):.2f}); in processor time {statistics.median(busy):.2f} times\n"
        f"  differences: loss {abs(first.loss - second.loss):.1e}, gradient norm {norm:.1e} of "
        f"{first.gradient_norm:.3g}, log-probabilities {float((first.logps - second.logps).abs().max()):.1e}; "
        f"pictures encoded in {options.steps} steps: {second.encoded}",
        flush=True,
    )


if __name__ == "__main__":
    main()
