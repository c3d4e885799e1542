"""The one subclass of GRPOTrainer: where TRL's private methods are overridden, each by a patch of this package.

Read in TRL 1.16.0. Contract: tests/training/patches/test_grpo_trainer.py.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from trl import GRPOTrainer

from trainer.patches.epoch_order import ByEpoch
from trainer.patches.generation_defaults import without_defaults
from trainer.patches.grouping import unshuffled
from trainer.patches.merging import merged
from trainer.patches.sampling import as_one_process
from trainer.patches.vocabulary import completions_only


class GroupedTrainer(GRPOTrainer):
    """Computes the same update as TRL on any split for accumulation and any number of processes, and shares prompts."""

    entropy_coef: float

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        # A whole epoch may fall short of its number by a rounding.
        return ByEpoch(super()._get_train_sampler(dataset), lambda: int((self.state.epoch or 0.0) + 1e-6))

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        with unshuffled():
            return super()._prepare_inputs(generation_batch)

    def _generate(self, prompts: Any) -> Any:
        # vLLM takes over the weights itself, merged in its own way.
        weights = nullcontext() if self.use_vllm else merged(self.model)
        with as_one_process(), without_defaults(self.model), weights:
            return super()._generate(prompts)

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        """Take the entropy bonus as the mean over the tokens of the whole update.

        TRL takes the mean of each pass, which weighs a token more the fewer there are beside it.
        """
        coefficient, mode = self.entropy_coef, "train" if self.model.training else "eval"
        if not coefficient or mode == "eval":
            return super().compute_loss(model, inputs, *rest, **named)
        passes = self.current_gradient_accumulation_steps * self.accelerator.num_processes
        part = inputs["completion_mask"].sum() * passes / inputs["num_items_in_batch"].clamp(min=1)
        self.entropy_coef = coefficient * float(part)
        try:
            return super().compute_loss(model, inputs, *rest, **named)
        finally:
            self.entropy_coef = coefficient
            logged = self._metrics[mode]["entropy_coef"]
            logged[-1:] = [coefficient] * len(logged[-1:])

    def _get_per_token_logps_and_entropies(self, *arguments: Any, **inputs: Any) -> Any:
        # LLaVA-OneVision's processor says how many pictures a prompt has. TRL gives that to its reference pass, which
        # does not know the word, and not to the update; with one picture a prompt the model does without.
        inputs.pop("batch_num_images", None)
        with completions_only():
            return super()._get_per_token_logps_and_entropies(*arguments, **inputs)
