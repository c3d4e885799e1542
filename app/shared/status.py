"""A run's state in words and numbers. Pure functions of rows."""

from __future__ import annotations

from typing import Literal, NamedTuple

from app.shared import format
from store.db.rows import RunRow
from store.recording import silence as scripts
from store.recording.records import RECORDED

ACTIVE = frozenset({"starting", "running", "stopping"})
OPEN = ACTIVE | {"queued"}
METHODS = {
    "grpo": "GRPO",
    "sft": "SFT",
    "none": "evaluation",
    "unknown": "method unknown",
    "rl": "RL",
    **{name: name.upper() for name in ("rloo", "dpo", "kto", "orpo", "cpo", "bco", "xpo", "ppo", "gkd")},
    "online_dpo": "online DPO",
    "nash_md": "Nash-MD",
    "reward": "reward model",
}
"""Names of our methods and of those that TRL has a trainer for; any other method is shown by its own name."""
SAMPLES_NOTHING = frozenset({"sft", "dpo", "kto", "orpo", "cpo", "bco", "reward", "none", "unknown"})
"""Methods that sample no completions in training, or for which that is unknown."""
STOP_LEVELS = {
    1: ("Stop", "Finishes the step, saves a checkpoint and ends. You can resume the run."),
    2: ("Terminate", "A stop is pending. Ends the process now; progress since the last checkpoint is lost."),
    3: ("Kill", "A termination is pending. Kills the process; progress since the last checkpoint is lost."),
    4: (
        "Mark as lost",
        "Its host was asked to kill it and does not respond. Closes the job in the database; it may still be running.",
    ),
}
STOPPING = {
    1: "Stopping: it finishes the current step or batch and saves a checkpoint.",
    2: "Terminating: it was asked to end immediately.",
    3: "Killing: it was asked to be killed.",
}
"""What happens after each stop level while the process is still alive."""
STILL_AFTER = 60.0
"""Seconds without a heartbeat (sent every five) after which a job on another host is called silent."""
SILENT_AFTER = 180.0
"""Seconds without output after which a running process is called silent, unless its steps take long."""
EVALUATED = {
    "probe": "probe",
    "val": "validation",
    "test": "test",
    "baseline": "baseline",
    "thinking": "CoT-faithfulness probe",
}
"""Labels of the kinds of evaluations."""


class Badge(NamedTuple):
    """Label, badge colour and icon of a state."""

    label: str
    color: Literal["gray", "blue", "green", "orange", "red"]
    icon: str


LOOKS = {
    "queued": Badge("queued", "gray", ":material/schedule:"),
    "starting": Badge("starting", "blue", ":material/hourglass_top:"),
    "running": Badge("running", "green", ":material/play_arrow:"),
    "stopping": Badge("stopping", "orange", ":material/front_hand:"),
    "stopped": Badge("stopped", "orange", ":material/stop:"),
    "finished": Badge("finished", "blue", ":material/check:"),
    "failed": Badge("failed", "red", ":material/error:"),
    "out_of_memory": Badge("out of memory", "red", ":material/memory:"),
    "killed": Badge("killed", "red", ":material/cancel:"),
    "lost": Badge("lost", "red", ":material/link_off:"),
    "broken": Badge("broken", "red", ":material/broken_image:"),
}
IMPORTED = Badge("imported", "gray", ":material/download:")
SILENT = Badge("silent", "orange", ":material/wifi_off:")


def look(state: str | None) -> Badge:
    """Return the badge of a state; runs without a job were imported."""
    return LOOKS.get(state or "", IMPORTED)


def look_now(run: RunRow, now: float) -> Badge:
    """Return the badge of a run's state, or that of a silent script."""
    return look(run.status) if scripts.silent_since(run, now) is None else SILENT


def progress(run: RunRow) -> float | None:
    """Return the share of completed steps, 0 to 1; None if the total is unknown."""
    return min(1.0, run.step / run.max_steps) if run.max_steps else None


def seconds_left(run: RunRow) -> float | None:
    """Return the seconds until the last step at the current pace; None unless the run trains at a known pace."""
    if run.status not in ACTIVE or run.job_kind != "train" or run.seconds_per_step is None:
        return None
    remaining = (run.max_steps or 0) - run.step
    return remaining * run.seconds_per_step if remaining > 0 else None


def steps(run: RunRow) -> str:
    """Return `step 87 of 200`."""
    return f"step {format.count(run.step)}" + (f" of {format.count(run.max_steps)}" if run.max_steps else "")


def silence(run: RunRow, now: float, still: float | None = None) -> str | None:
    """Return a warning if an active run has been silent for much longer than its steps take.

    A script is judged by the time of its last message; any other job on another host only by its heartbeat, which has
    not changed for `still` seconds.
    """
    if run.dataset == RECORDED:
        since = scripts.silent_since(run, now)
        return None if since is None else f"{scripts.in_words(since)} ({format.duration(now - since)})"
    if still is not None:
        if run.status not in ACTIVE or still <= STILL_AFTER:
            return None
        return f"silent for {format.duration(still)}: no heartbeat from {run.host}, check that host"
    patience = max(SILENT_AFTER, 20 * (run.seconds_per_step or 0))
    if run.status not in ACTIVE or run.spoke_at is None or now - run.spoke_at <= patience:
        return None
    return f"silent for {format.duration(now - run.spoke_at)}: it may be stuck, see its log"


def sentence(run: RunRow, now: float, *, last_step_at: float | None = None, still: float | None = None) -> str:
    """Return `running · last step 4 s ago (typical 1.4 s) · generating`, or how and when it ended."""
    name = look(run.status).label
    if run.status in ACTIVE:
        typical = f" (typical {format.seconds(run.seconds_per_step)})" if run.seconds_per_step else ""
        stepped = f"last step {format.age(last_step_at, now)}{typical}" if last_step_at else "no step yet"
        parts = (name, stepped, run.activity, silence(run, now, still))
        return " · ".join(part for part in parts if part)
    if run.ended_at is None:
        return f"{name} · created {format.age(run.created_at, now)}"
    lasted = f" after {format.duration(run.ended_at - run.started_at)}" if run.started_at else ""
    return f"{name} {format.age(run.ended_at, now)}{lasted}"


def accuracy_source(run: RunRow) -> str | None:
    """Return what a run's accuracy was measured on, `probe of 24 · step 80`; answers are always greedy."""
    if run.accuracy is None or run.evaluation_kind is None:
        return None
    of = f" of {format.count(run.accuracy_n)}" if run.accuracy_n else ""
    return f"{EVALUATED.get(run.evaluation_kind, run.evaluation_kind)}{of} · step {format.count(run.evaluation_step)}"
