"""Build the prompt shared by SFT, GRPO and evaluation; chat templates are applied later.

A prompt is one user turn: the images, then the question followed by the instruction of its style.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from store.trace import Style

INSTRUCTIONS: dict[Style, str] = {
    "cot": (
        "First think step by step inside <think> </think> tags, then give the number inside <answer> </answer> tags."
    ),
    "direct": "Give only the number inside <answer> </answer> tags.",
}


def escape_tags(text: str) -> str:
    """Break up angle brackets in a dataset's text, so that none of it can become a tag or a special token."""
    return text.replace("<", "< ")


def user_text(question: str, style: Style, instruction: str | None = None) -> str:
    """Return the text of the user's turn; `instruction` replaces that of the style."""
    return f"{escape_tags(question)} {instruction if instruction is not None else INSTRUCTIONS[style]}".strip()


def messages(question: str, style: Style, *, images: int = 1, instruction: str | None = None) -> list[dict[str, Any]]:
    """Return the conversation up to the model's turn, in the message format of transformers and TRL."""
    content: list[dict[str, Any]] = [{"type": "image"} for _ in range(images)]
    content.append({"type": "text", "text": user_text(question, style, instruction)})
    return [{"role": "user", "content": content}]


def target(reasoning: str, answer: int, style: Style) -> str:
    """Return the completion that SFT imitates."""
    return (
        f"<think>{escape_tags(reasoning)}</think><answer>{answer}</answer>"
        if style == "cot"
        else f"<answer>{answer}</answer>"
    )


def fingerprint(rendered: str, pixels: dict[str, Any]) -> str:
    """Return a hash of a rendered prompt and the image settings; equal hashes mean equal conditions."""
    payload = json.dumps([rendered, pixels], sort_keys=True, default=str)
    return hashlib.sha256(payload.encode()).hexdigest()[:16]
