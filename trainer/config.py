"""The configuration of a run, as scripts of your own import it: `from trainer.config import RunConfig`."""

from trainer.spec.config import DataConfig, ModelConfig, RewardConfig, RunConfig, preset

__all__ = ["DataConfig", "ModelConfig", "RewardConfig", "RunConfig", "preset"]
