"""`make faults`: does everything to a real training that can happen to it, and writes what was seen to docs/faults.md.

    python -m tests.faults [--only WORD] [--out FILE]

Takes most of an hour. A row that does not hold ends it with a traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.faults import copies, crowd, deaths, recorders, storage
from tests.faults.upstream import CASES

ROOT = Path(__file__).resolve().parents[2]
TRUE_AGAIN = "the database is intact, the page shows the truth within 15 s"


class Fault(NamedTuple):
    name: str
    expected: str
    do: Callable[[Path, int], str]
    times: int


FAULTS = (
    Fault(
        "the trainer is killed (`kill -9`) at a random moment",
        f"at most the step in flight is lost; {TRUE_AGAIN}; the run resumes and ends as if nothing had happened",
        deaths.trainer,
        50,
    ),
    Fault("the dashboard is killed", "training continues, the next dashboard shows it", deaths.dashboard, 10),
    Fault("dashboard and trainer are killed", f"{TRUE_AGAIN}; the run resumes", deaths.dashboard_and_trainer, 10),
    Fault("dashboard, queue and trainer are killed at once", f"{TRUE_AGAIN}; the run resumes", deaths.everything, 10),
    Fault(
        "a recorded script, the dashboard or both are killed at a random moment",
        "shown as killed; journal and database agree in the end, each record once",
        recorders.killed,
        50,
    ),
    Fault("the queue's process is killed", "its job continues, the next job starts", deaths.worker, 5),
    Fault("the queue's process hangs (`kill -STOP`)", "it is replaced, its job continues", deaths.frozen_worker, 1),
    Fault(
        "the disk is full", "the run fails with that reason, the database is intact, the run resumes", storage.full, 5
    ),
    Fault("the database is read-only", "one sentence says so, nothing changes", storage.read_only, 3),
    Fault("the output folder is deleted", "the run finishes; a resume says what is gone", storage.deleted_folder, 3),
    Fault(
        "a backup is restored elsewhere and resumed",
        "the copy continues in a folder of its own, the original is untouched and continues too",
        copies.restored,
        3,
    ),
    Fault(
        "an imported run is resumed",
        "one sentence says that it has no checkpoint, nothing changes",
        copies.imported,
        3,
    ),
    Fault(
        "the database is replaced by a backup of it",
        "the run continues in a folder of its own, and with the first database back in place, in the first folder",
        copies.replaced,
        3,
    ),
    Fault("the clock jumps", "nothing is mistaken for dead, no step is lost", storage.jumping_clock, 3),
    Fault(
        "the queue holds an invalid job", "it fails with a readable message, the next job starts", storage.broken_row, 5
    ),
    Fault(
        "memory runs out", "shown as out of memory, with the setting to change; the next job starts", crowd.no_memory, 5
    ),
    Fault("four trainers and ten readers at once", "no process finds the database locked", crowd.crowd, 5),
)
HEAD = """# Fault tests

What happens to a real training of the embedded model when processes, disks, files or clocks fail. `make faults`
writes this table, and writes none unless every row holds.

| fault | expected | observed | times tried |
|---|---|---|---|
"""
ELSEWHERE = """
## Complaints about other tools

What users of other dashboards and trainers complain about, and the test that keeps it from happening here.

| complaint | test |
|---|---|
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="WORD", help="faults whose name has this in it; writes no table")
    parser.add_argument("--times", type=int, metavar="N", help="try each at most N times")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/faults.md", help="default: %(default)s")
    options = parser.parse_args()
    # More threads than free cores would make a step a hundred times slower.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    rows = []
    for fault in FAULTS:
        if options.only not in fault.name:
            continue
        times, begun = min(fault.times, options.times or fault.times), time.monotonic()
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            try:
                observed = fault.do(Path(folder), times)
            except storage.NotPossible as reason:
                times, observed = 0, f"not tried: this machine does not permit {reason}"
        print(f"{fault.name}: {observed} ({times} times, {time.monotonic() - begun:.0f} s)", flush=True)
        rows.append(f"| {fault.name} | {fault.expected} | {observed} | {times} |\n")
    if not options.only:
        cases = [f"| {complaint} | `{test}` |\n" for complaint, test in CASES]
        options.out.write_text(HEAD + "".join(rows) + ELSEWHERE + "".join(cases), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
