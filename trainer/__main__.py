"""The trainer's command line: `python -m trainer run | eval | embed | experiment | sweep | export | stop | data | …`.

Exit codes: 0 finished, 1 failed, 2 invalid configuration or name, 74 disk or database error, 130 or 143 stopped.
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
from trainer import data_commands, launch
from trainer.jobs import quiet, ranks, results, telemetry
from trainer.jobs.job import BAD_CONFIG, FAILED, FINISHED, execute
from trainer.launch import cluster, devices, experiment_commands, folders, identity, local, threads
from trainer.spec import benchmark
from trainer.spec import config as configs
from trainer.spec.config import ConfigError, DataConfig, EvaluationConfig, RunConfig
from trainer.spec.errors import TrainerError

NICENESS = 5
"""Niceness of background jobs, which run at lower priority than the dashboard."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = parser().parse_args(arguments)
    telemetry.keep_off()
    quiet.keep_quiet()
    try:
        return int(options.command(options))
    except (ConfigError, StoreError, TrainerError) as error:
        print(shown(f"error: {_message(error, options)}"), file=sys.stderr)
        return BAD_CONFIG
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _message(error: Exception, options: argparse.Namespace) -> str:
    """Return an error with the command's own option: `data` and `eval` take the dataset's folder as --path."""
    if "path" not in options:
        return str(error)
    return str(error).replace("data.dataset: ", "").replace("data.path: ", "").replace("data.path", "--path")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m trainer", description="Train and evaluate counting models.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = _command(commands, "run", run_command, "train in the foreground, or through the queue")
    exclusive = run.add_mutually_exclusive_group(required=True)
    _config_options(run, exclusive)
    exclusive.add_argument("--resume", metavar="RUN", help="continue a run from its last checkpoint")
    run.add_argument("--queue", action="store_true", help="queue the job and return at once")
    _launcher_option(run)

    _evaluation_options(
        _command(commands, "eval", eval_command, "evaluate a run's checkpoint, or a model without training")
    )

    embed = _command(commands, "embed", embed_command, "embed the answers of runs, for the Drift page")
    runs_group = embed.add_mutually_exclusive_group(required=True)
    runs_group.add_argument("--run", nargs="+", metavar="RUN", help="names or uids of runs")
    runs_group.add_argument("--all", action="store_true", help="every run of style cot")
    embed.add_argument("--encoder", metavar="NAME", default=EvaluationConfig().encoder, help="default: %(default)s")
    embed.add_argument("--queue", action="store_true", help="queue the jobs and return at once")

    experiment_commands.add(partial(_command, commands), _launcher_option)

    preflight = _command(commands, "preflight", preflight_command, "check a configuration without training")
    _config_options(preflight, preflight.add_mutually_exclusive_group(required=True))
    preflight.add_argument("--json", action="store_true", help="print the whole report as JSON")
    preflight.add_argument("--calibrate", action="store_true", help="time one real update")

    machine = _command(commands, "machine", machine_command, "show this machine's devices and memory")
    machine.add_argument("--json", action="store_true", help="print as JSON")

    export = _command(commands, "export", export_run_command, "write a checkpoint to a folder, with a model card")
    export.add_argument("--run", metavar="RUN", required=True, help="name or uid of a run")
    export.add_argument("--checkpoint", metavar="STEP|best|last|final", default="best")
    export.add_argument("--to", type=Path, metavar="FOLDER", required=True, help="a new or empty folder")
    export.add_argument("--merge", action="store_true", help="write the whole model, with the adapter merged")

    tokens = _command(commands, "tokens", tokens_command, "measure the tokens of one completion")
    tokens.add_argument("--run", metavar="RUN", required=True, help="name or uid of a run")
    tokens.add_argument("--completion", type=positive_number, metavar="ID", required=True, help="its id")

    stop = _command(commands, "stop", stop_command, "ask a run's job to stop")
    stop.add_argument("run", metavar="RUN")
    stop.add_argument("--level", type=int, choices=(1, 2, 3), default=1, help="1 save first, 2 at once, 3 kill")

    data_commands.add(commands, positive_number)

    _command(commands, "queue", queue_command, "start queued jobs, one per device, until none are left")
    _command(commands, "ray", ray_command, "submit queued jobs to the Ray cluster and watch them until none are left")
    job = _command(commands, "job", job_command, "run one queued job in this process")
    job.add_argument("uid", metavar="UID")
    rank = _command(commands, "rank", rank_command, "run one process of a job (jobs start these themselves)")
    rank.add_argument("uid", metavar="UID")
    return top


def _command(commands: Any, name: str, function: Any, help_text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=help_text, description=help_text.capitalize() + "."
    )
    command.add_argument("--db", metavar="URL", help="database path or SQLAlchemy URL")
    command.set_defaults(command=function)
    return command


def _evaluation_options(command: argparse.ArgumentParser) -> None:
    exclusive = command.add_mutually_exclusive_group(required=True)
    exclusive.add_argument("--run", metavar="RUN", help="name or uid of a run")
    exclusive.add_argument(
        "--model", metavar="ID", help="tiny, tiny-board, a local folder or a hub id; creates a run without training"
    )
    command.add_argument(
        "--checkpoint",
        metavar="STEP|best|last|final",
        default="best",
        help="default: %(default)s; 0 is the base model",
    )
    command.add_argument(
        "--benchmark", metavar="NAME", help="a dataset, DATASET:simple or DATASET:complex; default: the run's own"
    )
    command.add_argument("--path", type=Path, metavar="FOLDER", help="folder with the benchmark's files")
    command.add_argument("--limit", type=positive_number, metavar="N", help="at most N examples")
    command.add_argument(
        "--samples", type=positive_number, metavar="K", help="draw K samples per example, for pass@k and maj@K"
    )
    command.add_argument(
        "--baseline",
        choices=("blind", "shuffled", "majority"),
        help="blind: blank images; shuffled: images of other examples; majority: the most frequent training answer",
    )
    command.add_argument(
        "--thinking", action="store_true", help="CoT-faithfulness probe: answer again after altering the reasoning"
    )
    command.add_argument("--forced-prefix", default="", metavar="TEXT", help="text that begins every completion")


def _launcher_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--launcher",
        choices=list(Launcher),
        default=Launcher.LOCAL,
        help=f"local: this host (default); ray: the Ray cluster at ${cluster.ADDRESS}",
    )


def _config_options(command: argparse.ArgumentParser, exclusive: Any) -> None:
    exclusive.add_argument("--config", type=Path, metavar="FILE.yaml", help="a RunConfig as YAML")
    exclusive.add_argument("--preset", metavar="NAME", help=", ".join(configs.PRESETS))
    words = "replace one field, such as optimization.steps=20; repeatable"
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=words)


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
        launch.notify_launcher(store, launcher)
        print(f"queued run {run.uid}")
        return FINISHED
    return _execute(store, run.id, job)


def eval_command(options: argparse.Namespace) -> int:
    arguments = {"checkpoint": options.checkpoint, "limit": options.limit, "forced_prefix": options.forced_prefix}
    optional = {"benchmark": options.benchmark, "samples": options.samples, "baseline": options.baseline}
    optional["thinking"] = options.thinking
    arguments |= {name: value for name, value in optional.items() if value}
    if options.path:
        arguments["path"] = str(options.path.expanduser().absolute())
    if options.benchmark or not options.run:
        benchmark_name = options.benchmark or benchmark.drawn_datasets([options.model])[0]
        data = data_commands.data_config(benchmark.split(benchmark_name)[0], options.path)
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
    store = open_store(options.db, readonly=True) if path is None or path.exists() else None
    devices.pin(1, () if store is None else _used_devices(store))
    config = _config(options)
    threads.apply(config.model_dump(mode="json"))
    report = import_module("trainer.preflight").preflight(config, folder, store=store, measure=options.calibrate)
    if options.json:
        print(json.dumps(report))
    else:
        for check in report["checks"]:
            print(shown(f"{check['level']:4} {check['name']}: {check['sentence']}"))
    return FAILED if any(check["level"] == "fail" for check in report["checks"]) else FINISHED


def machine_command(options: argparse.Namespace) -> int:
    report = import_module("trainer.fit.machine").describe()
    if options.json:
        print(json.dumps(report))
        return FINISHED
    for device in report["devices"]:
        print(f"{device['name']}: {device['free'] / 2**30:.1f} of {device['total'] / 2**30:.1f} GiB free")
    free, total = (report[name] / 2**30 for name in ("memory_available", "memory"))
    print(f"CPU: {report['threads']} threads, {free:.1f} of {total:.1f} GiB free")
    return FINISHED


def export_run_command(options: argparse.Namespace) -> int:
    store = open_store(options.db, must_exist=True)
    run_id = resolve_run(store, options.run)
    _need_checkpoint(store, run_id)
    folder = options.to.expanduser()
    export = import_module("trainer.train.export").export
    step = export(store, run_id, options.checkpoint, folder, merge=options.merge)
    print(f"wrote step {step} to {folder.absolute()}")
    return FINISHED


def tokens_command(options: argparse.Namespace) -> int:
    store = open_store(options.db, must_exist=True)
    run_id = resolve_run(store, options.run)
    _need_checkpoint(store, run_id)
    return _execute(store, run_id, add_job(store, run_id, "tokens", {"completion": options.completion}))


def stop_command(options: argparse.Namespace) -> int:
    store = open_store(options.db, must_exist=True)
    run = get_run(store, resolve_run(store, options.run))
    # The open job may be an evaluation of a run that was trained long ago.
    open_jobs = list_jobs(store, open_only=True, run_id=run.id)
    job = open_jobs[0] if open_jobs else run.job
    print(shown(launch.stop(store, job, options.level)) if job else "The run has never had a job.")
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
    """Run a job in the foreground, and print the results of its evaluations."""
    run, started_at = get_run(store, run_id), time.time()
    print(
        shown(f"run {run.uid} ({run.name}): {run.method} on {run.model}, {run.dataset}; output in {run.output_dir}"),
        flush=True,
    )
    code = _work(store, get_job(store, job.uid))
    for line in results.result_lines(store, run_id, started_at) if code == FINISHED else ():
        print(shown(line))
    return code


def _work(store: Store, job: JobRow, log: Path | None = None) -> int:
    """Run a job on devices of its own: those that the queue assigned, or free ones of this host."""
    device = None
    if job.device is None and job.launcher == Launcher.LOCAL:
        device = devices.pin(int(job.arguments.get("processes", 1)), _used_devices(store))
    threads.apply(get_run(store, job.run_id).config)
    return execute(store, job, log_path=log, device=device)


def _used_devices(store: Store) -> set[str]:
    """Return the devices that jobs of this host hold."""
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
    """Return the configuration of a model as it is; with a preset's token limit, for comparisons with its runs."""
    presets = [values for values in configs.PRESETS.values() if values.get("model", {}).get("id") == model]
    limit = {"max_tokens": presets[0]["max_tokens"]} if presets else {}
    return configs.from_dict({"method": "none", "model": {"id": model}, "data": data.model_dump(), **limit})


def positive_number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    if sys.argv[1:2] != ["export"]:  # exported files are meant for others, so the user's own umask applies
        os.umask(private.UMASK)
    sys.exit(main())
