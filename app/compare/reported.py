"""Results as reported by the original project; none of them was measured by this program.

Its two arms were evaluated with different prompts and sampled decoding, without intervals; its similarity is the share
of examples whose cosine (all-mpnet-base-v2) exceeds 0.8.
"""

from __future__ import annotations

from typing import NamedTuple


class Reported(NamedTuple):
    """Shares, 0 to 1."""

    model: str
    method: str
    rank: int
    accuracy: float
    close: float


STYLE = (
    Reported("Qwen2-VL 2B", "SFT", 32, 0.8185, 0.9942),
    Reported("Qwen2-VL 2B", "GRPO", 32, 0.8697, 0.2447),
    Reported("SmolVLM 500M", "SFT", 32, 0.7082, 0.9738),
    Reported("SmolVLM 500M", "GRPO", 32, 0.7260, 0.2037),
    Reported("SmolVLM 256M", "SFT", 32, 0.6370, 0.9426),
    Reported("SmolVLM 256M", "GRPO", 32, 0.6770, 0.1134),
)
BENCHMARKS = (
    ("TallyQA simple", 0.7625, 0.8001),
    ("TallyQA complex", 0.5371, 0.6375),
    ("CountQA", 0.1339, 0.2198),
)
"""Qwen2-VL 2B: benchmark, SFT at rank 32, GRPO at rank 64."""
RANKS = (
    Reported("Qwen2-VL 2B", "SFT", 32, 0.8185, 0.9942),
    Reported("Qwen2-VL 2B", "SFT", 64, 0.7002, 0.9021),
    Reported("Qwen2-VL 2B", "GRPO", 32, 0.8697, 0.2447),
    Reported("Qwen2-VL 2B", "GRPO", 64, 0.8568, 0.5458),
)
