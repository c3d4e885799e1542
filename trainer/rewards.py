"""The reward functions, for import by your own scripts: `from trainer.rewards import accuracy_reward`."""

from trainer.spec.rewards import (
    accuracy_reward,
    cosine_reward,
    format_reward,
    keyword_reward,
    load_custom,
    steps_reward,
)

__all__ = ["accuracy_reward", "cosine_reward", "format_reward", "keyword_reward", "load_custom", "steps_reward"]
