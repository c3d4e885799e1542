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
    """The data of one run; `reward` has an entry for each step of `found`."""

    found: Emergence
    reward: Floats
    held_out: list[HeldOut]

    def findings(self) -> list[Finding]:
        return findings.findings(*self)


def sampled(store: Store, run: RunDetail) -> tuple[Emergence, bool]:
    """Return a run's completions by step, and whether they are training samples; for SFT, they come from its probes."""
    found = emergence.emergence(store, run.id)
    is_sampled = len(found.step) > 0
    return (found, is_sampled) if is_sampled or run.method != "sft" else (emergence.probed(store, run.id), False)


def gather(store: Store, run: RunDetail, found: Emergence) -> Evidence:
    """Return the evidence for the samples in `found`."""
    reward = read_series(store, run.id, ("reward",), points=POINTS)["reward"]
    samples = run.config.get("evaluation", {}).get("probe_samples", 0)
    held_out = findings.held_out(list_evaluations(store, run.id), samples)
    return Evidence(found, findings.at_steps(reward, found.step), held_out)
