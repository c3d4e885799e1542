"""Runs of scripts that are not ours, made by `vr1z.start`: each lacks something that our own trainer records."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from store.db.engine import Store
from store.recording import folders
from trainer.record import vr1z

STEPS = 50
"""More than Emergence needs to say anything."""
NOBODY = "http://127.0.0.1:9"
CHAT = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Is this a cat?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": [{"type": "text", "text": "And this? Put it into \\boxed{}."}]},
]
CALL = {"type": "function", "function": {"name": "zoom", "arguments": {"box": [1, 2, 3, 4]}}}


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (shade, 0, 90)).save(buffer, "PNG")
    return buffer.getvalue()


def words(run: vr1z.Run) -> None:
    """Text alone: a text as gold answer, one reward, no form."""
    for step in range(1, STEPS + 1):
        said = [f"It is blue {step}", "It is red"]
        run.group(step, "Which colour has the sky?", None, said, rewards={"judge": [1.0, 0.0]}, answer="blue")
        run.log(step, {"loss": 1 / step})


def boxed(run: vr1z.Run) -> None:
    """A chat of several turns, answers in boxes, a count as gold answer, groups that are judged."""
    for step in range(1, STEPS + 1):
        said = [f"So \\boxed{{{step % 5}}}", "\\boxed{4}", "no box"]
        run.group(step, CHAT, [picture(step)], said, rewards={"right": [0.0, 1.0, 0.0]}, answer=4, tokens=[5, 3, 2])
    for step in (10, STEPS):
        rows = [{"prompt": f"{i}+1? \\boxed{{}}", "completion": f"\\boxed{{{i}}}", "answer": i + 1} for i in range(4)]
        run.evaluation(step, "sums", rows)


def grounding(run: vr1z.Run) -> None:
    """Two pictures, a box as gold answer, one answer to each prompt, advantages but no rewards."""
    for step in range(1, STEPS + 1):
        pictures = [picture(step), picture(step + 100)]
        run.group(step, f"Where, {step % 3}?", pictures, [f"[{step}, 2, 3, 4]"], advantages=[0.5], answer=[1, 2, 3, 4])


def tools(run: vr1z.Run) -> None:
    """Completions of several turns with tool calls; rewards of which some are missing; judged evaluations."""
    for step in range(1, STEPS + 1):
        said = [{"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "a dog"}]
        run.group(step, CHAT[:2], None, [said, "I give up"], rewards={"found": [1.0, None]})
    for step in (5, STEPS):
        rows = [
            {"prompt": f"Find {i}", "completion": f"it is <b>{step}</b>", "correct": i % 2 == 0, "answer": {"box": [i]}}
            for i in range(4)
        ]
        run.evaluation(step, "finding", rows)


def tagged(run: vr1z.Run) -> None:
    """Our own tags, but no references and no evaluation, and texts that break the form."""
    prompt = "How many? Think in <think>, answer in <answer>."
    for step in range(1, STEPS + 1):
        said = ["<think>1. a 2. b</think><answer>2</answer>", "<think>1. a", "<answer>2</answer>"]
        run.group(step, prompt, [picture(step % 7)], said, rewards={"accuracy": [1.0, 0.0, 1.0]}, answer="2")


def figures(run: vr1z.Run) -> None:
    """Nothing but curves, as of a training that samples nothing."""
    for step in range(1, STEPS + 1):
        run.log(step, {"loss": 1 / step, "grad_norm": float("nan")})


def evaluated(run: vr1z.Run) -> None:
    """Nothing but evaluations, which the script did not judge, some of them sampled."""
    for step in (0, 10, 20):
        rows = [{"prompt": f"Say {i}", "completion": f"{i} {step}", "answer": "x"} for i in range(3)]
        run.evaluation(step, "saying", rows)
        run.evaluation(step, "sampled", rows, greedy=False)


def nothing(run: vr1z.Run) -> None:
    """A run that began and did no more."""


SCRIPTS: Mapping[str, Callable[[vr1z.Run], None]] = {
    each.__name__: each for each in (words, boxed, grounding, tools, tagged, figures, evaluated, nothing)
}


def take_in(store: Store, folder: Path, *names: str) -> None:
    """Run scripts while no dashboard answers, and take their journals in."""
    for name in names:
        told: dict[str, Any] = {"method": "dpo"} if name in ("figures", "evaluated") else {}
        with vr1z.start(name, folder=folder, url=NOBODY, **told) as run:
            SCRIPTS[name](run)
        run.close()
    assert [taken.problem for taken in folders.sync(store, [folder])] == [None] * len(names)
