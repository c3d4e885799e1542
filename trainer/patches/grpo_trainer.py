"""The subclass of GRPOTrainer that overrides TRL's private methods with the patches of this package.

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
    """Computes TRL's update for any accumulation and number of processes, and shares prompts."""

    entropy_coef: float

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        # A whole epoch may be slightly less than its number by rounding.
        return ByEpoch(super()._get_train_sampler(dataset), lambda: int((self.state.epoch or 0.0) + 1e-6))

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        with unshuffled():
            return super()._prepare_inputs(generation_batch)

    def _generate(self, prompts: Any) -> Any:
        # vLLM gets the weights separately, merged in its own way.
        weights = nullcontext() if self.use_vllm else merged(self.model)
        with as_one_process(), without_defaults(self.model), weights:
            return super()._generate(prompts)

    def compute_loss(self, model: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        """Compute the entropy bonus as the mean over all tokens of the update.

        TRL takes the mean of each pass, which gives tokens in shorter passes more weight.
        """
        coefficient, mode = self.entropy_coef, "train" if self.model.training else "eval"
        if not coefficient or mode == "eval":
            return super().compute_loss(model, inputs, *rest, **options)
        passes = self.current_gradient_accumulation_steps * self.accelerator.num_processes
        part = inputs["completion_mask"].sum() * passes / inputs["num_items_in_batch"].clamp(min=1)
        self.entropy_coef = coefficient * float(part)
        try:
            return super().compute_loss(model, inputs, *rest, **options)
        finally:
            self.entropy_coef = coefficient
            logged = self._metrics[mode]["entropy_coef"]
            logged[-1:] = [coefficient] * len(logged[-1:])

    def _get_per_token_logps_and_entropies(self, *arguments: Any, **inputs: Any) -> Any:
        # LLaVA-OneVision's processor returns the number of images per prompt. TRL passes it to the reference pass,
        # which does not accept it, but not to the update; with one image per prompt the model does not need it.
        inputs.pop("batch_num_images", None)
        with completions_only():
            return super()._get_per_token_logps_and_entropies(*arguments, **inputs)
