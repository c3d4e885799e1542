"""Record what makes a run reproducible: versions, device, commits, the resolved prompt, and the user's own files."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from store.db.engine import Store
from store.db.rows import RunDetail
from store.runs import describe_run, get_run
from trainer.datasets.example import Example
from trainer.evaluate import generation
from trainer.evaluate.harness import Harness
from trainer.models.loading import Base
from trainer.spec import foreign
from trainer.spec.config import RunConfig, from_dict
from trainer.spec.rewards import Reward

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "sentence-transformers")


def config_of(run: RunDetail) -> RunConfig:
    """Return the run's config, pinned to the hub commits of model and dataset that its first job loaded."""
    config = from_dict(run.config)
    commits = {
        "model": run.environment.get("model_revision"),
        "data": (run.environment.get("data") or {}).get("revision"),
    }
    pinned = {}
    for name, commit in commits.items():
        section = getattr(config, name)
        if section.revision is None and commit is not None:
            pinned[name] = section.model_copy(update={"revision": commit})
    return config.model_copy(update=pinned)


def describe(
    store: Store, run_id: int, base: Base, harness: Harness, rewards: Sequence[Reward], example: Example, **facts: Any
) -> None:
    """Store environment, prompt and sources with the run; `facts` are added to the environment."""
    config = harness.config
    describe_run(
        store,
        run_id,
        prompt=generation.render(base.processor, example, config.style, config.instruction),
        prompt_hash=harness.conditions(example)["prompt_hash"],
        environment={
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "threads": torch.get_num_threads(),
            "model_revision": base.revision,
            "git_commit": git_commit(),
            **{name: version(name) for name in PACKAGES},
            **facts,
        },
        sources=_sources(config, rewards),
    )


def _sources(config: RunConfig, rewards: Sequence[Reward]) -> dict[str, Any]:
    """Return the user's own files that the run uses, with the user's files that they import."""
    sources: dict[str, Any] = {
        r.name: {"source": r.source, "sha256": r.sha256, "helpers": dict(r.helpers)} for r in rewards if r.is_own
    }
    if ".py:" in config.data.dataset:
        dataset_file = foreign.load(config.data.dataset, "data.dataset", "(split)")
        sources["data.dataset"] = {
            "source": dataset_file.source,
            "sha256": dataset_file.sha256,
            "helpers": dataset_file.helpers,
        }
    return sources


def add_facts(store: Store, run_id: int, **facts: Any) -> None:
    """Add facts to the run's environment that are only known at its end."""
    describe_run(store, run_id, environment=get_run(store, run_id).environment | facts)


def git_commit() -> str | None:
    """Return the commit of the trainer's source, if it is a git checkout."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except OSError:
        return None
    return result.stdout.strip() or None
