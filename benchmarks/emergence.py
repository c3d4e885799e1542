"""Time the Emergence page's computations for a run of 500,000 completions: `python -m benchmarks.emergence`

Measures processor time of this process, so that a busy machine does not matter. Exits with 1 if a target is missed."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.emergence import figures, findings, milestones
from app.emergence import rows as emergence_rows
from app.emergence.reasoning import SceneCompletion, read_step
from app.emergence.story import MOST_READ, MOST_TEXTS, Story, Texts, spread_steps
from store.completions import emergence
from store.completions.rows import list_texts
from store.contents import read_contents
from store.db.engine import Store, open_store
from store.db.rows import CompletionRow, ExampleRow
from store.examples import add_examples
from store.metrics import read_series
from store.runs import create_run, get_run, list_runs
from store.steps import record_step

STEPS, GROUPS, SIZE, EXAMPLES = 7813, 8, 8, 400
REPEATS = 5


class Timing(NamedTuple):
    what: str
    seconds: float
    target: float


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(sys.argv[1] if len(sys.argv) > 1 else str(Path(folder) / "emergence.db"))
        if not list_runs(store):
            fill(store)
        results = list(measure(store))
        store.close()
    for row in results:
        print(f"{row.what:58} {1000 * row.seconds:8.0f} ms  {'met' if row.seconds <= row.target else 'MISSED'}")
    return 0 if all(row.seconds <= row.target for row in results) else 1


def fill(store: Store, name: str = "long", steps: int = STEPS) -> None:
    """Create a run whose form, steps and accuracy improve."""
    dice = random.Random(0)
    rows = [ExampleRow(dataset="d", split="train", key=str(i), question="?", answer=i % 10) for i in range(EXAMPLES)]
    ids = add_examples(store, rows)
    run = create_run(
        store,
        name=name,
        method="grpo",
        style="cot",
        model="tiny",
        dataset="d",
        config={},
        reward_weights={"format": 1.0, "accuracy": 2.0, "steps": 0.5},
    )
    for step in range(1, steps + 1):
        completions = [_completion(dice, step, group, index, ids) for group in range(GROUPS) for index in range(SIZE)]
        reward = sum(row.reward or 0.0 for row in completions) / len(completions)
        record_step(store, run.id, step, {"reward": reward}, at=float(step), completions=completions)


def _completion(dice: random.Random, step: int, group: int, index: int, ids: list[int]) -> CompletionRow:
    place = (step * GROUPS + group) % EXAMPLES
    formed, right = dice.random() < 0.1 + step / STEPS, dice.random() < 0.3 + 0.5 * step / STEPS
    answer = place % 10 if right else dice.randrange(10)
    steps = answer if formed else 0
    thought = " ".join(f"{number}. a red circle at the top left" for number in range(1, answer + 1)) or "none"
    text = f"<think>{thought}</think><answer>{answer}</answer>"
    parts: dict[str, float | None] = {"format": float(formed), "accuracy": float(right), "steps": steps / 10}
    return CompletionRow(
        text=text,
        answer=answer,
        wellformed=formed,
        correct=right,
        reasoning_steps=steps,
        tokens=10 + 12 * answer,
        reward=float(formed) + 2 * right + steps / 20,
        rewards=parts,
        generation=step,
        group=group,
        index=index,
        example_id=ids[place],
        advantage=0.0,
    )


def measure(store: Store) -> Iterator[Timing]:
    run = get_run(store, 1)
    yield Timing(
        "steps without a summary looked for", _timed(lambda: emergence.unsummarized_steps(store, run.id)), 0.05
    )
    yield Timing("all figures of the run read", _timed(lambda: emergence.emergence(store, run.id)), 0.3)
    samples = emergence.emergence(store, run.id)
    reward = read_series(store, run.id, ["reward"], points=10**6)["reward"].value

    def judged() -> tuple[list[milestones.Milestone], list[findings.Finding]]:
        return milestones.milestones(samples), findings.findings(samples, reward, [])

    yield Timing("milestones and findings", _timed(judged), 0.1)
    steps = spread_steps(samples.step)
    yield Timing(f"texts of {len(steps)} steps read (at most {MOST_READ})", _timed(lambda: _texts(store, steps)), 0.2)
    story = Story(run, samples, reward, [], *judged(), has=read_contents(store, run.id), is_sampled=True)
    texts = _texts(store, steps)
    yield Timing("figure made", _timed(lambda: _figure(story, texts)), 0.3)


def _texts(store: Store, steps: NDArray[np.int64]) -> Texts:
    texts_by_step = list_texts(store, 1, steps.tolist(), MOST_TEXTS)
    readings = [
        read_step([SceneCompletion(text, None) for text, _ in texts_by_step[step]], "cot") for step in steps.tolist()
    ]
    return Texts(steps.astype(float), readings)


def _figure(story: Story, texts: Texts) -> None:
    rows = emergence_rows.rows(story, texts, None)
    figures.emergence_chart(rows, emergence_rows.flags(story), cursor=None, revision="").to_plotly_json()


def _timed(act: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        act()
        seconds.append(time.process_time() - start)
    return median(seconds)


if __name__ == "__main__":
    sys.exit(main())
