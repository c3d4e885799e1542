"""Submit queued jobs to a Ray cluster and record their state in the database: `python -m trainer ray`.

This is a separate process from the worker: waiting for the network or for an estimate must not delay this host's jobs,
and starting it must not make this host work on a shared database's queue, as starting a worker does. It keeps no state:
submissions have the uid of their job as id, so that a restarted process finds them. A job's own process writes its
progress to the database; this one adds what that process cannot report: that it waits for resources, that it died, and
its log. It talks to the cluster over HTTP; `ray` is imported at the first request.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import Timeout

from store.db import ownership
from store.db.engine import Store, StoreError
from store.db.rows import JobRow
from store.db.states import JobState, Launcher
from store.jobs import beat_job, end_job, get_job, list_jobs, place_job
from store.runs import get_run
from trainer.launch import cluster, endings, identity, local, needs, webhook
from trainer.launch.endings import Ending
from trainer.launch.needs import Need
from trainer.launch.queue import IDLE_SECONDS, LOCK_SECONDS, say, until_idle
from trainer.spec.config import ConfigError

TICK_SECONDS = 1.0
HTTP_SECONDS = 20.0
LOG_SECONDS = 5.0
"""Seconds between copies of a running job's log."""
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
WAITED_TOO_LONG = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
"""Ray's message for submissions that it gave up on because they got no resources within 15 minutes."""
_UID = re.compile(r"[0-9a-f]{10}")


class ClusterError(Exception):
    """The cluster did not answer or refused a request; the message is one sentence."""


def work(store: Store, *, idle: float = IDLE_SECONDS) -> None:
    """Watch the cluster until it has had no open job for `idle` seconds; return at once if another process does.

    Raises ConfigError if the cluster cannot be used.
    """
    watcher = Watcher(store, Jobs(cluster.check(store)))
    try:
        with cluster.lock(store).acquire(timeout=LOCK_SECONDS):
            until_idle(watcher.look, idle, TICK_SECONDS)
    except Timeout:
        say("another process watches the cluster")


class Jobs:
    """Client of Ray's Jobs API that turns every failure into a ClusterError."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._client: Any = None

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of Ray's JobSubmissionClient."""
        try:
            self._client = self._client or self._connect()
            return getattr(self._client, method)(*arguments, **options)
        except ConfigError:
            raise
        except OSError as error:
            raise ClusterError(f"The Ray cluster at {self.address} does not answer.") from error
        except Exception as error:  # Ray's exceptions, and those of proxies in between
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
            raise ClusterError(f"The Ray cluster at {self.address} refused the request: {reason}.") from error

    def _connect(self) -> Any:
        for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
            os.environ.pop(name, None)  # they would override the address that was checked
        try:
            from ray.job_submission import JobSubmissionClient
        except ImportError:
            raise ConfigError("Ray is not installed: run `pip install -r requirements-cluster.txt`.") from None

        class Client(JobSubmissionClient):
            """Adds a timeout, which Ray's own client lacks."""

            def _do_request(self, *arguments: Any, **named: Any) -> Any:
                return super()._do_request(*arguments, timeout=HTTP_SECONDS, **named)

        return Client(self.address)


@dataclass
class Watcher:
    """Compares the cluster with the database; its own state only saves requests."""

    store: Store
    jobs: Jobs
    _last_problem: str = ""
    _estimates: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    _asked_to_stop: set[str] = field(default_factory=set)
    _copied: dict[str, float] = field(default_factory=dict)

    def look(self) -> bool:
        """Advance each open job; return whether there are any."""
        # Read jobs first: those that are active by then were submitted, so the cluster must know them.
        everybody = list_jobs(self.store, open_only=True)
        jobs = [job for job in everybody if job.launcher == Launcher.RAY]
        try:
            submissions = self._submissions()
            self._stop_what_is_over(jobs, submissions)
        except ClusterError as error:
            self._do_without(jobs, str(error))
            return bool(jobs)
        self._last_problem = ""
        # A checkpoint is evaluated only after its training has ended, wherever that runs.
        blocked = {job.uid for job in jobs for other in everybody if other.run_id == job.run_id and other.id < job.id}
        for job in jobs:
            try:
                self._follow(job, submissions.get(job.uid), is_blocked=job.uid in blocked)
            except ClusterError as error:
                self._wait(job, f"{error} Retrying.")
        self._copy_logs(submissions)
        return bool(jobs)

    def _submissions(self) -> dict[str, Any]:
        """Return our submissions by job uid; of several for one job, the last."""
        submissions = [each for each in self.jobs.call("list_jobs") if is_ours(each)]
        return {uid_of(each): each for each in sorted(submissions, key=lambda each: each.start_time)}

    def _follow(self, job: JobRow, submission: Any | None, *, is_blocked: bool) -> None:
        """Record a job's state on the cluster, or pass on a request from the database."""
        if submission is None and job.state == JobState.QUEUED:
            if not is_blocked:
                self._submit(job, job.uid)
        elif submission is None:
            reason = "The Ray cluster no longer knows this job, perhaps because it was restarted. Resume the run."
            self._close(job, Ending(JobState.LOST, reason))
        elif submission.status == "PENDING":
            self._wait(job, f"Waiting for {submission.metadata.get('needs')} on the Ray cluster. {submission.message}")
        elif submission.status == "RUNNING" and job.state == JobState.QUEUED:
            place_job(self.store, job.id, str(self._path(submission)))
        elif submission.status in ENDED and submission.error_type == WAITED_TOO_LONG and job.state == JobState.QUEUED:
            number = submission.submission_id.partition("-")[2] or "1"
            self._submit(job, f"{job.uid}-{int(number) + 1}")
        elif submission.status in ENDED:
            self._copy_log(submission)
            self._close(job, judge(job, submission, self._log_of(job)), submission.driver_exit_code)
        elif job.stop_requested >= 2:
            self._stop(submission)

    def _submit(self, job: JobRow, submission_id: str) -> None:
        need = self._need(job)
        say(f"submitting job {job.uid} of {job.run_name}: it needs {need}")
        self.jobs.call(
            "submit_job",
            # Ray runs this in a shell, so it contains nothing that users wrote. `exec` lets Ray see how Python ends.
            entrypoint=f"exec {shlex.join(local.command('job', job.uid))}",
            submission_id=submission_id,
            entrypoint_num_cpus=1,
            entrypoint_num_gpus=need.gpus or None,
            entrypoint_memory=need.memory,
            runtime_env={"env_vars": cluster.environment(self.store)},
            metadata={"run": job.run_uid, "kind": job.kind, "needs": str(need)},
        )

    def _need(self, job: JobRow) -> Need:
        config = get_run(self.store, job.run_id).config
        # These do not change what a run needs, and a matrix has many of them.
        key = json.dumps(config | {"name": "", "seed": 0}, sort_keys=True)
        if key not in self._estimates:
            self._estimates[key] = needs.estimate(config)
            if self._estimates[key] is None:
                say(f"the memory of {job.run_name} could not be estimated, so none is requested")
        return needs.need(config, self._estimates[key])

    def _wait(self, job: JobRow, words: str) -> None:
        if job.state == JobState.QUEUED and job.activity != words[:200]:
            beat_job(self.store, job.id, words)

    def _stop(self, submission: Any) -> None:
        """Have Ray send SIGTERM now and SIGKILL after the grace period; a waiting job ends as soon as it starts."""
        if submission.submission_id not in self._asked_to_stop:
            self._asked_to_stop.add(submission.submission_id)
            self.jobs.call("stop_job", submission.submission_id)

    def _stop_what_is_over(self, jobs: list[JobRow], submissions: dict[str, Any]) -> None:
        """Stop submissions whose job was cancelled or given up."""
        still_open = {job.uid for job in jobs}
        for uid, submission in submissions.items():
            if uid in still_open or submission.status in ENDED or submission.submission_id in self._asked_to_stop:
                continue
            if self._is_over(uid):
                self._stop(submission)

    def _is_over(self, uid: str) -> bool:
        """Return whether the job is in this database and closed; other databases may share the cluster."""
        try:
            return get_job(self.store, uid).ended_at is not None
        except StoreError:
            return False

    def _close(self, job: JobRow, ending: Ending, exit_code: int | None = None) -> None:
        ended = end_job(
            self.store,
            job.id,
            ending.state,
            exit_code=exit_code,
            error_kind=ending.kind,
            error=ending.error,
            traceback=self._log_of(job) or None,
        )
        if ended:
            webhook.send_end(self.store, job.uid)
            say(f"job {job.uid} of {job.run_name}: {ending.error}")

    def _do_without(self, jobs: list[JobRow], reason: str) -> None:
        """Handle a cluster that does not answer: note it on waiting jobs, and close this host's jobs that ended."""
        if reason != self._last_problem:
            self._last_problem = reason
            say(f"{reason} Retrying.")
        for job in jobs:
            self._wait(job, f"{reason} Retrying.")
            if job.host == identity.host() and endings.is_gone(job):
                endings.close(self.store, job.uid)

    def _copy_logs(self, submissions: dict[str, Any]) -> None:
        for submission in submissions.values():
            path = self._path(submission)
            if submission.status == "PENDING" or not path.parent.is_dir():
                continue
            copied = self._copied.get(submission.submission_id)
            if submission.status in ENDED:
                is_due = copied != submission.end_time and not is_newer(path, submission.end_time)
            else:
                is_due = copied is None or time.monotonic() - copied > LOG_SECONDS
            if is_due:
                self._copy_log(submission)

    def _copy_log(self, submission: Any) -> None:
        """Copy the whole log each time, so that several watchers do no harm; skip it if the job's node is gone."""
        ended = submission.end_time if submission.status in ENDED else None
        self._copied[submission.submission_id] = ended or time.monotonic()
        path = self._path(submission)
        part = path.with_suffix(".part")
        try:
            if ownership.claim(self.store, submission.metadata["run"], path.parent):
                part.write_text(self.jobs.call("get_job_logs", submission.submission_id), encoding="utf-8")
                part.replace(path)
        except (ClusterError, OSError) as error:
            say(f"no log of {submission.submission_id}: {error}")

    def _path(self, submission: Any) -> Path:
        return cluster.log_path(self.store, submission.metadata["run"], uid_of(submission))

    def _log_of(self, job: JobRow) -> str:
        return endings.log_tail(cluster.log_path(self.store, job.run_uid, job.uid), job.uid)


def is_ours(submission: Any) -> bool:
    """Return whether a submission's id has our format. Others may submit anything, and ids become file names."""
    run = (submission.metadata or {}).get("run", "")
    return bool(_UID.fullmatch(run) and _UID.fullmatch(uid_of(submission)))


def uid_of(submission: Any) -> str:
    """Return a submission's job uid. The second attempt to submit job `abc` has the id `abc-2`."""
    return str(submission.submission_id).partition("-")[0]


def is_newer(path: Path, end_time: int | None) -> bool:
    """Return whether a file was written after a time in milliseconds since the epoch."""
    return path.exists() and path.stat().st_mtime * 1000 > (end_time or 0)


def judge(job: JobRow, submission: Any, log: str) -> Ending:
    """Return state and reason for a submission that ended without closing its job."""
    is_stopped = submission.status == "STOPPED"
    if submission.driver_exit_code is not None or (is_stopped and job.stop_requested > 1):
        # The boot id may be that of another host, whose state is unknown.
        return endings.judge(job._replace(boot_id=None), submission.driver_exit_code, log)
    if is_stopped:
        return Ending(
            JobState.KILLED,
            f"Stopped through Ray, which waits {cluster.GRACE_SECONDS} s for a job to end. Resume the run.",
        )
    message = (str(submission.message or submission.status).strip().splitlines() or [""])[0][:500].rstrip(".")
    if job.started_at is None:
        return Ending(
            JobState.FAILED, f"Ray could not start the job: {message}. Fix the cause, then resume the run.", "config"
        )
    return Ending(JobState.LOST, f"Ray lost the job: {message}. Resume the run.")
