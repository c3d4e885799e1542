"""Report a run's end, failure or finding by an HTTP POST of JSON to the URL in VR1Z_WEBHOOK, if it is set.

Failures are logged as warnings and never delay or end a job. The URL is a secret and is never printed.
"""

from __future__ import annotations

import json
import logging
import os
import urllib.error
import urllib.request
from email.message import Message
from typing import IO, Any
from urllib.parse import urlsplit

from store.db.engine import Store, StoreError
from store.db.redaction import redact, redacted_values
from store.db.states import OPEN
from store.jobs import get_job
from store.runs import get_run

VARIABLE = "VR1Z_WEBHOOK"
TIMEOUT = 5.0
"""Seconds, each for the connection and the answer."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST = 2000
"""Most characters of a text."""
logger = logging.getLogger(__name__)


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, which would send the report to another address."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def problem() -> str | None:
    """Return one sentence on why the address cannot be used; None if it can, or if none is set."""
    try:
        parts = urlsplit(os.environ.get(VARIABLE, ""))
        host, _ = parts.hostname, parts.port
    except ValueError:
        return f"{VARIABLE} is not a valid URL. Correct it."
    if not os.environ.get(VARIABLE) or (host and parts.scheme == "https"):
        return None
    if parts.scheme == "http" and host in LOOPBACK:
        return None
    return f"{VARIABLE} must be an https address, or an address of this machine. Nothing is sent."


def is_set() -> bool:
    return bool(os.environ.get(VARIABLE))


def send_end(store: Store, job_uid: str) -> bool:
    """Report how a job ended; return whether the report was accepted."""
    if not is_set():
        return False
    try:
        job = get_job(store, job_uid)
        run = get_run(store, job.run_id)
    except StoreError as error:
        logger.warning("The end of job %s could not be reported to the webhook: %s", job_uid, error)
        return False
    if job.state in OPEN:
        return False  # its end could not be recorded, so the process that closes it reports it
    words = f"{run.name}: {job.kind} {job.state.replace('_', ' ')} at step {run.step}."
    facts = {"run": run.uid, "name": run.name, "job": job.uid, "kind": job.kind, "step": run.step, "host": job.host}
    return send("end", f"{words} {job.error or ''}".strip(), state=job.state, error_kind=job.error_kind, **facts)


def send(event: str, text: str, **facts: Any) -> bool:
    """Send `event`, `text` (which chat services show) and `facts`; return whether they were accepted."""
    if not is_set():
        return False
    if fault := problem():
        logger.warning("%s", fault)
        return False
    body = json.dumps({"event": event, "text": redact(text)[:MOST], **redacted_values(facts)}).encode()
    request = urllib.request.Request(
        os.environ[VARIABLE], body, {"Content-Type": "application/json", "User-Agent": "vision-r1-zero"}
    )
    try:
        with urllib.request.build_opener(_RefuseRedirects).open(request, timeout=TIMEOUT):
            return True
    except urllib.error.HTTPError as error:
        logger.warning("The webhook answered with status %d.", error.code)
        error.close()
    except Exception as error:
        # The client may raise anything. Leave its message out, because it may quote the URL.
        logger.warning("The webhook could not be reached (%s).", type(error).__name__)
    return False
