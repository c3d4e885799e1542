"""The data behind a run's findings, read in one place so that the page and the webhook report the same."""

from __future__ import annotations

from typing import NamedTuple

from app.emergence import findings
from app.emergence.crossings import Floats
from app.emergence.findings import Finding, HeldOut
from store.completions import emergence
from store.completions.emergence import Emergence
from store.db.engine import Store
from store.db.rows import RunDetail
from store.evaluations.records import list_evaluations
from store.metrics import read_series

POINTS = 100_000
"""Maximum points of the reward curve; thinning would keep its extremes and so shift its level."""


class Evidence(NamedTuple):
    """The data of one run; `reward` has an entry for each step of `samples`."""

    samples: Emergence
    reward: Floats
    held_out: list[HeldOut]

    def findings(self) -> list[Finding]:
        return findings.findings(*self)


def load_samples(store: Store, run: RunDetail) -> tuple[Emergence, bool]:
    """Return a run's completions by step, and whether they are training samples; for SFT, they come from its probes."""
    samples = emergence.emergence(store, run.id)
    is_sampled = len(samples.step) > 0
    return (
        (samples, is_sampled)
        if is_sampled or run.method != "sft"
        else (emergence.probe_emergence(store, run.id), False)
    )


def gather(store: Store, run: RunDetail, samples: Emergence) -> Evidence:
    """Return the evidence for these samples."""
    reward = read_series(store, run.id, ("reward",), points=POINTS)["reward"]
    probe_samples = run.config.get("evaluation", {}).get("probe_samples", 0)
    held_out = findings.held_out(list_evaluations(store, run.id), probe_samples)
    return Evidence(samples, findings.at_steps(reward, samples.step), held_out)
