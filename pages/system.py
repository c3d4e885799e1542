"""System: health of the machine and the database, and what to do about problems."""

from __future__ import annotations

import time

import streamlit as st

from app.heartbeats import HEARTBEATS
from app.shared import data, format, intents
from app.shared.run_actions import attempt
from app.shared.status import STILL_AFTER
from app.system import health, machine
from store.care import orphans, state
from store.care.state import DatabaseState
from store.db.engine import StoreError
from store.db.rows import JobRow
from store.recording.silence import job_silent_since
from trainer.launch import identity, supervision, webhook


@st.cache_data(ttl="10min", max_entries=1, show_spinner=False)
def devices() -> machine.Devices:
    return machine.devices()


@st.cache_data(ttl="30s", max_entries=1, show_spinner=False)
def find_orphans(url: str) -> orphans.Orphans:
    """Find orphans; cached, since it checks every file of the database at `url`. Raises StoreError."""
    return orphans.find(data.reader())


def current_work() -> health.Work:
    jobs = data.list_jobs(open_only=True)
    here = identity.host()
    workers = state.workers(data.reader())
    dead = [row.host for row in workers if row.host == here and not identity.is_alive(supervision.identity_of(row))]
    silent = [job.run_name for job in jobs if is_silent(job)]
    queued = sum(job.state == "queued" for job in jobs)
    return health.Work(queued, len(jobs) - queued, dead, silent)


def is_silent(job: JobRow) -> bool:
    """Return whether a job has stopped reporting: a script, or a job on another host."""
    if job.arguments.get("recorded"):
        return job_silent_since(job, time.time()) is not None
    return (HEARTBEATS.seconds_since_beat(job.id, job.host) or 0) > STILL_AFTER


def table(title: str, rows: dict[str, str], alt: str) -> None:
    with st.container(border=True, height="stretch"):
        st.markdown(f"**{title}**")
        st.table(
            {format.literal(name): format.literal(text) for name, text in rows.items()}, border="horizontal", alt=alt
        )


def database(state: DatabaseState, free: int, total: int) -> None:
    rows = {
        "Location": state.where,
        "Schema": f"{state.schema} ({state.driver})",
        "Size": format.memory(state.size),
        "Write-ahead log": f"{format.memory(state.log_size)} ({state.mode})" if state.mode else format.UNKNOWN,
        "Images": f"{format.count(state.images)}, {format.memory(state.image_bytes)}, in {data.reader().media}",
        "Free on this disk": f"{format.memory(free)} of {format.memory(total)}",
    }
    table("Database", rows, "Location, schema and size of the database")
    table("Rows", {name.capitalize(): format.count(n) for name, n in state.rows.items()}, "Rows by kind")


def computing() -> None:
    rows = {"Device": "checking…"}
    placeholder = st.empty()
    with placeholder.container():
        table("Devices", rows, "Devices are being checked")
    devices_found = devices()
    names = [f"{gpu.name}, {format.memory(gpu.free)} of {format.memory(gpu.total)} free" for gpu in devices_found.gpus]
    rows = {
        "Device": "; ".join(names) or "CPU",
        "Threads": format.count(devices_found.threads),
        "PyTorch CUDA version": devices_found.cuda or "none",
        "Host": identity.host(),
    }
    with placeholder.container():
        table("Devices", rows, "Devices that PyTorch finds")
        if problem := health.of_devices(devices_found):
            st.warning(format.literal(problem), icon=":material/warning:")


def jobs_and_workers(work: health.Work) -> None:
    workers = state.workers(data.reader())
    alive = {row.host: "gone" if row.host in work.dead else f"process {row.pid}" for row in workers}
    rows = {"Active jobs": format.count(work.active), "Queued jobs": format.count(work.queued)}
    rows |= {f"Worker on {host}": word for host, word in alive.items()}
    rows["Webhook"] = "off" if not webhook.is_set() else ("invalid" if webhook.problem() else "on")
    table("Jobs", rows, "Jobs and workers")


def maintenance(stray: orphans.Orphans) -> None:
    st.header("Clean up and back up")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(
            "Nothing to clean up: every example, image and folder belongs to a run."
            if not stray.any
            else f"Not used by any run: {_unused(stray)} ({format.memory(stray.size)}).",
            width="content",
        )
        with st.popover("Remove", icon=":material/delete_sweep:", disabled=not stray.any, key="orphans"):
            st.text(
                "\n".join([*map(str, stray.folders), *(file.address for file in stray.files)])
                or "Only database rows will be removed."
            )
            st.caption("Works only while no job is running. This cannot be undone.")
            if st.button("Remove unused data", type="primary", key="orphans_yes"):
                attempt(intents.remove_orphans)
                find_orphans.clear()
                st.rerun()
    st.caption("Back up the whole database while it is in use, or export one run to another database:")
    st.code(
        "python -m store backup FOLDER        # restore FOLDER\npython -m store export-run RUN FILE  # import-run FILE",
        language="bash",
    )


def _unused(found: orphans.Orphans) -> str:
    parts = {
        "example": found.examples,
        "image": found.images,
        "stray file": len(found.files),
        "output folder": len(found.folders),
    }
    *first, last = (format.pluralize(number, thing) for thing, number in parts.items())
    return f"{', '.join(first)} and {last}"


st.title("System")
store = data.reader()
described, work_now = state.describe(store), current_work()
free, total = machine.disk(store.folder)
unused, sentences = None, []
try:
    unused = find_orphans(store.url)
except StoreError as error:
    sentences.append(str(error))
sentences += health.advice(described, free, work_now, unused, webhook.problem())
for sentence in sentences:
    st.warning(format.literal(sentence), icon=":material/warning:")
if not sentences:
    st.success("No problems found.", icon=":material/check:")
with st.grid(2, min_column_width=380):
    database(described, free, total)
    with st.container():
        jobs_and_workers(work_now)
        devices_place = st.container()
    table("Versions", machine.versions(), "Package versions")
if unused:
    maintenance(unused)
with devices_place:
    computing()
