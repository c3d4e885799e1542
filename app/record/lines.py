"""The lines that make a script a recorded run, and the latest run that came this way."""

from __future__ import annotations

import shlex
import time
from urllib.parse import urlsplit

import streamlit as st

from app import access
from app.recording import FILE
from app.shared import data, format, status
from store.db.engine import StoreError
from store.recording import token
from store.recording.records import RECORDED

PLACES = ("On this machine", "On another machine")
TRAINER = """import vr1z

vr1z.record(trainer, name="my run")    # before trainer.train()
"""
LOOP = """import vr1z

with vr1z.start("my run", config={"lr": 1e-5}, max_steps=100) as run:
    for step in range(1, 101):
        ...                            # sample, score, update
        run.group(step, prompt, [picture], completions, rewards={"right": scores}, answer=gold)
        run.log(step, {"loss": loss})
        if run.should_stop:
            break
"""
EVALUATION = """# rows: [{"prompt": …, "images": […], "completion": …, "answer": …, "correct": True}, …]
run.evaluation(step, "my benchmark", rows)
"""
SCRIPTS = {
    "A trainer of TRL or transformers": (
        TRAINER,
        "GRPOTrainer, RLOOTrainer, SFTTrainer, DPOTrainer or Trainer, TRL from 0.20 on (figures alone of an "
        "RLOOTrainer before 0.22). Its report_to stays as it is; "
        "evaluations are recorded too.",
    ),
    "A loop of your own": (
        LOOP,
        "A prompt is a text or a list of messages; a picture a PIL image, bytes, a path or an array; the gold answer "
        "may be anything. Leave out what you do not have.",
    ),
    "Evaluations": (EVALUATION, "Rows of the same question are samples of it. What is right is what you say is."),
}


def address(url: str | None) -> str:
    """Return the dashboard's address as the browser sees it, without page and query."""
    parts = urlsplit(url or "")
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    here = f"{parts.scheme}://{parts.netloc}" if parts.netloc else "http://127.0.0.1:8501"
    return f"{here}/{base}" if base else here


def download(address: str) -> str:
    return f"curl -fsS -o vr1z.py {shlex.quote(address + FILE)}"


def tunnel(address: str) -> str:
    """Return commands for another machine: an SSH tunnel, unless people reach the dashboard by a name of its own."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    commands = [f"export VR1Z_URL={shlex.quote(address)}", "export VR1Z_TOKEN=…    # see below"]
    fetch = f'curl -fsS -H "Authorization: Bearer $VR1Z_TOKEN" -o vr1z.py "$VR1Z_URL{FILE}"'
    if (parts.hostname or "") in access.LOOPBACK:
        commands.insert(0, f"ssh -f -N -L {port}:127.0.0.1:{port} YOU@THIS-MACHINE")
    return "\n".join([*commands, fetch])


def secret() -> None:
    """Show the token to who may write, once they ask."""
    if not access.may_write():
        st.caption("Whoever may launch runs here can read the token on this page.")
    elif st.toggle("Show the token", key="record.token"):
        try:
            st.code(token.token_of(data.writer()), language=None)
        except StoreError as error:
            st.error(format.literal(str(error)))
        st.caption("Whoever has it can record runs here. To change it, remove its file and start the dashboard again.")


def sync(where: str) -> str:
    return f"python -m store sync FOLDER --db {shlex.quote(where)}"


@st.fragment(run_every="3s")
def latest() -> None:
    """Show the newest recorded run as soon as there is one."""
    run = next((each for each in data.list_sound_runs() if each.dataset == RECORDED), None)
    if run is None:
        st.caption("No script has been recorded yet.")
        return
    look = status.look_now(run, time.time())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(f"Latest: {run.name}, {status.steps(run)}", width="content")
        st.badge(look.label, icon=look.icon, color=look.color)
        st.page_link("../pages/run.py", label="Open", icon=":material/monitoring:", query_params={"run": run.uid})
