"""Write the recorded experiment that comes with the project, from a database with its runs.

    python -m scripts.record_demo --db DB [--out FOLDER]
    python -m scripts.record_demo --commands      # print the commands that make the runs, in order

The runs are put into one experiment and exported completely, with every step, completion, image and evaluation. Nothing
is selected or edited. The folder may have at most 15 MB."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.recorded import FOLDER, Manifest, Stop
from store.care import transfer
from store.db.engine import Store, StoreError, open_store
from store.db.rows import RunDetail
from store.db.states import JobState
from store.experiments import add_to_experiment, create_experiment, list_experiments
from store.runs import get_run, list_run_heads, resolve_run

ARMS = {
    "demo-grpo": "GRPO CoT",
    "demo-sft": "SFT CoT",
    "demo-collapse": "GRPO collapse",
    "none-tiny-board-r32": "zero-shot CoT",
}
"""Arms of the runs by name."""
BASE, LIMIT = "none-tiny-board-r32", 200
EXPERIMENT = "Recorded: reward, imitation and the base model"
BENCHMARKS = ("board-complex", "board-hard")
MOST_BYTES = 15_000_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.record_demo", description=__doc__.splitlines()[0])
    parser.add_argument("--db", metavar="DB", help="database URL or SQLite file with the finished runs")
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=FOLDER, help="default: %(default)s")
    parser.add_argument("--commands", action="store_true", help="print the commands that make the runs, and end")
    options = parser.parse_args()
    if options.commands:
        print("\n".join(commands(tuple(ARMS))))
        return 0
    try:
        with closing(open_store(options.db)) as store:
            size = record(store, options.out)
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.out} is written: {size / 1e6:.1f} MB.")
    return 0 if size <= MOST_BYTES else 1


def commands(names: Sequence[str]) -> tuple[str, ...]:
    """Return the commands that make the runs of these names, in their order."""
    made = [f"python -m trainer run --preset {name} --db DB" for name in names if name != BASE]
    if BASE in names:
        made.append(f"python -m trainer eval --model tiny-board --benchmark board-simple --limit {LIMIT} --db DB")
    for name in names:
        arguments = f"--run {name} --checkpoint {0 if name == BASE else 'best'}"
        made += [
            f"python -m trainer eval {arguments} --benchmark {each} --limit {LIMIT} --db DB" for each in BENCHMARKS
        ]
    return (*made, "python -m scripts.record_demo --db DB")


def record(store: Store, folder: Path) -> int:
    """Export the runs and describe them; return the bytes written. Raises StoreError."""
    ended = {row.name for row in list_run_heads(store) if row.status == JobState.FINISHED}
    runs = [get_run(store, resolve_run(store, name)) for name in ARMS if name in ended]
    if not any(row.name == EXPERIMENT for row in list_experiments(store)):
        create_experiment(store, name=EXPERIMENT, matrix={"arms": list(ARMS.values())})
    experiment = next(row for row in list_experiments(store) if row.name == EXPERIMENT)
    for run in runs:
        if run.id not in experiment.arms:
            add_to_experiment(store, experiment.id, run.id, ARMS[run.name])
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.zip"):
        old.unlink()
    for run in runs:
        transfer.export_runs(store, [run.id], folder / f"{run.name}.zip")
    described = describe(runs, folder)
    text = json.dumps(described.model_dump(mode="json"), indent=1, ensure_ascii=False)
    (folder / "manifest.json").write_text(f"{text}\n", encoding="utf-8")
    return sum(path.stat().st_size for path in folder.iterdir())


def describe(runs: list[RunDetail], folder: Path) -> Manifest:
    first = runs[0]
    environment: dict[str, Any] = first.environment
    recorded = datetime.fromtimestamp(max(run.created_at for run in runs), UTC)
    return Manifest(
        recorded_on=recorded.date().isoformat(),
        commit=str(environment.get("git_commit") or "unknown"),
        machine=f"{str(environment.get('device', 'cpu')).upper()}, {environment.get('threads')} thread a run",
        commands=commands([run.name for run in runs]),
        runs={run.uid: f"{run.name}.zip" for run in runs},
        hashes={file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*.zip"))},
        stops=stops({run.name: run.uid for run in runs}),
    )


def stops(uids: dict[str, str]) -> tuple[Stop, ...]:
    """Return the stops of the tour over these runs."""
    grpo, sft, base, collapse = (uids[name] for name in ("demo-grpo", "demo-sft", BASE, "demo-collapse"))
    return (
        Stop(
            page="run",
            query={"run": grpo},
            title="It learns",
            sentence="Reward, held-out accuracy and reasoning steps rise together, with reward as the only "
            "training signal.",
        ),
        Stop(
            page="traces",
            query={"run": grpo, "step": "1"},
            title="The start",
            sentence="Most of the first answers are malformed: few have one think block and one answer block. "
            "Press the right arrow key to move through training.",
        ),
        Stop(
            page="emergence",
            query={"run": grpo},
            title="The format locks in",
            sentence="The cards name the steps at which format, numbered reasoning and accuracy emerge, each with a "
            "trace from just before and just after.",
        ),
        Stop(
            page="find",
            query={"run": grpo, "judged": "Wrong", "sort": "Most reasoning steps"},
            title="Where it goes wrong",
            sentence="Wrong answers with the most steps come first: count along in the image to find the step that "
            "goes wrong.",
        ),
        Stop(
            page="compare",
            query={"run": grpo, "runs": f"{grpo},{sft},{base}"},
            title="Reward vs imitation",
            sentence="The tables compare both methods on the same held-out images, with confidence intervals.",
        ),
        Stop(
            page="drift",
            query={"run": grpo, "runs": f"{sft},{grpo}"},
            title="Two styles",
            sentence="SFT writes like its annotators, GRPO developed its own style: read them side by side.",
        ),
        Stop(
            page="emergence",
            query={"run": collapse},
            title="Reward can be gamed",
            sentence="This run rewards steps too much: reward rises while it pads its lists and accuracy collapses.",
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
