"""Report the findings about a training run to the webhook, each once: the run's events keep track of that."""

from __future__ import annotations

from app.emergence import evidence
from app.shared import status
from store.db.engine import Store
from store.events import add_event, list_events
from store.runs import get_run, list_runs
from trainer.launch import webhook

EVENT = "finding"


def send_findings(store: Store) -> int:
    """Check the runs in training; return the number of reported findings. Does nothing without a webhook."""
    if not webhook.is_set():
        return 0
    active = [
        run for run in list_runs(store, open_only=True) if run.status in status.ACTIVE and run.job_kind == "train"
    ]
    return sum(_send_new(store, run.id) for run in active)


def _send_new(store: Store, run_id: int) -> int:
    run = get_run(store, run_id)
    samples, _ = evidence.load_samples(store, run)
    if not len(samples.step):
        return 0
    announced = [event.message for event in list_events(store, run_id) if event.kind == EVENT]
    sent = 0
    for finding in evidence.gather(store, run, samples).findings():
        if any(message.startswith(f"{finding.title}:") for message in announced):
            continue
        facts = {"run": run.uid, "name": run.name, "kind": finding.kind, "step": finding.now, "since": finding.since}
        sentence = f"{finding.title}: {finding.sentence}"
        if webhook.send("finding", f"{run.name}: {sentence}", **facts):
            add_event(store, run_id, EVENT, sentence, step=finding.now)
            sent += 1
    return sent
