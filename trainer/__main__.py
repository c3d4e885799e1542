"""The trainer's command line: `python -m trainer run | eval | embed | experiment | sweep | export | stop | data | …`.

Exit codes: 0 finished, 1 failed, 2 a configuration or name that cannot be used, 74 a disk or database that refuses,
130 or 143 stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from store.db import private
from store.db.engine import Store, StoreError, database_url, open_store, sqlite_path
from store.db.rows import JobRef, JobRow, RunRef
from store.db.states import Launcher
from store.jobs import add_job, get_job, list_jobs
from store.runs import get_run, list_runs, resolve_run
from store.terminal import shown
from trainer import data_commands as data_of
from trainer import launch
from trainer.jobs import quiet, ranks, results, telemetry
from trainer.jobs.job import BAD_CONFIG, FAILED, FINISHED, execute
from trainer.launch import cluster, devices, experiment_commands, folders, identity, indexing, local, threads
from trainer.spec import benchmark
from trainer.spec import config as configs
from trainer.spec.config import ConfigError, DataConfig, EvaluationConfig, RunConfig
from trainer.spec.errors import TrainerError

NICENESS = 5
"""Jobs in the background run at lower priority than the dashboard."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = parser().parse_args(arguments)
    telemetry.keep_off()
    quiet.keep_quiet()
    try:
        return int(options.command(options))
    except (ConfigError, StoreError, TrainerError) as error:
        print(shown(f"error: {_said(error, options)}"), file=sys.stderr)
        return BAD_CONFIG
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _said(error: Exception, options: argparse.Namespace) -> str:
    """Return an error in terms of the command's own options: `data` and `eval` take the dataset's folder as --path."""
    if "path" not in options:
        return str(error)
    return str(error).replace("data.dataset: ", "").replace("data.path: ", "").replace("data.path", "--path")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m trainer", description="Train and evaluate counting models.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = _command(commands, "run", run_command, "train, here or by the queue")
    what = run.add_mutually_exclusive_group(required=True)
    _config_options(run, what)
    what.add_argument("--resume", metavar="RUN", help="go on with a run from its last checkpoint")
    run.add_argument("--queue", action="store_true", help="leave it to the queue and return at once")
    _launcher_option(run)

    evaluation = _command(commands, "eval", eval_command, "evaluate a run's checkpoint or a model as it is")
    what = evaluation.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", metavar="RUN", help="name or uid of a run")
    what.add_argument(
        "--model", metavar="ID", help="tiny, tiny-board, a local folder or a hub id; makes a run without training"
    )
    evaluation.add_argument("--checkpoint", metavar="STEP|best|last|final", default="best", help="0 is the base")
    evaluation.add_argument(
        "--benchmark", metavar="NAME", help="dataset, or DATASET:simple and :complex; default: the run's own"
    )
    evaluation.add_argument("--path", type=Path, metavar="FOLDER", help="folder of the benchmark's files")
    evaluation.add_argument("--limit", type=positive_number, metavar="N", help="at most N examples")
    evaluation.add_argument("--samples", type=positive_number, metavar="K", help="K samples an example: pass@k, maj@K")
    evaluation.add_argument(
        "--baseline",
        choices=("blind", "shuffled", "majority"),
        help="image blanked, another example's image, or the most frequent answer of the training questions",
    )
    evaluation.add_argument(
        "--thinking", action="store_true", help="CoT-faithfulness probe: answer again after altered reasoning"
    )
    evaluation.add_argument("--forced-prefix", default="", metavar="TEXT", help="put into the model's mouth")

    embed = _command(commands, "embed", embed_command, "embed what runs said, for the figures of style drift")
    which = embed.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", nargs="+", metavar="RUN", help="names or uids of runs")
    which.add_argument("--all", action="store_true", help="every run that thinks")
    embed.add_argument("--encoder", metavar="NAME", default=EvaluationConfig().encoder, help="default: %(default)s")
    embed.add_argument("--queue", action="store_true", help="leave it to the queue and return at once")

    experiment_commands.add(partial(_command, commands), _launcher_option)

    preflight = _command(commands, "preflight", preflight_command, "check a configuration without training")
    _config_options(preflight, preflight.add_mutually_exclusive_group(required=True))
    preflight.add_argument("--json", action="store_true", help="print the whole report as JSON")
    preflight.add_argument("--calibrate", action="store_true", help="do one real update and say how long it took")

    machine = _command(commands, "machine", machine_command, "say what this machine computes with")
    machine.add_argument("--json", action="store_true", help="print it as JSON")

    export = _command(commands, "export", export_run_command, "write a run's checkpoint into a folder, with a card")
    export.add_argument("--run", metavar="RUN", required=True, help="name or uid of a run")
    export.add_argument("--checkpoint", metavar="STEP|best|last|final", default="best")
    export.add_argument("--to", type=Path, metavar="FOLDER", required=True, help="a new or empty folder")
    export.add_argument("--merge", action="store_true", help="the whole model with the adapter merged into it")

    tokens = _command(commands, "tokens", tokens_command, "measure the tokens of one completion")
    tokens.add_argument("--run", metavar="RUN", required=True, help="name or uid of a run")
    tokens.add_argument("--completion", type=positive_number, metavar="ID", required=True, help="its number")

    stop = _command(commands, "stop", stop_command, "ask a run's job to stop")
    stop.add_argument("run", metavar="RUN")
    stop.add_argument("--level", type=int, choices=(1, 2, 3), default=1, help="1 save first, 2 at once, 3 kill")

    data = commands.add_parser("data", help="look at a dataset", description="Look at a dataset.")
    actions = data.add_subparsers(required=True, metavar="ACTION")
    inspect = _data_command(
        actions, "inspect", data_of.inspect_command, "say what a dataset holds and what was skipped"
    )
    inspect.add_argument("--split", metavar="SPLIT", help="one split of the source; default: all that are there")
    inspect.add_argument("--json", action="store_true", help="print the summary as JSON")
    index = _data_command(
        actions, "index", data_of.index_command, "store a dataset's examples and figures for the dashboard"
    )
    index.add_argument("--split", metavar="SPLIT", help="one split of the source; default: all that are there")
    index.add_argument(
        "--limit",
        type=positive_number,
        default=indexing.DEFAULT_LIMIT,
        metavar="N",
        help="the first N usable questions of a split (default: %(default)s)",
    )
    index.add_argument("--db", metavar="URL", help="database: a path or an SQLAlchemy URL")
    export = _data_command(actions, "export", data_of.export_command, "write every usable question as a line of JSON")
    export.add_argument("--split", metavar="SPLIT", required=True, help="a split of the source: train, val or test")
    export.add_argument("--jsonl", metavar="FILE", required=True, help="file to write; - is the screen")

    _command(commands, "queue", queue_command, "start queued jobs one after the other until there are none")
    _command(commands, "ray", ray_command, "hand queued jobs to the Ray cluster and watch them until there are none")
    job = _command(commands, "job", job_command, "execute one queued job in this process")
    job.add_argument("uid", metavar="UID")
    rank = _command(commands, "rank", rank_command, "one of the processes of a job, which starts them itself")
    rank.add_argument("uid", metavar="UID")
    return top


def _command(commands: Any, name: str, function: Any, words: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=words, description=words.capitalize() + ".")
    made.add_argument("--db", metavar="URL", help="database: a path or an SQLAlchemy URL")
    made.set_defaults(command=function)
    return made


def _data_command(actions: Any, name: str, function: Any, words: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = actions.add_parser(name, help=words, description=words.capitalize() + ".")
    made.add_argument("dataset", metavar="NAME", help=f"{', '.join(configs.DATASETS)}, or FILE.py:function")
    made.add_argument("--path", type=Path, metavar="FOLDER", help="folder that holds the dataset")
    made.set_defaults(command=function)
    return made


def _launcher_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--launcher",
        choices=list(Launcher),
        default=Launcher.LOCAL,
        help=f"this host, or by the queue of the Ray cluster that {cluster.ADDRESS} names",
    )


def _config_options(command: argparse.ArgumentParser, what: Any) -> None:
    what.add_argument("--config", type=Path, metavar="FILE.yaml", help="a RunConfig as YAML")
    what.add_argument("--preset", metavar="NAME", help=", ".join(configs.PRESETS))
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="replace one field")


def run_command(options: argparse.Namespace) -> int:
    if options.resume and options.set:
        raise ConfigError("--set cannot be used with --resume: a run keeps its configuration. Launch a new run.")
    config = None if options.resume else _config(options)
    store = open_store(options.db, must_exist=bool(options.resume))
    launcher = options.launcher
    launch.check(store, launcher)
    if config is None:
        run_id = resolve_run(store, options.resume)
        job = launch.add_resume(store, run_id, launcher=launcher)
        run = RunRef(run_id, get_run(store, run_id).uid)
    else:
        run, job = launch.create(store, config, launcher=launcher)
    if options.queue or launcher == Launcher.RAY:
        launch.tell(store, launcher)
        print(f"queued run {run.uid}")
        return FINISHED
    return _execute(store, run.id, job)


def eval_command(options: argparse.Namespace) -> int:
    arguments = {"checkpoint": options.checkpoint, "limit": options.limit, "forced_prefix": options.forced_prefix}
    named = {"benchmark": options.benchmark, "samples": options.samples, "baseline": options.baseline}
    named["thinking"] = options.thinking
    arguments |= {name: value for name, value in named.items() if value}
    if options.path:
        arguments["path"] = str(options.path.expanduser().absolute())
    if options.benchmark or not options.run:
        asked = options.benchmark or benchmark.drawn([options.model])[0]
        data = data_of.data_config(benchmark.split(asked)[0], options.path)
    store = open_store(options.db, must_exist=bool(options.run))
    if options.run:
        run_id = resolve_run(store, options.run)
        if options.checkpoint != "0" and options.baseline != "majority":
            _need_checkpoint(store, run_id)
        return _execute(store, run_id, add_job(store, run_id, "evaluate", arguments))
    run, job = launch.create(store, _model_only(options.model, data), arguments=arguments)
    return _execute(store, run.id, job)


def embed_command(options: argparse.Namespace) -> int:
    store = open_store(options.db, must_exist=True)
    if options.all:
        runs = [run.id for run in list_runs(store) if run.style == "cot"]
    else:
        runs = [resolve_run(store, name) for name in options.run]
    if options.queue:
        print(f"queued {len(launch.embed(store, runs, options.encoder))} jobs")
        return FINISHED
    for job in launch.add_embeddings(store, runs, options.encoder):
        code = _work(store, get_job(store, job.uid))
        if code != FINISHED:
            return code
    return FINISHED


def preflight_command(options: argparse.Namespace) -> int:
    path = sqlite_path(make_url(database_url(options.db)))
    folder = path.parent if path else Path.cwd()
    devices.pin(1, _taken(open_store(options.db, readonly=True)) if path is None or path.exists() else ())
    config = _config(options)
    threads.apply(config.model_dump(mode="json"))
    report = import_module("trainer.preflight").preflight(config, folder, measure=options.calibrate)
    if options.json:
        print(json.dumps(report))
    else:
        print(
            "\n".join(shown(f"{check['level']:4} {check['name']}: {check['sentence']}") for check in report["checks"])
        )
    return FAILED if any(check["level"] == "fail" for check in report["checks"]) else FINISHED


def machine_command(options: argparse.Namespace) -> int:
    found = import_module("trainer.fit.machine").describe()
    if options.json:
        print(json.dumps(found))
        return FINISHED
    for device in found["devices"]:
        print(f"{device['name']}: {device['free'] / 2**30:.1f} of {device['total'] / 2**30:.1f} GiB free")
    free, total = (found[name] / 2**30 for name in ("memory_available", "memory"))
    print(f"CPU: {found['threads']} threads, {free:.1f} of {total:.1f} GiB free")
    return FINISHED


def export_run_command(options: argparse.Namespace) -> int:
    store = open_store(options.db, must_exist=True)
    run_id = resolve_run(store, options.run)
    _need_checkpoint(store, run_id)
    folder = options.to.expanduser()
    export = import_module("trainer.train.export").export
    step = export(store, run_id, options.checkpoint, folder, merge=options.merge)
    print(f"step {step} is in {folder.absolute()}")
    return FINISHED


def tokens_command(options: argparse.Namespace) -> int:
    store = open_store(options.db, must_exist=True)
    run_id = resolve_run(store, options.run)
    _need_checkpoint(store, run_id)
    return _execute(store, run_id, add_job(store, run_id, "tokens", {"completion": options.completion}))


def stop_command(options: argparse.Namespace) -> int:
    store = open_store(options.db, must_exist=True)
    run = get_run(store, resolve_run(store, options.run))
    # The job at hand may be an evaluation of a run that was trained long ago.
    open_jobs = list_jobs(store, open_only=True, run_id=run.id)
    job = open_jobs[0] if open_jobs else run.job
    print(shown(launch.stop(store, job, options.level)) if job else "The run never had a job.")
    return FINISHED


def queue_command(options: argparse.Namespace) -> int:
    import_module("trainer.launch.queue").work(open_store(options.db))
    return FINISHED


def ray_command(options: argparse.Namespace) -> int:
    import_module("trainer.launch.ray_jobs").work(open_store(options.db))
    return FINISHED


def job_command(options: argparse.Namespace) -> int:
    os.nice(NICENESS)
    store = open_store(options.db)
    job = get_job(store, options.uid)
    log = local.log_path(store, job.run_uid) if local.JOB_VARIABLE in os.environ else None
    if job.launcher == Launcher.RAY:
        log = cluster.log_path(store, job.run_uid, job.uid)
    return _work(store, job, log)


def rank_command(options: argparse.Namespace) -> int:
    training = import_module("trainer.train.training")
    store = open_store(options.db, readonly=not ranks.is_first())
    return ranks.work(lambda: training.run_job(store, get_job(store, options.uid).id))


def _need_checkpoint(store: Store, run_id: int) -> None:
    """Raise ConfigError if this machine has no checkpoint of a run, before a job is made that would fail."""
    problem = folders.why_not_evaluated(store, get_run(store, run_id))
    if problem is not None:
        raise ConfigError(problem)


def _execute(store: Store, run_id: int, job: JobRef) -> int:
    """Execute a job in the foreground, and say what its evaluations found."""
    run, begun = get_run(store, run_id), time.time()
    print(
        shown(f"run {run.uid} ({run.name}): {run.method} on {run.model}, {run.dataset}; output in {run.output_dir}"),
        flush=True,
    )
    code = _work(store, get_job(store, job.uid))
    for line in results.told(store, run_id, begun) if code == FINISHED else ():
        print(shown(line))
    return code


def _work(store: Store, job: JobRow, log: Path | None = None) -> int:
    """Execute a job on its own devices: those that its queue assigned, or free ones of this host."""
    device = None
    if job.device is None and job.launcher == Launcher.LOCAL:
        device = devices.pin(int(job.arguments.get("processes", 1)), _taken(store))
    threads.apply(get_run(store, job.run_id).config)
    return execute(store, job, log_path=log, device=device)


def _taken(store: Store) -> set[str]:
    """Return the devices held by this host's jobs."""
    held = [job.device for job in list_jobs(store, open_only=True) if job.host == identity.host() and job.device]
    return {device for names in held for device in names.split(",")}


def _config(options: argparse.Namespace) -> RunConfig:
    config = configs.load(options.config) if options.config else configs.preset(options.preset)
    settings = {}
    for text in options.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: write KEY=VALUE, for example optimization.steps=20.")
        settings[key] = value
    return configs.override(config, settings)


def _model_only(model: str, data: DataConfig) -> RunConfig:
    return configs.from_dict({"method": "none", "model": {"id": model}, "data": data.model_dump()})


def positive_number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    if sys.argv[1:2] != ["export"]:  # exported text is meant for other programs: the shell decides its encoding
        os.umask(private.UMASK)
    sys.exit(main())
