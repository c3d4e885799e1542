"""The configuration of a run, for import by your own scripts: `from trainer.config import RunConfig`."""

from trainer.spec.config import DataConfig, ModelConfig, RewardConfig, RunConfig, preset

__all__ = ["DataConfig", "ModelConfig", "RewardConfig", "RunConfig", "preset"]
