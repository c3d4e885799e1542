"""Tells the webhook what shows in a run while it trains, each finding once; the run's events remember what was told."""

from __future__ import annotations

from app import status, watch
from store import emergence, read, write
from store.engine import Store
from trainer.launch import webhook

EVENT = "finding"


def tell_findings(store: Store) -> int:
    """Looks at the runs that train now; how many findings were told. Does nothing without a webhook."""
    if not webhook.is_set():
        return 0
    active = [run for run in read.runs(store) if run.status in status.ACTIVE and run.job_kind == "train"]
    return sum(_tell(store, run.id) for run in active)


def _tell(store: Store, run_id: int) -> int:
    run = read.run(store, run_id)
    found = emergence.emergence(store, run_id)
    if not len(found.step):
        return 0
    reward = watch.at_steps(read.series(store, run_id, ["reward"])["reward"], found.step)
    samples = run.config.get("evaluation", {}).get("probe_samples", 0)
    tested = watch.held_out(read.evaluations(store, run_id), samples)
    known = [event.message for event in read.events(store, run_id) if event.kind == EVENT]
    told = 0
    for finding in watch.findings(found, reward, tested):
        if any(message.startswith(f"{finding.title}:") for message in known):
            continue
        facts = {"run": run.uid, "name": run.name, "kind": finding.kind, "step": finding.now, "since": finding.since}
        words = f"{finding.title}: {finding.sentence}"
        if webhook.tell("finding", f"{run.name}: {words}", **facts):
            write.add_event(store, run_id, EVENT, words, step=finding.now)
            told += 1
    return told
