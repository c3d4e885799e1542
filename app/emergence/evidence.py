"""What the findings of a run are computed from: read in one place, so that the page and the webhook say the same."""

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
"""Points of the reward curve. Thinning it would keep the extremes and shift its level."""


class Evidence(NamedTuple):
    """`reward` has an entry for each step of `found`."""

    found: Emergence
    reward: Floats
    held_out: list[HeldOut]

    def findings(self) -> list[Finding]:
        return findings.findings(*self)


def sampled(store: Store, run: RunDetail) -> tuple[Emergence, bool]:
    """Return a run's completions by step, and whether they are training samples: for SFT, they are its probes."""
    found = emergence.emergence(store, run.id)
    is_sampled = len(found.step) > 0
    return (found, is_sampled) if is_sampled or run.method != "sft" else (emergence.probed(store, run.id), False)


def gather(store: Store, run: RunDetail, found: Emergence) -> Evidence:
    """Return the evidence, given the samples."""
    reward = read_series(store, run.id, ("reward",), points=POINTS)["reward"]
    samples = run.config.get("evaluation", {}).get("probe_samples", 0)
    held_out = findings.held_out(list_evaluations(store, run.id), samples)
    return Evidence(found, findings.at_steps(reward, found.step), held_out)
