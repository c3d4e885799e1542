"""Try users' rewards once in a separate process before the model is loaded.

They are called with a correct and an empty completion for a real example, so that errors show within seconds and side
effects stay in that process, `python -m trainer.evaluate.reward_trial FOLDER`.
"""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.datasets import files
from trainer.datasets.example import Example
from trainer.spec import prompt, rewards
from trainer.spec.config import RunConfig, from_dict
from trainer.spec.errors import TrainerError, classify
from trainer.spec.own_reward import await_values

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 900
"""Time limit in seconds; a function may load its own model at its first call."""
OPT_OUT = "set try_rewards to false"
THINKING = "I look at the picture and count."
"""Replaces a missing reference in the correct completion."""


def try_rewards(config: RunConfig, example: Example, pause: Callable[[], None] = lambda: None) -> int:
    """Call the user's rewards with `example` and return their number; 0 if `try_rewards` is off.

    `pause` is called regularly and may raise. Raises TrainerError or ConfigError with the error of the first function
    that has one.
    """
    custom = [reward for reward in config.paid if ".py:" in reward.name]
    if not custom or not config.try_rewards:
        return 0
    with tempfile.TemporaryDirectory(prefix="vr1z-trial-") as folder:
        _write(Path(folder, "request.json"), {"config": config.model_dump(mode="json"), "example": _packed(example)})
        _run(Path(folder), ", ".join(reward.name for reward in custom), pause)
        outcome = json.loads(Path(folder, "outcome.json").read_text(encoding="utf-8"))
    if outcome:
        raise TrainerError(outcome["kind"], outcome["sentence"])
    return len(custom)


def _run(folder: Path, names: str, pause: Callable[[], None]) -> None:
    # The functions' output must not be mixed with a report on standard output.
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(folder)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=2
    )
    try:
        code, end = None, time.monotonic() + PATIENCE_SECONDS
        while code is None and time.monotonic() < end:
            pause()
            try:
                code = process.wait(1.0)
            except subprocess.TimeoutExpired:
                code = None
    finally:
        process.kill()
        process.wait()
    if code is None:
        raise TrainerError(
            "reward",
            f"rewards: {names} did not return within {PATIENCE_SECONDS // 60} minutes. Fix it, or {OPT_OUT}.",
        )
    if not Path(folder, "outcome.json").exists():
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        raise TrainerError("reward", f"rewards: {names} ended its process {how}. Fix it, or {OPT_OUT}.")


def _packed(example: Example) -> dict[str, Any]:
    fields = ("dataset", "split", "key", "question", "answer", "reference")
    pictures = [base64.b64encode(picture.encoded()).decode() for picture in example.pictures]
    return {name: getattr(example, name) for name in fields} | {"pictures": pictures}


def _unpacked(packed: dict[str, Any]) -> Example:
    pictures = tuple(files.in_memory(base64.b64decode(text)) for text in packed["pictures"])
    return Example(**packed | {"pictures": pictures})


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def main(folder: Path) -> None:
    """Read the request in a folder and write the error, or an empty file, next to it."""
    outcome: dict[str, str] = {}
    try:
        request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
        _try(from_dict(request["config"]), _unpacked(request["example"]))
    except Exception as error:
        kind, sentence = classify(error)
        outcome = {"kind": kind, "sentence": sentence}
    _write(folder / "outcome.json", outcome)


def _try(config: RunConfig, example: Example) -> None:
    custom = [rewards.load_custom(reward, strict=True) for reward in config.paid if ".py:" in reward.name]
    # Imported late, because it takes seconds: a file that cannot be imported is reported at once.
    from trainer.evaluate import reward_arguments
    from trainer.evaluate.generation import GeneratedAnswer
    from trainer.models import chat_template, loading

    processor = loading.load_processor(config.model)
    tokenizer = processor.tokenizer
    target = prompt.target(example.reference or THINKING, example.answer, config.style)
    right = chat_template.read(processor).generated(target)
    answers = [
        GeneratedAnswer(
            text, (*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id), False, 0.0
        )
        for text in (right, "")
    ]
    arguments = reward_arguments.arguments(
        processor, config, [example] * 2, answers, step=0, log_metric=lambda name, value: None
    )
    for reward in custom:
        await_values(reward.function(**arguments))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
