"""The lines of code that record a script as a run, and the latest run recorded this way."""

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
        run.group(step, prompt, [image], completions, rewards={"right": scores}, answer=gold)
        run.log(step, {"loss": loss})
        if run.should_stop:
            break
"""
EVALUATION = """# rows: [{"prompt": …, "images": […], "completion": …, "answer": …, "correct": True}, …]
run.evaluation(step, "my benchmark", rows)
"""
SCRIPTS = {
    "TRL or transformers trainer": (
        TRAINER,
        "Works with GRPOTrainer, RLOOTrainer, SFTTrainer, DPOTrainer and Trainer, from TRL 0.20 on (only metrics for "
        "RLOOTrainer before 0.22). Keep its report_to as it is; evaluations are recorded too.",
    ),
    "Custom training loop": (
        LOOP,
        "A prompt is a text or a list of messages. An image is a PIL image, bytes, a path or an array. The gold "
        "answer can be anything. Leave out what you do not have.",
    ),
    "Evaluations": (
        EVALUATION,
        "Rows with the same question count as samples for it. Your `correct` decides what is right.",
    ),
}


def address(url: str | None) -> str:
    """Return the dashboard's URL as the browser sees it, without page and query."""
    parts = urlsplit(url or "")
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    origin = f"{parts.scheme}://{parts.netloc}" if parts.netloc else "http://127.0.0.1:8501"
    return f"{origin}/{base}" if base else origin


def download(address: str) -> str:
    return f"curl -fsS -o vr1z.py {shlex.quote(address + FILE)}"


def tunnel(address: str) -> str:
    """Return commands for another machine, with an SSH tunnel unless the dashboard has a host name."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    commands = [f"export VR1Z_URL={shlex.quote(address)}", "export VR1Z_TOKEN=…    # see below"]
    fetch = f'curl -fsS -H "Authorization: Bearer $VR1Z_TOKEN" -o vr1z.py "$VR1Z_URL{FILE}"'
    if (parts.hostname or "") in access.LOOPBACK:
        commands.insert(0, f"ssh -f -N -L {port}:127.0.0.1:{port} YOU@THIS-MACHINE")
    return "\n".join([*commands, fetch])


def secret() -> None:
    """Show the token to users who may write, on request."""
    if not access.may_write():
        st.caption("Only users who may launch runs can see the token on this page.")
    elif st.toggle("Show the token", key="record.token"):
        try:
            st.code(token.token_of(data.writer()), language=None)
        except StoreError as error:
            st.error(format.literal(str(error)))
        st.caption(
            "Anyone with this token can record runs here. To replace it, delete its file and restart the dashboard."
        )


def sync(where: str) -> str:
    return f"python -m store sync FOLDER --db {shlex.quote(where)}"


@st.fragment(run_every="3s")
def latest() -> None:
    """Show the latest recorded run as soon as there is one."""
    run = next((each for each in data.list_sound_runs() if each.dataset == RECORDED), None)
    if run is None:
        st.caption("No recorded scripts yet.")
        return
    look = status.look_now(run, time.time())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(f"Latest: {run.name}, {status.steps(run)}", width="content")
        st.badge(look.label, icon=look.icon, color=look.color)
        st.page_link("../pages/run.py", label="Open", icon=":material/monitoring:", query_params={"run": run.uid})
