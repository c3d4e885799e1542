"""The data of the Emergence page for one run: read and cache everything that it shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from app.emergence import milestones
from app.emergence.crossings import Floats
from app.emergence.evidence import gather, load_samples
from app.emergence.findings import Finding, HeldOut
from app.emergence.milestones import Milestone
from app.emergence.reasoning import SceneCompletion, StepFigures, read_step
from app.shared import data, status
from store.completions import emergence
from store.completions.emergence import Emergence
from store.completions.rows import list_texts
from store.contents import Contents
from store.db.engine import Store
from store.db.rows import RunDetail
from store.trace import Form

MOST_READ = 64
"""Maximum number of steps whose texts are read, evenly spread."""
MOST_TEXTS = 32
"""Maximum number of completions read per step."""


class Story(NamedTuple):
    """Everything known about emergence in a run; `reward` has an entry for each step of `samples`."""

    run: RunDetail
    samples: Emergence
    reward: Floats
    held_out: list[HeldOut]
    milestones: list[Milestone]
    findings: list[Finding]
    has: Contents
    is_sampled: bool
    """Whether its completions are training samples; otherwise they come from probes."""


class Texts(NamedTuple):
    """Figures on the texts of some steps."""

    step: Floats
    readings: list[StepFigures]

    def ratio(self, part: str, whole: str) -> Floats:
        """Return the ratio of two counts, NaN if `whole` is 0; `part` may be one of reasoning.MATCHES."""
        counts = [(getattr(each, part, None), each.matches[part], getattr(each, whole)) for each in self.readings]
        return np.array(
            [(attribute if attribute is not None else m) / n if n else np.nan for attribute, m, n in counts], float
        )


def load(run: RunDetail) -> Story | None:
    """Return a run's story from its completions, else its probes; None if it has neither."""
    store = data.reader()
    samples, is_sampled = _cached_samples(store, run.id, _probe_key(run), run)
    if not len(samples.step):
        return None
    evidence = gather(store, run, samples)
    reached = milestones.milestones(samples)
    has = data.read_contents(run.id)
    return Story(run, samples, evidence.reward, evidence.held_out, reached, evidence.findings(), has, is_sampled)


def _probe_key(run: RunDetail) -> str:
    """Return a cache key that, for a run without samples, changes with its probes."""
    return f"{version(run)} {len(data.list_evaluations(run.id))}" if run.method == "sft" else version(run)


def version(run: RunDetail) -> str:
    """Return a cache key that changes with the run's steps (in long runs, every hundredth) and its job."""
    part = max(1, run.step // 100) if run.status in status.OPEN else 1
    return f"{run.step - run.step % part} of {_job(run)}"


def _job(run: RunDetail) -> str:
    return run.job.uid if run.job else ""


def is_summarized(run: RunDetail) -> bool:
    """Return whether all completions are summarized; False for an older database until `summarize`."""
    return not emergence.unsummarized_steps(data.reader(), run.id)


def summarize(run: RunDetail) -> Iterator[float]:
    """Summarize the steps of an older database, a few at a time; yield the completed share."""
    steps = emergence.unsummarized_steps(data.reader(), run.id)
    for start in range(0, len(steps), emergence.STEPS_AT_ONCE):
        emergence.add_summaries(data.dashboard_writer(), run.id, steps[start : start + emergence.STEPS_AT_ONCE])
        yield min(1.0, (start + emergence.STEPS_AT_ONCE) / len(steps))
    _cached_samples.clear()  # type: ignore[attr-defined]


def read_texts(story: Story) -> Texts:
    """Read some of the texts; a growing run is read again only when another step is chosen."""
    steps = spread_steps(story.samples.step if story.is_sampled else story.samples.step[:0])
    store, run = data.reader(), story.run
    return Texts(steps.astype(float), _readings(store, run.id, tuple(steps.tolist()), story.has.form, _job(run)))


def spread_steps(steps: np.ndarray) -> np.ndarray:
    """Return at most MOST_READ of the steps: every 1st, 2nd, 4th, 8th …, starting with the first."""
    stride = 1
    while -(-len(steps) // stride) > MOST_READ:
        stride *= 2
    return steps[::stride]


@data.cache_by_arguments(16)
def _cached_samples(store: Store, run_id: int, version: str, _run: RunDetail) -> tuple[Emergence, bool]:
    return load_samples(store, _run)


@data.cache_by_arguments(16)
def _readings(store: Store, run_id: int, steps: tuple[int, ...], style: Form, job: str) -> list[StepFigures]:
    """Read the completions of some steps; `job` is part of the cache key, since a resumed run may repeat a step."""
    texts_by_step = list_texts(store, run_id, steps, MOST_TEXTS)
    return [
        read_step([SceneCompletion(text, (meta or {}).get("objects")) for text, meta in texts_by_step[step]], style)
        for step in steps
    ]
