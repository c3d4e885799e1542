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
from store.importing import algorithms
from store.importing.files import as_json, encoding_of, fingerprint, places, read_each
from store.importing.found import Found, FoundRun, LoggedCompletion, as_number, as_step
from store.importing.names import printable

METHOD = "rl"
"""Method of dumps whose training is not described beside them; verl trains with a dozen algorithms."""
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
    runs_by_folder: dict[Path, FoundRun] = {}
    unread: list[str] = []
    folders = sorted({file.parent for file in root.rglob("*.jsonl") if _is_dump(file)})
    for folder in folders:
        run_folder = folder if len(folders) == 1 or folder == root else folder.parent
        files = sorted((file for file in folder.glob("*.jsonl") if _is_dump(file)), key=lambda file: int(file.stem))
        if run_folder not in runs_by_folder:
            names = places(run_folder, root)
            identity = f"{files[0].name}\n{fingerprint(files[0])}"
            run = FoundRun(identity, names[0], names[1:], folder=run_folder)
            runs_by_folder[run_folder] = _configured(run, folder, root)
        run = runs_by_folder[run_folder]
        _, problems = read_each(files, partial(_add, run, is_validation=VALIDATION in folder.name.lower()))
        run.notes += problems
    for run_folder, run in list(runs_by_folder.items()):
        if run.completions or run.answers:
            _number_groups(run)
        else:
            unread += run.notes
            del runs_by_folder[run_folder]
    return Found(list(runs_by_folder.values()), unread)


def _configured(run: FoundRun, folder: Path, root: Path) -> FoundRun:
    """Add the configuration of the training, if it lies in or above the folder of its dumps, or where was asked."""
    run.method_of_samples = METHOD
    config = algorithms.configuration(dict.fromkeys((folder, folder.parent, root)))
    run.config |= config
    if (model := algorithms.model(config)) is not None:
        run.config.setdefault("model_id", model)
    return run


def _is_dump(file: Path) -> bool:
    return file.is_file() and file.stem.isascii() and file.stem.isdigit()


def _add(run: FoundRun, file: Path, *, is_validation: bool) -> None:
    """Add the samples in a file, whose last line may be incomplete. Raises StoreError if it has none."""
    samples: list[LoggedCompletion] = []
    step = as_step(int(file.stem))
    with file.open(encoding=encoding_of(file), errors="replace") as lines:
        for line in lines:
            values = as_json(line)
            if isinstance(values, dict) and isinstance(values.get("output"), str):
                samples.append(_completion(run, values))
            elif line.endswith("\n") and line.strip():
                run.left_out[NO_SAMPLE][file.name] += 1
    if not samples or step is None:
        raise StoreError(f"{file} has no verl samples.")
    (run.answers if is_validation else run.completions)[step] = samples
    scores = [each.reward for each in samples if each.reward is not None]
    if scores:
        run.metrics.setdefault(step, {})["val/reward" if is_validation else "reward"] = sum(scores) / len(scores)


def _completion(run: FoundRun, values: dict[str, Any]) -> LoggedCompletion:
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


def _number_groups(run: FoundRun) -> None:
    """Number the groups of each step in which every prompt has as many samples as a group."""
    sizes = Counter(
        n for completions in run.completions.values() for n in Counter(each.prompt_key for each in completions).values()
    )
    size = min(sizes, default=0)
    if size < 2:
        return
    for step, completions in run.completions.items():
        counts = Counter(each.prompt_key for each in completions)
        numbers = {key: number for number, key in enumerate(each for each, n in counts.items() if n == size)}
        run.completions[step] = [each._replace(group=numbers.get(each.prompt_key)) for each in completions]
    run.notes.append(BY_PROMPT)
