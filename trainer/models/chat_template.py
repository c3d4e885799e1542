"""What a model's chat template makes of our conversations: where a completion begins and ends, and what is refused.

Knows processors of transformers; knows nothing of models, datasets or databases.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from store.trace import opening, parse
from trainer.spec import prompt
from trainer.spec.errors import TrainerError
from trainer.spec.prompt import Style

QUESTION, REPLY = "How many boats are there?", "There are seven boats."
"""A conversation to try a template on."""
ROLES = ("assistant", "model", "bot", "user", "human", "system", "turn")
"""What the tag of a turn may be called, where it is no special token."""
_CLOSED = re.compile(r"<think>\s*</think>\s*\Z")
_TAG = re.compile(r"</?([A-Za-z][\w.-]*)>")
_OTHER = "choose another model, or correct its chat_template.jinja in a local copy"


@dataclass(frozen=True)
class Turn:
    """How a template writes the turn of the model."""

    opening: str
    """`<think>` with the white space after it, where the prompt ends on it: the completion's text begins so."""
    closed: bool
    """Whether the prompt ends on an empty thinking that is closed again."""
    gap: str
    """White space between the prompt and a turn that is written out, where the prompt opens nothing."""
    end: str
    """What follows the text of a turn that is written out."""

    def end_id(self, tokenizer: Any) -> int | None:
        """The special token that ends a turn that is written out; None where there is none."""
        end = self.end.lstrip()
        ending = [token for token in special_tokens(tokenizer) if end.startswith(token)]
        return tokenizer.convert_tokens_to_ids(max(ending, key=len)) if ending else None

    def whole(self, target: str) -> str:
        """A target that begins as the template makes every completion begin."""
        return target if target.startswith(self.opening) else target.replace("<think>", self.opening, 1)

    def generated(self, target: str) -> str:
        """What is left of a target to generate after the prompt."""
        return self.gap + self.whole(target).removeprefix(self.opening)


def special_tokens(tokenizer: Any) -> set[str]:
    added = tokenizer.added_tokens_decoder.values()
    return {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}


def render(processor: Any, conversation: Sequence[dict[str, Any]], *, generate: bool = True) -> str:
    text: str = processor.apply_chat_template(list(conversation), add_generation_prompt=generate, tokenize=False)
    return text


def spoken(text: str) -> dict[str, Any]:
    """A turn of the model, as SFT writes it."""
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def read(processor: Any, name: str = "This model") -> Turn:
    """What the template does with a turn of the model. Raises TrainerError with a sentence where it is not understood.

    `name` is the model's in that sentence.
    """
    if not getattr(processor, "chat_template", None):
        raise _refused(
            f"{name} has no chat template, so that no prompt can be written for it: choose a model that was tuned for "
            "conversations, or put its chat_template.jinja into its folder."
        )
    asked = prompt.messages(QUESTION, "direct", instruction="")
    try:
        prompted = render(processor, asked)
        unpictured = render(processor, prompt.messages(QUESTION, "direct", images=0, instruction=""))
        ended = render(processor, asked, generate=False)
        written = render(processor, [*asked, spoken(REPLY)], generate=False)
    except Exception as error:  # templates are programs of others
        fault = " ".join(str(error).split())[:200]
        raise _refused(f"The chat template of {name} cannot write our prompt ({fault}): {_OTHER}.") from error
    if QUESTION not in prompted:
        raise _refused(f"The chat template of {name} leaves the question out of the prompt, or alters it: {_OTHER}.")
    if prompted == unpictured or "'type'" in prompted or '"type"' in prompted:
        raise _refused(f"The chat template of {name} has no place for an image: {_OTHER}.")
    return _turn(
        processor, name, *(text[text.rindex(QUESTION) + len(QUESTION) :] for text in (prompted, ended, written))
    )


def _turn(processor: Any, name: str, prompted: str, ended: str, written: str) -> Turn:
    """By what follows the question: in a prompt, without a generation prompt, and with a turn that is written out."""
    begun = opening(prompted)
    head = prompted.removesuffix(begun)
    closed = _CLOSED.search(head)
    head = head[: closed.start()] if closed else head
    before, found, end = written.partition(REPLY)
    common = _common(head, before)
    lacks_prompt = prompted == ended and before[common:].strip()
    if found and lacks_prompt:
        raise _refused(
            f"The chat template of {name} has no generation prompt: the model would have to write "
            f"{lacks_prompt!r} itself before it answers; {_OTHER}."
        )
    strange = head[common:].strip() if found else ""
    tags = [tag for tag in _TAG.finditer(head) if tag.group() not in special_tokens(processor.tokenizer)]
    unknown = [tag.group() for tag in tags if tag.group(1).lower() not in ROLES]
    if strange or unknown:
        raise _refused(
            f"The chat template of {name} begins the completion with {strange or unknown[-1]!r}, which is not "
            f"understood: it may open <think> or nothing; {_OTHER}."
        )
    gap = before[len(head) :] if before.startswith(head) and not begun else ""
    return Turn(begun, closed is not None, gap if not gap.strip() else "", end if found else "")


def check_style(turn: Turn, style: Style, name: str) -> None:
    """Raises TrainerError where no completion could be well-formed."""
    if style == "direct" and turn.opening:
        raise _refused(
            f"The chat template of {name} opens <think> itself, and an answer of style direct has no thinking: choose "
            "style cot, or another model."
        )


def imitated(processor: Any, conversation: Sequence[dict[str, Any]], target: str, style: Style, name: str) -> str:
    """The text of a turn with which the template writes the whole target after the very prompt of evaluation.

    That is the target, without the tag where the template writes that into a turn too. Raises TrainerError where the
    template drops, moves or changes part of it, so that something else would be imitated.
    """
    turn = read(processor, name)
    check_style(turn, style, name)
    whole = turn.whole(target)
    asked = render(processor, conversation)
    made = ""
    for text in dict.fromkeys((whole, whole.removeprefix(turn.opening))):
        try:
            written = render(processor, [*conversation, spoken(text)], generate=False)
        except Exception as error:
            fault = " ".join(str(error).split())[:200]
            raise _refused(f"The chat template of {name} cannot write a target ({fault}): {_OTHER}.") from error
        made = made or written[_common(asked, written) :]
        if written.startswith(asked) and _is_whole(processor, turn.opening + written[len(asked) :], whole, style):
            return text
    raise _refused(
        f"The chat template of {name} changes what is to be imitated: of {_short(target)} it makes {_short(made)}. "
        f"Train by GRPO, {_OTHER}."
    )


def _is_whole(processor: Any, written: str, target: str, style: Style) -> bool:
    """Whether a text is the target, but for white space around its bodies, and then nothing but what ends a turn."""
    text, close, rest = written.rpartition("</answer>")
    for token in special_tokens(processor.tokenizer):
        rest = rest.replace(token, "")
    found, wanted = parse(text + close, style), parse(target, style)
    thoughts = [(trace.think_text or "").strip() for trace in (found, wanted)]
    same = found.wellformed and found.answer == wanted.answer and thoughts[0] == thoughts[1]
    return (same or found.text == target) and not rest.strip()


def _common(first: str, second: str) -> int:
    """Characters with which both begin."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 120 else f"{line[:80]} … {line[-35:]}")


def _refused(sentence: str) -> TrainerError:
    return TrainerError("model", sentence)
