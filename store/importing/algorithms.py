"""The algorithm that a training's configuration names, in the terms of verl, OpenRLHF, ms-swift and Trinity-RFT."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

CONFIGS = (".hydra/config.yaml", "config.yaml", "config.yml", "config.json")
"""Files with a training's configuration, relative to its folder; Hydra writes the first."""
LARGEST = 2**18
KEYS = ("adv_estimator", "advantage_estimator", "algorithm_type", "rlhf_type", "rl_algorithm")
ALIASES = {
    "gae": "ppo",
    "group_norm": "grpo",
    "reinforce_plus_plus": "reinforce_pp",
    "reinforce_plus_plus_baseline": "reinforce_pp",
}
MODEL = ("actor_rollout_ref", "model", "path")


def algorithm(config: Mapping[str, Any]) -> str | None:
    """Return the method that a configuration names, as the run table writes it; None if it names none."""
    places = (config, config.get("algorithm"), config.get("algo"))
    named = (place[key] for place in places if isinstance(place, Mapping) for key in KEYS if place.get(key))
    name = next((each for each in named if isinstance(each, str)), None)
    if name is None:
        return None
    if name == "grpo":
        name = _variant(config) or name
    word = re.sub("[^a-z0-9_]+", "_", name.lower().replace("++", "_pp")).strip("_")
    return ALIASES.get(word, word)[:16] or None


def _variant(config: Mapping[str, Any]) -> str | None:
    """Return the variant of GRPO that verl's settings make up, if they do: DAPO's reward manager, or GSPO's loss."""
    managers = (_at(config, *path) for path in (("reward_model", "reward_manager"), ("reward_manager", "name")))
    loss = _at(config, "actor_rollout_ref", "actor", "policy_loss", "loss_mode")
    return "dapo" if "dapo" in managers else "gspo" if loss == "gspo" else None


def model(config: Mapping[str, Any]) -> str | None:
    """Return the base model in a configuration of verl."""
    found = _at(config, *MODEL)
    return found if isinstance(found, str) else None


def configuration(folders: Iterable[Path]) -> dict[str, Any]:
    """Return the first configuration in these folders that names an algorithm; empty if there is none."""
    for path in (folder / name for folder in folders for name in CONFIGS):
        try:
            if not path.is_file() or path.stat().st_size > LARGEST:
                continue
            found = yaml.safe_load(path.read_text(encoding="utf-8", errors="replace"))
        except (OSError, yaml.YAMLError, ValueError, RecursionError):
            continue
        if isinstance(found, dict) and algorithm(found) is not None:
            return {str(name): value for name, value in found.items()}
    return {}


def _at(config: Any, *names: str) -> Any:
    for name in names:
        config = config.get(name) if isinstance(config, Mapping) else None
    return config
