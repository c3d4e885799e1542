"""Report the findings about a training run to the webhook, each once: the run's events keep track of that."""

from __future__ import annotations

from app.emergence import evidence
from app.shared import status
from store.db.engine import Store
from store.events import add_event, list_events
from store.runs import get_run, list_runs
from trainer.launch import webhook

EVENT = "finding"


def tell_findings(store: Store) -> int:
    """Check the runs in training; return the number of reported findings. Does nothing without a webhook."""
    if not webhook.is_set():
        return 0
    active = [
        run for run in list_runs(store, open_only=True) if run.status in status.ACTIVE and run.job_kind == "train"
    ]
    return sum(_tell(store, run.id) for run in active)


def _tell(store: Store, run_id: int) -> int:
    run = get_run(store, run_id)
    found, _ = evidence.sampled(store, run)
    if not len(found.step):
        return 0
    known = [event.message for event in list_events(store, run_id) if event.kind == EVENT]
    told = 0
    for finding in evidence.gather(store, run, found).findings():
        if any(message.startswith(f"{finding.title}:") for message in known):
            continue
        facts = {"run": run.uid, "name": run.name, "kind": finding.kind, "step": finding.now, "since": finding.since}
        words = f"{finding.title}: {finding.sentence}"
        if webhook.tell("finding", f"{run.name}: {words}", **facts):
            add_event(store, run_id, EVENT, words, step=finding.now)
            told += 1
    return told
