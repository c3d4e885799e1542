"""Import verl's dumps: `STEP.jsonl` in its `trainer.rollout_data_dir` and `trainer.validation_data_dir`.

The format is that of `_write_generations` in `verl/trainer/ppo/ray_trainer.py`, read in verl 0.9.1: one line per sample
with `input`, `output`, `gts` (not in earlier versions), `score`, `step`, and what the reward function returned in
addition to its score. Metrics come from W&B or TensorBoard.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from store.db.connection import StoreError
from store.importing.files import as_json, encoding_of, fingerprint, places, read_each
from store.importing.found import Found, FoundRun, LoggedCompletion, as_number, as_step
from store.importing.names import printable

VALIDATION = "val"
"""Parts of the name of a folder with validation dumps."""
OWN = ("input", "output", "gts", "score", "step")
NO_SAMPLE = "Left out because they are not samples"
NO_REWARD = "Left out of the samples because they are not numbers"
BY_PROMPT = (
    "Groups are inferred from equal prompts and gold answers that occur as often as a group has samples. verl stores "
    "no images or advantages, so two examples with the same prompt and answer would look like one."
)


def runs(path: str) -> Found:
    """Return the run in a folder of dumps, or each run below `path`; adjacent rollouts and validations are one run."""
    root = Path(path).expanduser().absolute()
    if not root.exists():
        raise StoreError(f"{path} does not exist. Name an existing folder.")
    root = root.parent if root.is_file() else root
    found: dict[Path, FoundRun] = {}
    unread: list[str] = []
    folders = sorted({file.parent for file in root.rglob("*.jsonl") if _is_dump(file)})
    for folder in folders:
        whole = folder if len(folders) == 1 or folder == root else folder.parent
        files = sorted((file for file in folder.glob("*.jsonl") if _is_dump(file)), key=lambda file: int(file.stem))
        if whole not in found:
            names = places(whole, root)
            identity = f"{files[0].name}\n{fingerprint(files[0])}"
            found[whole] = FoundRun(identity, names[0], names[1:], folder=whole)
        run = found[whole]
        _, problems = read_each(files, partial(_add, run, is_validation=VALIDATION in folder.name.lower()))
        run.notes += problems
    for whole, run in list(found.items()):
        if run.completions or run.answers:
            _tell_groups(run)
        else:
            unread += run.notes
            del found[whole]
    return Found(list(found.values()), unread)


def _is_dump(file: Path) -> bool:
    return file.is_file() and file.stem.isascii() and file.stem.isdigit()


def _add(run: FoundRun, file: Path, *, is_validation: bool) -> None:
    """Add the samples in a file, whose last line may be incomplete. Raises StoreError if it has none."""
    said: list[LoggedCompletion] = []
    step = as_step(int(file.stem))
    with file.open(encoding=encoding_of(file), errors="replace") as lines:
        for line in lines:
            values = as_json(line)
            if isinstance(values, dict) and isinstance(values.get("output"), str):
                said.append(_said(run, values))
            elif line.endswith("\n") and line.strip():
                run.left_out[NO_SAMPLE][file.name] += 1
    if not said or step is None:
        raise StoreError(f"{file} has no verl samples.")
    (run.answers if is_validation else run.completions)[step] = said
    scores = [each.reward for each in said if each.reward is not None]
    if scores:
        run.metrics.setdefault(step, {})["val/reward" if is_validation else "reward"] = sum(scores) / len(scores)


def _said(run: FoundRun, values: dict[str, Any]) -> LoggedCompletion:
    rewards: dict[str, float | None] = {}
    for name, value in values.items():
        if name in OWN:
            continue
        number = as_number(float(value) if isinstance(value, bool) else value)
        if number is None:
            run.left_out[NO_REWARD][name] += 1
        else:
            rewards[printable(str(name))[:200]] = number if number == number else None
    score = as_number(values.get("score"))
    prompt = values.get("input")
    text = prompt if isinstance(prompt, str) else json.dumps(prompt)
    reward = score if score == score else None
    return LoggedCompletion(text, values["output"], rewards, None, reward=reward, gold=values.get("gts"))


def _tell_groups(run: FoundRun) -> None:
    """Number the groups of each step in which every prompt has as many samples as a group."""
    sizes = Counter(n for said in run.completions.values() for n in Counter(each.asked for each in said).values())
    size = min(sizes, default=0)
    if size < 2:
        return
    for step, said in run.completions.items():
        counts = Counter(each.asked for each in said)
        numbers = {asked: number for number, asked in enumerate(each for each, n in counts.items() if n == size)}
        run.completions[step] = [each._replace(group=numbers.get(each.asked)) for each in said]
    run.notes.append(BY_PROMPT)
