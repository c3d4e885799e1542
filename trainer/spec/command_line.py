"""Build the shell command that launches a configuration: a preset and the fields that differ from it."""

from __future__ import annotations

from store.db.values import flat
from trainer.spec import yaml_text
from trainer.spec.config import PRESETS, RunConfig, preset


def command_line(config: RunConfig) -> list[str]:
    """Return the arguments of the command that launches this config: the closest preset and the differences to it."""
    changes = {name: _changes(preset(name), config) for name in PRESETS}
    nearest = min(changes, key=lambda name: len(changes[name]))
    settings = [part for change in changes[nearest] for part in ("--set", change)]
    return ["python", "-m", "trainer", "run", "--preset", nearest, *settings]


def _changes(base: RunConfig, config: RunConfig) -> list[str]:
    """Return `KEY=VALUE` for every field in which `config` differs from `base`."""
    before = flat(base.model_dump(mode="json"))
    after = flat(config.model_dump(mode="json"))
    rewards = _weight_changes(base, config)
    if rewards is not None:
        before["rewards"] = after["rewards"]
    return [f"{key}={yaml_text.line(after[key])}" for key in after if after[key] != before[key]] + (rewards or [])


def _weight_changes(base: RunConfig, config: RunConfig) -> list[str] | None:
    """Return changed rewards as weights; None if one was removed or moved, so that the whole list must be given."""
    names = [reward.name for reward in config.rewards]
    weights = {reward.name: reward.weight for reward in base.rewards}
    if names[: len(weights)] != list(weights) or any("=" in name for name in names):
        return None
    return [f"rewards.{r.name}={yaml_text.line(r.weight)}" for r in config.rewards if weights.get(r.name) != r.weight]
