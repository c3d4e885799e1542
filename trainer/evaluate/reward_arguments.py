"""Build TRL's reward arguments for answers that TRL did not sample, such as those of probes, validations and tests.

They are made with TRL's own functions; `tests/training/test_trl_contract.py` checks that they equal TRL's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerState
from trl.chat_template_utils import parse_response
from trl.data_utils import prepare_multimodal_messages

from trainer.datasets.example import Example
from trainer.evaluate import generation, scoring
from trainer.evaluate.generation import GeneratedAnswer
from trainer.spec import prompt
from trainer.spec.config import RunConfig

LogMetric = Callable[[str, float], None]


def arguments(
    processor: Any,
    config: RunConfig,
    examples: Sequence[Example],
    answers: Sequence[GeneratedAnswer],
    *,
    step: int,
    log_metric: LogMetric,
) -> dict[str, Any]:
    """Return the arguments by name, with one entry per answer in each column; `step` is the number of updates so far.

    The forced prefix is part of a completion's text but not of its ids.
    """
    pictures = {id(example): list(example.images) for example in examples}
    images = [pictures[id(example)] for example in examples]
    return {
        "prompts": [
            prepare_multimodal_messages(_prompt_messages(example, config), images=each)
            for example, each in zip(examples, images, strict=True)
        ],
        "completions": [_messages(processor, config, *pair) for pair in zip(examples, answers, strict=True)],
        "completion_ids": [list(answer.ids) for answer in answers],
        "images": images,
        **scoring.reward_columns(examples),
        "trainer_state": state(config, step),
        "log_extra": lambda column, values: None,
        "log_metric": log_metric,
    }


def _prompt_messages(example: Example, config: RunConfig) -> list[dict[str, Any]]:
    return prompt.messages(example.question, config.style, images=len(example.pictures), instruction=config.instruction)


def _messages(processor: Any, config: RunConfig, example: Example, answer: GeneratedAnswer) -> list[dict[str, Any]]:
    """Return the conversation that TRL makes from a completion's ids."""
    tokenizer, ids = processor.tokenizer, list(answer.ids)
    if getattr(tokenizer, "response_template", None) is None and getattr(tokenizer, "response_schema", None) is None:
        message = {"role": "assistant", "content": processor.batch_decode([ids], skip_special_tokens=True)[0]}
    else:
        rendered = generation.render(processor, example, config.style, config.instruction)
        prefix = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        message = parse_response(tokenizer, ids, prefix=prefix)
    return [message | {"content": answer.forced_prefix + message["content"]}]


def state(config: RunConfig, step: int) -> TrainerState:
    """Return the trainer's state after `step` updates, as far as the configuration determines it."""
    epoch = step * config.prompts_per_step / config.data.train_examples
    return TrainerState(global_step=step, max_steps=config.optimization.steps, epoch=epoch)
