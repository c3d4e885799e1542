"""The commands `experiment`, which launches a matrix of runs, and `sweep`, which acts on all of its runs."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

from store.db.engine import open_store
from store.db.states import JobState
from store.experiments import get_experiment
from store.jobs import list_jobs
from store.runs import list_runs
from store.terminal import shown
from trainer.launch.experiments import extend_experiment, launch_experiment, resume_experiment, stop_experiment
from trainer.spec import benchmark, experiments
from trainer.spec.config import ConfigError, alternatives
from trainer.spec.experiments import ARMS, MODELS, Matrix

Added = Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]


def add(command: Added, launcher_option: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add both commands; `command` makes one from its name, function and help text."""
    experiment = command("experiment", experiment_command, "queue a matrix of runs with their evaluations")
    experiment.add_argument("name", help=f"{', '.join(experiments.NAMED)}, or a name for a matrix of your own")
    _factors(experiment)
    experiment.add_argument("--models", type=_words, metavar="A,B", help=f"models, from {', '.join(MODELS)}")
    experiment.add_argument("--benchmarks", type=_words, metavar="A,B", help="datasets on which all runs are evaluated")
    experiment.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="replace one field in all runs"
    )
    experiment.add_argument(
        "--thinking", action="store_true", help="also probe how much answers depend on the reasoning"
    )
    experiment.add_argument("--queue", action="store_true", help="return at once instead of waiting for all jobs")
    launcher_option(experiment)

    sweep = command("sweep", sweep_command, "show, pause, resume, stop or extend all runs of an experiment")
    sweep.add_argument("action", choices=list(ACTIONS))
    sweep.add_argument("experiment", metavar="EXPERIMENT", help="its uid, or its name (the newest of that name)")
    how = "how to stop: 1 save first, 2 at once, 3 kill"
    sweep.add_argument("--level", type=int, choices=(1, 2, 3), default=2, help=how)
    _factors(sweep, "extend: ")
    launcher_option(sweep)


def _factors(command: argparse.ArgumentParser, when: str = "") -> None:
    command.add_argument("--arms", type=_words, metavar="A,B", help=f"{when}arms, from {', '.join(ARMS)}")
    command.add_argument("--ranks", type=_numbers(int), metavar="N,N", help=f"{when}ranks of the adapter")
    command.add_argument("--rates", type=_numbers(float), metavar="X,X", help=f"{when}learning rates")
    command.add_argument("--seeds", type=_count, metavar="N", help=f"{when}runs per setting in all (default 1)")
    command.add_argument(
        "--vary", action="append", default=[], metavar="KEY=V,V", help=f"{when}a further field and its values"
    )


def experiment_command(options: argparse.Namespace) -> int:
    store = open_store(options.db)
    matrix = _requested_matrix(options)
    uid = launch_experiment(store, options.name, matrix, launcher=options.launcher)
    print(f"queued experiment {uid}: {len(experiments.plan_runs(matrix))} runs")
    if options.queue:
        return 0
    jobs = import_module("trainer.launch.queue").wait(store, get_experiment(store, uid).arms)
    return int(any(job.state != JobState.FINISHED for job in jobs))


def _requested_matrix(options: argparse.Namespace) -> Matrix:
    """Return the named matrix, or the one that the options describe. Raises ConfigError."""
    if options.name not in experiments.NAMED and not options.arms:
        known_names, arms = ", ".join(experiments.NAMED), ", ".join(ARMS)
        raise ConfigError(f"Name an experiment ({known_names}), or list arms with --arms, separated by commas: {arms}.")
    base = experiments.NAMED.get(options.name) or Matrix(arms=options.arms)
    changed = _changed(options) | {"settings": tuple(_one(text) for text in options.set)}
    if options.models is not None:
        changed |= {"models": options.models, "benchmarks": benchmark.drawn_datasets(options.models)}
    if options.benchmarks is not None:
        changed["benchmarks"] = options.benchmarks
    if options.thinking:
        changed["thinking"] = True
    return replace(base, **changed)


def _changed(options: argparse.Namespace) -> dict[str, Any]:
    changes = {
        name: getattr(options, name) for name in ("arms", "ranks", "rates") if getattr(options, name) is not None
    }
    if options.seeds is not None:
        changes["seeds"] = tuple(range(options.seeds))
    return changes | {"varied": tuple(alternatives(text) for text in options.vary)}


def _one(text: str) -> tuple[str, Any]:
    key, values = alternatives(text)
    if len(values) != 1:
        raise ConfigError(f"--set {text}: give one value, or use --vary for several.")
    return key, values[0]


def sweep_command(options: argparse.Namespace) -> int:
    print(shown(ACTIONS[options.action](options)))
    return 0


def _show(options: argparse.Namespace) -> str:
    store = open_store(options.db, readonly=True)
    experiment = get_experiment(store, options.experiment)
    rows = list_runs(store, ids=list(experiment.arms))
    counts = Counter(row.status or "without jobs" for row in rows)
    states = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in counts.most_common())
    lines = [f"{experiment.name} ({experiment.uid}): {len(rows)} runs, {states}"]
    return "\n".join([*lines, *(f"{row.uid}  {row.name}  {row.status}  step {row.step}" for row in reversed(rows))])


def _pause(options: argparse.Namespace) -> str:
    count = stop_experiment(open_store(options.db, must_exist=True), options.experiment)
    return f"asked {count} jobs to pause; running jobs finish their step and save, and resume continues from there"


def _stop(options: argparse.Namespace) -> str:
    store = open_store(options.db, must_exist=True)
    return f"asked {stop_experiment(store, options.experiment, options.level)} jobs to stop"


def _resume(options: argparse.Namespace) -> str:
    store = open_store(options.db, must_exist=True)
    count = resume_experiment(store, options.experiment)
    members = get_experiment(store, options.experiment).arms
    waiting = sum(job.run_id in members for job in list_jobs(store, open_only=True))
    return f"queued {count} jobs again; {waiting} are queued or running"


def _extend(options: argparse.Namespace) -> str:
    store = open_store(options.db, must_exist=True)
    matrix = experiments.from_stored(get_experiment(store, options.experiment).matrix)
    empty = replace(matrix, arms=(), ranks=(), rates=(), seeds=(), varied=())
    count = extend_experiment(store, options.experiment, replace(empty, **_changed(options)), launcher=options.launcher)
    return f"queued {count} more runs"


ACTIONS = {"show": _show, "pause": _pause, "resume": _resume, "stop": _stop, "extend": _extend}


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    def numbers(text: str) -> tuple[Any, ...]:
        return tuple(kind(part) for part in _words(text))

    return numbers


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
