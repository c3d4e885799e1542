"""A GRPO step against stock TRL: the same model, prompts, seeds and forced number of new tokens, in one run.

    python -m benchmarks.grpo_step [--shape smolvlm-256m|tiny] [--longest-edge 512|2048] [--tokens 24] [--steps 2]

Targets for the SmolVLM-256M shape, G = 8: at least 2.5 times stock at one tile (512) and 24 tokens, at least 3 times
at the default tiling of a 640 x 480 picture (2048); the embedded model no slower. Weights are random. Loss, gradient
norm and log-probabilities of the first step are compared; they differ by rounding only.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, PrinterCallback, TrainerCallback, set_seed
from trl import GRPOTrainer

from trainer.datasets import shapes
from trainer.datasets.example import Example, Picture
from trainer.models import loading
from trainer.models.loading import Base
from trainer.patches import pixels, prefix_sharing
from trainer.spec import config
from trainer.spec.config import RunConfig
from trainer.spec.rewards import Reward
from trainer.train import grpo

TILE = 512
GROUP = 8


@dataclass(frozen=True)
class Photo:
    """A drawn picture at a photo's usual size."""

    drawn: Picture

    @property
    def identity(self) -> str:
        return self.drawn.identity

    def load(self) -> Image.Image:
        return self.drawn.load().resize((640, 480))

    def encoded(self) -> bytes:
        return self.drawn.encoded()


@dataclass(frozen=True)
class Measured:
    """One trainer's seconds for each step, and the figures of its first step."""

    seconds: list[float]
    processor_seconds: list[float]
    loss: float
    gradient_norm: float
    logps: torch.Tensor
    encoded: int


def smolvlm(longest_edge: int) -> Base:
    """Return random weights in the shape of SmolVLM-256M, with the embedded model's tokenizer and 512-pixel tiles."""
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
    pixels.install(images)
    return Base(model, processor, None)


def stock(base: Base) -> Base:
    """Return the base as transformers made it."""
    del base.model.model.forward, base.model.model.get_image_features
    images = base.processor.image_processor
    images.__class__ = type(images).__mro__[2]
    return base


def spread(texts: list[str], *, completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
    """Reward completions differently within any group, so that there is a gradient to compare.

    By ids, since most ids of a large vocabulary have no text under random weights.
    """
    return [float(sum(ids) % 7) for ids in completion_ids]


def measure(base: Base, settings: RunConfig, examples: list[Example], folder: Path, *, shared: bool) -> Measured:
    trainer: Any
    with _class_of_trainer(grpo.GroupedTrainer if shared else GRPOTrainer):
        trainer = grpo.build(settings, base, examples, [Reward("spread", 1.0, spread)], folder)
    cache = base.model.model.get_image_features if shared else None
    ends = sorted(set(trainer.eos_token_ids))
    trainer.generation_config.suppress_tokens = [*(trainer.generation_config.suppress_tokens or []), *ends]
    trainer.generation_kwargs["suppress_tokens"] = trainer.generation_config.suppress_tokens
    trainer.remove_callback(PrinterCallback)
    clock = Clock()
    trainer.add_callback(clock)
    logps: list[torch.Tensor] = []
    scored = trainer._get_per_token_logps_and_entropies

    def remembering(*arguments: Any, **columns: Any) -> Any:
        found = scored(*arguments, **columns)
        logps.append(found[0].detach().float().cpu())
        return found

    trainer._get_per_token_logps_and_entropies = remembering
    trainer.train()
    first = next(entry for entry in trainer.state.log_history if "loss" in entry)
    # Rows are shuffled after scoring with different random states: sort them to compare.
    ordered = logps[0][logps[0].sum(1).argsort()]
    return Measured(
        clock.seconds,
        clock.processor_seconds,
        first["loss"],
        first["grad_norm"],
        ordered,
        cache.encoded if cache else 0,
    )


@contextmanager
def _class_of_trainer(kind: type) -> Iterator[None]:
    """Let `grpo.build` make trainers of this class, so that stock TRL gets exactly the same arguments."""
    ours, grpo.GroupedTrainer = grpo.GroupedTrainer, kind  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        grpo.GroupedTrainer = ours  # type: ignore[misc]


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=("smolvlm-256m", "tiny"), default="smolvlm-256m")
    parser.add_argument("--longest-edge", type=int, default=TILE)
    parser.add_argument("--tokens", type=int, nargs="+", default=[24])
    parser.add_argument("--prompts", type=int, default=1, help="distinct prompts a step")
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=2)
    options = parser.parse_args()
    for tokens in options.tokens:
        compare(options, tokens)


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
    found = {}
    for name, shared in (("stock", False), ("ours", True)):
        set_seed(0)
        base = smolvlm(options.longest_edge) if options.shape != "tiny" else loading.load_base(settings.model)
        if not shared:
            base = stock(base)
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(base, settings, examples, Path(folder), shared=shared)
        del base
    report(options, tokens, found["stock"], found["ours"])


def report(options: argparse.Namespace, tokens: int, stock: Measured, ours: Measured) -> None:
    before, after = statistics.median(stock.seconds), statistics.median(ours.seconds)
    busy = statistics.median(stock.processor_seconds) / statistics.median(ours.processor_seconds)
    norm = abs(stock.gradient_norm - ours.gradient_norm) / max(stock.gradient_norm, 1e-12)
    print(
        f"{options.shape}, longest edge {options.longest_edge}, G {GROUP}, {options.prompts} prompts, "
        f"{tokens} tokens:\n"
        f"  stock {before:.2f} s a step, ours {after:.2f} s: {before / after:.2f} times "
        f"({busy:.2f} times in processor time)\n"
        f"  differences: loss {abs(stock.loss - ours.loss):.1e}, gradient norm {norm:.1e} of "
        f"{stock.gradient_norm:.3g}, log-probabilities {float((stock.logps - ours.logps).abs().max()):.1e}; "
        f"pictures encoded in {options.steps} steps: {ours.encoded}",
        flush=True,
    )


if __name__ == "__main__":
    main()
