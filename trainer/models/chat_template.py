"""Analyse a model's chat template: how it begins and ends a completion, and which runs it rules out."""

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
"""A conversation for trying a template."""
ROLES = ("assistant", "model", "bot", "user", "human", "system", "turn")
"""Possible texts that end a turn, if they are not special tokens."""
_CLOSED = re.compile(r"<think>\s*</think>\s*\Z")
_TAG = re.compile(r"</?([A-Za-z][\w.-]*)>")
_OTHER = "choose another model, or fix its chat_template.jinja in a local copy"


@dataclass(frozen=True)
class ModelTurn:
    """How a template writes a turn of the model."""

    opening: str
    """`<think>` and the white space after it, if the prompt ends with that; the completion's text begins with it."""
    closed: bool
    """Whether the prompt ends with an empty, closed thinking block."""
    gap: str
    """White space between the prompt and the text of a complete turn, if the prompt opens nothing."""
    end: str
    """The text that follows a complete turn."""

    def end_id(self, tokenizer: Any) -> int | None:
        """Return the special token that ends a complete turn, or None."""
        end = self.end.lstrip()
        ending = [token for token in special_tokens(tokenizer) if end.startswith(token)]
        return tokenizer.convert_tokens_to_ids(max(ending, key=len)) if ending else None

    def whole(self, target: str) -> str:
        """Return a target with the opening that the template adds to every completion."""
        return target if target.startswith(self.opening) else target.replace("<think>", self.opening, 1)

    def generated(self, target: str) -> str:
        """Return the part of a target that is generated after the prompt."""
        return self.gap + self.whole(target).removeprefix(self.opening)


def special_tokens(tokenizer: Any) -> set[str]:
    added = tokenizer.added_tokens_decoder.values()
    return {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}


def render(processor: Any, conversation: Sequence[dict[str, Any]], *, generate: bool = True) -> str:
    text: str = processor.apply_chat_template(list(conversation), add_generation_prompt=generate, tokenize=False)
    return text


def spoken(text: str) -> dict[str, Any]:
    """Return a turn of the model in the format of SFT."""
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def read(processor: Any, name: str = "This model") -> ModelTurn:
    """Return how the template writes a turn of the model. Raises TrainerError if the template is not supported.

    `name` is the model's name in the error message.
    """
    if not getattr(processor, "chat_template", None):
        raise _unsupported(
            f"{name} has no chat template, so no prompt can be written. Choose a model that "
            "is tuned for conversations, "
            "or put a chat_template.jinja into its folder."
        )
    conversation = prompt.messages(QUESTION, "direct", instruction="")
    try:
        prompted = render(processor, conversation)
        unpictured = render(processor, prompt.messages(QUESTION, "direct", images=0, instruction=""))
        ended = render(processor, conversation, generate=False)
        written = render(processor, [*conversation, spoken(REPLY)], generate=False)
    except Exception as error:  # templates are programs that may raise anything
        fault = " ".join(str(error).split())[:200]
        raise _unsupported(f"The chat template of {name} cannot write our prompt ({fault}): {_OTHER}.") from error
    if QUESTION not in prompted:
        raise _unsupported(f"The chat template of {name} omits or changes the question: {_OTHER}.")
    if prompted == unpictured or "'type'" in prompted or '"type"' in prompted:
        raise _unsupported(f"The chat template of {name} has no place for an image: {_OTHER}.")
    return _turn(
        processor, name, *(text[text.rindex(QUESTION) + len(QUESTION) :] for text in (prompted, ended, written))
    )


def _turn(processor: Any, name: str, prompted: str, ended: str, written: str) -> ModelTurn:
    """Return the template's turn from a prompt, the same without a generation prompt, and a complete turn."""
    opened = opening(prompted)
    head = prompted.removesuffix(opened)
    closed = _CLOSED.search(head)
    head = head[: closed.start()] if closed else head
    before, reply, end = written.partition(REPLY)
    common = _common(head, before)
    lacks_prompt = prompted == ended and before[common:].strip()
    if reply and lacks_prompt:
        raise _unsupported(
            f"The chat template of {name} has no generation prompt, so the model would have to write "
            f"{lacks_prompt!r} itself before it answers: {_OTHER}."
        )
    strange = head[common:].strip() if reply else ""
    tags = [tag for tag in _TAG.finditer(head) if tag.group() not in special_tokens(processor.tokenizer)]
    unknown = [tag.group() for tag in tags if tag.group(1).lower() not in ROLES]
    if strange or unknown:
        raise _unsupported(
            f"The chat template of {name} begins the completion with {strange or unknown[-1]!r}, which is not "
            f"supported (only <think> or nothing is): {_OTHER}."
        )
    gap = before[len(head) :] if before.startswith(head) and not opened else ""
    return ModelTurn(opened, closed is not None, gap if not gap.strip() else "", end if reply else "")


def check_style(turn: ModelTurn, style: Style, name: str) -> None:
    """Raise TrainerError if the template makes well-formed completions impossible."""
    if style == "direct" and turn.opening:
        raise _unsupported(
            f"The chat template of {name} opens <think> itself, but answers of style direct have no reasoning. Choose "
            "style cot or another model."
        )


def imitated_turn(processor: Any, conversation: Sequence[dict[str, Any]], target: str, style: Style, name: str) -> str:
    """Return the turn's text with which the template writes the whole target after the prompt used in evaluation.

    That is the target, without the tag if the template also adds it to complete turns. Raises TrainerError if the
    template drops, moves or changes part of it, because something else would then be imitated.
    """
    turn = read(processor, name)
    check_style(turn, style, name)
    whole = turn.whole(target)
    prompt_text = render(processor, conversation)
    made = ""
    for text in dict.fromkeys((whole, whole.removeprefix(turn.opening))):
        try:
            written = render(processor, [*conversation, spoken(text)], generate=False)
        except Exception as error:
            fault = " ".join(str(error).split())[:200]
            raise _unsupported(f"The chat template of {name} cannot write a target ({fault}): {_OTHER}.") from error
        made = made or written[_common(prompt_text, written) :]
        if written.startswith(prompt_text) and _is_whole(
            processor, turn.opening + written[len(prompt_text) :], whole, style
        ):
            return text
    raise _unsupported(
        f"The chat template of {name} changes the text to imitate from {_short(target)} to {_short(made)}. "
        f"Train with GRPO, {_OTHER}."
    )


def _is_whole(processor: Any, written: str, target: str, style: Style) -> bool:
    """Return whether a text is the target, except for white space around its bodies and the end of the turn."""
    text, close, rest = written.rpartition("</answer>")
    for token in special_tokens(processor.tokenizer):
        rest = rest.replace(token, "")
    written_trace, target_trace = parse(text + close, style), parse(target, style)
    thoughts = [(trace.think_text or "").strip() for trace in (written_trace, target_trace)]
    same = written_trace.wellformed and written_trace.answer == target_trace.answer and thoughts[0] == thoughts[1]
    return (same or written_trace.text == target) and not rest.strip()


def _common(first: str, second: str) -> int:
    """Return the length of the common beginning, in characters."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 120 else f"{line[:80]} … {line[-35:]}")


def _unsupported(sentence: str) -> TrainerError:
    return TrainerError("model", sentence)
