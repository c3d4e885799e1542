"""The trainer's command line: `python -m trainer run | eval | stop | preflight | queue | job`.

Exit codes: 0 finished, 1 failed, 2 a configuration or name that cannot be used, 130 or 143 stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from store import read, write
from store.engine import Store, StoreError, database_url, open_store, sqlite_path
from store.rows import JobRef, RunRef
from trainer import config as configs
from trainer import launch
from trainer.config import ConfigError, RunConfig
from trainer.job import BAD_CONFIG, FAILED, FINISHED, execute
from trainer.launch import local

NICENESS = 5
"""A job in the background gives way to the dashboard."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except (ConfigError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_CONFIG
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m trainer", description="Train and evaluate counting models.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = _command(commands, "run", run_command, "train, here or by the queue")
    what = run.add_mutually_exclusive_group(required=True)
    _config_options(run, what)
    what.add_argument("--resume", metavar="RUN", help="go on with a run from its last checkpoint")
    run.add_argument("--queue", action="store_true", help="leave it to the queue and return at once")

    evaluation = _command(commands, "eval", eval_command, "evaluate a run's checkpoint or a model as it is")
    what = evaluation.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", metavar="RUN", help="name or uid of a run")
    what.add_argument("--model", metavar="ID", help="tiny, a local folder or a hub id; makes a run without training")
    evaluation.add_argument("--checkpoint", metavar="STEP|best|last", default="best")
    evaluation.add_argument("--benchmark", metavar="NAME", help="dataset; default: the run's own")
    evaluation.add_argument("--limit", type=positive_number, metavar="N", help="at most N examples")
    evaluation.add_argument("--forced-prefix", default="", metavar="TEXT", help="put into the model's mouth")

    preflight = _command(commands, "preflight", preflight_command, "check a configuration without training")
    _config_options(preflight, preflight.add_mutually_exclusive_group(required=True))
    preflight.add_argument("--json", action="store_true", help="print the whole report as JSON")

    stop = _command(commands, "stop", stop_command, "ask a run's job to stop")
    stop.add_argument("run", metavar="RUN")
    stop.add_argument("--level", type=int, choices=(1, 2, 3), default=1, help="1 save first, 2 at once, 3 kill")

    _command(commands, "queue", queue_command, "start queued jobs one after the other until there are none")
    job = _command(commands, "job", job_command, "execute one queued job in this process")
    job.add_argument("uid", metavar="UID")
    return top


def _command(commands: Any, name: str, function: Any, words: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=words, description=words.capitalize() + ".")
    made.add_argument("--db", metavar="URL", help="database: a path or an SQLAlchemy URL")
    made.set_defaults(command=function)
    return made


def _config_options(command: argparse.ArgumentParser, what: Any) -> None:
    what.add_argument("--config", type=Path, metavar="FILE.yaml", help="a RunConfig as YAML")
    what.add_argument("--preset", metavar="NAME", help=", ".join(configs.PRESETS))
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace one field")


def run_command(options: argparse.Namespace) -> int:
    if options.resume and options.set:
        raise ConfigError("--set cannot be used with --resume: a run keeps its configuration. Launch a new run.")
    config = None if options.resume else _config(options)
    store = open_store(options.db)
    if config is None:
        run_id = read.resolve(store, options.resume)
        job = launch.add_resume(store, run_id)
        run = RunRef(run_id, read.run(store, run_id).uid)
    else:
        run, job = launch.create(store, config)
    if options.queue:
        launch.ensure_worker(store)
        print(f"queued run {run.uid}")
        return FINISHED
    return _execute(store, run.id, job)


def eval_command(options: argparse.Namespace) -> int:
    arguments = {"checkpoint": options.checkpoint, "limit": options.limit, "forced_prefix": options.forced_prefix}
    if options.benchmark:
        _check_benchmark(options.benchmark)
        arguments["benchmark"] = options.benchmark
    store = open_store(options.db)
    if options.run:
        run_id = read.resolve(store, options.run)
        return _execute(store, run_id, write.add_job(store, run_id, "evaluate", arguments))
    run, job = launch.create(store, _model_only(options.model, options.benchmark), arguments=arguments)
    return _execute(store, run.id, job)


def preflight_command(options: argparse.Namespace) -> int:
    path = sqlite_path(make_url(database_url(options.db)))
    folder = path.parent if path else Path.cwd()
    report = import_module("trainer.preflight").preflight(_config(options), folder)
    if options.json:
        print(json.dumps(report))
    else:
        print("\n".join(f"{check['level']:4} {check['name']}: {check['sentence']}" for check in report["checks"]))
    return FAILED if any(check["level"] == "fail" for check in report["checks"]) else FINISHED


def stop_command(options: argparse.Namespace) -> int:
    store = open_store(options.db)
    job = read.run(store, read.resolve(store, options.run)).job
    print(launch.stop(store, job, options.level) if job else "The run never had a job.")
    return FINISHED


def queue_command(options: argparse.Namespace) -> int:
    import_module("trainer.launch.queue").work(open_store(options.db))
    return FINISHED


def job_command(options: argparse.Namespace) -> int:
    os.nice(NICENESS)
    store = open_store(options.db)
    job = read.job(store, options.uid)
    log = local.log_path(store, job.run_uid) if local.JOB_VARIABLE in os.environ else None
    return execute(store, job, log_path=log)


def _execute(store: Store, run_id: int, job: JobRef) -> int:
    """Executes a job in the foreground."""
    run = read.run(store, run_id)
    print(
        f"run {run.uid} ({run.name}): {run.method} on {run.model}, {run.dataset}; output in {run.output_dir}",
        flush=True,
    )
    return execute(store, read.job(store, job.uid))


def _config(options: argparse.Namespace) -> RunConfig:
    config = configs.load(options.config) if options.config else configs.preset(options.preset)
    settings = {}
    for text in options.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: write KEY=VALUE, for example optimization.steps=20.")
        settings[key] = value
    return configs.override(config, settings)


def _model_only(model: str, benchmark: str | None) -> RunConfig:
    data = {"dataset": benchmark} if benchmark else {}
    return configs.from_dict({"method": "none", "model": {"id": model}, "data": data})


def _check_benchmark(name: str) -> None:
    if name not in configs.DATASETS:
        raise ConfigError(f"--benchmark: unknown dataset {name!r}. Choose one of {', '.join(configs.DATASETS)}.")


def positive_number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
