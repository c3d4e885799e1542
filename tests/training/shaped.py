"""A trainer that samples, scores and logs as TRL's does, with transformers' own loop and a model of one number.

A training takes a tenth of a second instead of ten.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

GROUP = 4
ROWS = [{"prompt": f"How many in picture {i}?", "answer": str(i), "level": i / 2} for i in range(8)]


class Words:
    """A tokenizer whose tokens are numbers."""

    pad_token_id = None
    eos_token_id = 0

    def decode(self, ids: list[int], **_: Any) -> str:
        return " ".join(map(str, ids))

    def save_pretrained(self, folder: str) -> None:
        """With each checkpoint; there is nothing to save."""


class One(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.tensor(1.0))

    def forward(self) -> torch.Tensor:
        return self.number**2


class Shaped(Trainer):
    num_generations = GROUP
    reward_func_names = ("good", "good")

    def __init__(self, output: Path, *, own_logs: str = "", eval_sets: int = 0, **arguments: Any) -> None:
        few: Any = ROWS[:GROUP]
        settings: dict[str, Any] = {
            "per_device_train_batch_size": GROUP,
            "per_device_eval_batch_size": GROUP,
            "logging_steps": 1,
            "max_steps": 5,
            "report_to": [],
            "use_cpu": True,
            "save_strategy": "no",
            "disable_tqdm": True,
            "remove_unused_columns": False,
        }
        super().__init__(
            model=One(),
            args=TrainingArguments(output_dir=str(output), **settings | arguments),
            train_dataset=ROWS,
            eval_dataset={0: None, 1: few, 2: {"easy": few, "hard": few}}[eval_sets],
            data_collator=lambda rows: {"rows": rows},
        )
        self.remove_callback(PrinterCallback)
        self.processing_class = Words()
        self.reward_weights = torch.tensor([1.0, 2.0])
        self._metrics: dict[str, dict[str, list[float]]] = {"train": defaultdict(list), "eval": defaultdict(list)}
        self.own_logs = own_logs
        self.said: dict[int, list[str]] = defaultdict(list)
        """What was sampled for each update."""
        self.answered: dict[int, list[str]] = defaultdict(list)
        """What was sampled to evaluate the weights after so many updates."""
        self._next = 0
        if own_logs == "callback":
            self.add_callback(_LogsItself(self))

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = [[self._next + i, 0] for i in range(1, len(inputs) + 1)]
        self._next += len(inputs)
        rewards = self._calculate_rewards(inputs, [], [], ids)
        mode = "train" if self.model.training else "eval"
        texts = [Words().decode(each[:-1]) for each in ids]
        if mode == "train":
            self.said[self.state.global_step + 1] += texts
        else:
            self.answered[self.state.global_step] += texts
        total = rewards @ self.reward_weights
        self._metrics[mode]["reward"].append(total.mean().item())
        self._metrics[mode]["rewards/good/mean"].extend(rewards.mean(0).tolist())
        return {"advantages": total - total.mean()}

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        return torch.tensor([[float(ids[0]), -float(ids[0])] for ids in completion_ids_list])

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> torch.Tensor:
        self._generate_and_score_completions(inputs["rows"])
        loss: torch.Tensor = model()
        if self.own_logs == "loss" and model.training:
            self.log({"own/loss": float(self._next)})
        return loss

    def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        return self.compute_loss(model, inputs).detach(), None, None

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        mode = "train" if self.model.training else "eval"
        means = {name: sum(values) / len(values) for name, values in self._metrics[mode].items()}
        logs |= {f"eval_{name}": value for name, value in means.items()} if mode == "eval" else means
        super().log(logs, start_time)
        self._metrics[mode].clear()


class _LogsItself(TrainerCallback):
    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trainer.log({"own/figure": float(state.global_step)})
