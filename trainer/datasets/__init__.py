"""Load the examples of a run by role, from drawn or real counting datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from trainer.datasets import shapes, splits
from trainer.datasets.example import Example
from trainer.datasets.source import open_source
from trainer.datasets.splits import ROLES, Drawn, Role
from trainer.spec.config import DataConfig
from trainer.spec.errors import TrainerError


class Loaded(NamedTuple):
    """Examples by role; `facts` describe the loaded data, and are stored with the run."""

    examples: dict[Role, list[Example]]
    facts: dict[str, Any]


def load_role(config: DataConfig, role: str, n: int, difficulty: str | None = None) -> list[Example]:
    """Return at most `n` examples of a role, and of a difficulty if given. Raises TrainerError like `load_roles`."""
    checked_role: Role = next(each for each in ROLES if each == role)
    return load_roles(config, {checked_role: n}, difficulty=difficulty).examples[checked_role]


def load_run(config: DataConfig, *, imitates: bool) -> Loaded:
    """Return a run's training and evaluation examples; imitation trains only on rows with a reference."""
    counts: dict[Role, int] = {
        "train": config.train_examples,
        "val": config.val_examples,
        "test": config.test_examples,
    }
    return load_roles(config, counts, imitates=imitates)


def load_roles(
    config: DataConfig, counts: Mapping[Role, int], *, imitates: bool = False, difficulty: str | None = None
) -> Loaded:
    """Return up to `counts` examples per role, all decoded once, and of one `difficulty` if given.

    Raises TrainerError (kind `data`) if the dataset cannot be read, lacks the role, or has no usable row for it.
    """
    drawn_set = shapes.world_of(config.dataset)
    if drawn_set:
        world, set_difficulty = drawn_set
        if difficulty not in (None, set_difficulty):
            other = f"{world.name}-{difficulty}"
            raise TrainerError("config", f"{config.dataset} has no {difficulty} questions. Choose {other}.")
        drawn = {role: shapes.examples(set_difficulty, role, n, config.seed, world) for role, n in counts.items()}
        return Loaded(drawn, {"dataset": config.dataset})
    opened = open_source(config)
    parts = splits.shares(opened.source.splits)
    for role in counts:
        if role not in parts:
            raise TrainerError("data", _no_role(opened.source.name, role, opened.source.splits))
    if config.split_rule == "row":
        candidates = splits.by_row(splits.collect(opened.source.read("train")))
    else:
        sets = {
            split: splits.collect(opened.source.read(split)) for split in dict.fromkeys(s.split for s in parts.values())
        }
        candidates = splits.by_image(sets, parts, references_only=config.references_only)
    if imitates and "train" in counts:
        candidates["train"] = _with_reference(candidates["train"])
    if difficulty is not None:
        candidates = {role: _of_difficulty(drawn, difficulty) for role, drawn in candidates.items()}
    drawn_by_role = {role: splits.draw(candidates[role], n, config.seed) for role, n in counts.items()}
    for role, drawn_role in drawn_by_role.items():
        if counts[role] and not drawn_role.examples:
            raise TrainerError("data", _nothing_usable(opened.source.name, role, drawn_role.skipped))
    return Loaded(
        {role: each.examples for role, each in drawn_by_role.items()}, _facts(config, opened.revision, drawn_by_role)
    )


def _with_reference(candidates: Drawn) -> Drawn:
    referenced = [example for example in candidates.examples if example.reference]
    without = Counter({splits.NO_REFERENCE: len(candidates.examples) - len(referenced)})
    return Drawn(referenced, candidates.skipped + without)


def _of_difficulty(candidates: Drawn, difficulty: str) -> Drawn:
    matching = [example for example in candidates.examples if example.difficulty == difficulty]
    others = Counter({f"not {difficulty}": len(candidates.examples) - len(matching)})
    return Drawn(matching, candidates.skipped + others)


def _no_role(name: str, role: Role, there: tuple[str, ...]) -> str:
    only = " and ".join(there)
    if role == "test" or "test" not in there:
        return f"{name} has no examples for {role}, only {only}. Add a split train, or choose another dataset."
    return (
        f"{name} has no examples for {role}, only {only}, because a benchmark must not be trained on. Train on "
        "another dataset, and evaluate on this one with `eval --benchmark`."
    )


def _nothing_usable(name: str, role: Role, skipped: Counter[str]) -> str:
    if not skipped:
        return f"{name} has too few images for train, val and test: none are left for {role}. Add images."
    reasons = ", ".join(f"{reason}: {n}" for reason, n in skipped.most_common())
    advice = " Choose style direct, or GRPO." if skipped[splits.NO_REFERENCE] else " Check the dataset's files."
    return f"{name} has no usable example for {role} ({reasons}).{advice}"


def _facts(config: DataConfig, revision: str | None, drawn_by_role: Mapping[Role, Drawn]) -> dict[str, Any]:
    rule = (
        "by image"
        if config.split_rule == "image"
        else "by row, as in the original: rows with the same image are in several roles"
    )
    return {
        "dataset": config.dataset,
        "revision": revision,
        "split": rule,
        "examples": {role: len(drawn.examples) for role, drawn in drawn_by_role.items()},
        "skipped": {role: dict(drawn.skipped) for role, drawn in drawn_by_role.items()},
    }
