"""The addresses of every page in its main states, and a database that fills them."""

from __future__ import annotations

import re
from pathlib import Path

from scripts import browsing
from store.datasets import begin_index, fail_index
from store.db.engine import Store, open_store
from store.experiments import add_to_experiment, create_experiment, list_experiments
from store.jobs import add_job, beat_job, start_job, upsert_worker
from store.notes import note_trace, tag_traces
from store.runs import list_runs
from tests.compared import compare_database
from tests.seeded import ELSEWHERE, find, seed_database

PAGES = (
    "",
    "run",
    "run?tab=Evaluations",
    "run?tab=Machine",
    "run?tab=Configuration",
    "run?tab=Log",
    "run?tab=Events",
    "traces",
    "traces?view=Predictions",
    "traces?completion=1",
    "traces?prediction=1",
    "find",
    "rewards",
    "rewards?view=A+whole+run",
    "emergence",
    "emergence?run=ONE&with=OTHER",
    "launch",
    "launch?clone=ONE",
    "curves",
    "curves?runs=ONE,OTHER",
    "compare",
    "compare?runs=ONE,OTHER",
    "curves?group=-",
    "curves?runs=ONE,OTHER&numbers=Reward&wide=Reward",
    "sweep",
    "sweep?runs=ONE,OTHER&picture=Scatter",
    "sweep?picture=Heat+map",
    "drift",
    "drift?runs=ONE,OTHER",
    "drift?runs=ONE,OTHER&view=Over+training",
    "drift?runs=ONE,OTHER&view=Map",
    "drift?runs=ONE,OTHER&view=What+changed",
    "datasets",
    "datasets?view=Overlap",
    "datasets?view=Seen+by+base+models",
    "system",
    "tour",
    "record",
    "compare?experiment=OPEN",
    "curves?experiment=OPEN",
    "run?run=RUNNING",
    "run?run=WAITING",
    "run?run=FAILED",
    "traces?run=RUNNING",
    "emergence?run=RUNNING",
)
STATES = {"RUNNING": "running", "WAITING": "queued", "FAILED": "out_of_memory"}
"""Names in PAGES of runs that have not finished."""


def fill(path: Path, *, benchmark: str = "simple") -> Store:
    """Return a database with runs in every state and remarks; one of them is measured on `benchmark`."""
    seed_database(path)
    store = open_store(str(path))
    add_open_work(store, benchmark)
    compare_database(path, seeds=(0, 1), n=8)
    return store


def add_open_work(store: Store, benchmark: str) -> None:
    """An experiment whose runs run, wait and failed; an evaluation and an index at work, and one that failed."""
    runs = {run.status: run for run in list_runs(store)}
    made = create_experiment(store, name="open", matrix={})
    for state in STATES.values():
        add_to_experiment(store, made.id, runs[state].id, "arm")
    here = {"host": ELSEWHERE, "boot_id": "b", "pid": 7, "pid_started": 1.0}
    upsert_worker(store, **here)
    job = add_job(store, find(store, "shapes-sft").id, "evaluate", {"benchmark": benchmark})
    start_job(store, job.id, **here, log_path=None)
    beat_job(store, job.id, "answering", 1, 8)
    begin_index(store, name="folder", path="at work", split="train", limit=9, **here)
    fail_index(store, begin_index(store, name="folder", path="x", split="test", limit=9, **here), "It broke.")
    tag_traces(store, "completion", [1], "read")
    note_trace(store, "completion", 1, "read")


def address_of(server: browsing.Server, page: str) -> str:
    """Return a page's address with the uids of the runs and of the experiment that it names."""
    store = open_store(server.database, readonly=True)
    uids = {run.status: run.uid for run in list_runs(store)}
    one, other = [run.uid for run in list_runs(store) if run.method == "grpo" and run.lora_rank == 32][:2]
    names = {"ONE": one, "OTHER": other} | {name: uids[state] for name, state in STATES.items()}
    names["OPEN"] = next(each.uid for each in list_experiments(store) if each.name.startswith("open"))
    store.close()
    return f"{server.url}/{re.sub('|'.join(names), lambda found: names[found[0]], page)}"
