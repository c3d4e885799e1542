"""Routes for the recorders of scripts: they accept journals and images, and serve `vr1z.py` itself."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from app.access import SignIn
from store.db.engine import Store, StoreError
from store.media import files as media
from store.recording import token
from store.recording.intake import Gone, Receipt, take
from store.recording.records import LONGEST_LINE, Damaged, Newer
from trainer.launch import webhook

RECORDER = Path(__file__).resolve().parents[1] / "trainer" / "record" / "vr1z.py"
RECORDS, FILE = "/api/record/", "/api/vr1z.py"
MAX_JOURNAL_BYTES = LONGEST_LINE
MAX_LOST_IMAGES = 200
"""Maximum number of lost images that one request may name."""
_UID, _HASH = re.compile(r"[0-9A-Za-z_-]{1,16}"), re.compile(r"[0-9a-f]{64}")
log = logging.getLogger(__name__)


def refusal(store: Store, request: HTTPConnection) -> Response | None:
    """Return the response to a recorder without the right token; None if the token is right."""
    scheme, _, given_token = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() == "bearer" and token.is_right(store, given_token.strip()):
            return None
    except StoreError as error:
        log.error("The recorders' token is not usable, so recording is refused: %s", error)
        return PlainTextResponse("This dashboard's token cannot be read: see its log.", 503)
    return PlainTextResponse("Wrong token: copy this dashboard's token from its page Record a script.", 401)


def routes(store: Store, below: str, sign_in: SignIn | None = None) -> list[Route]:
    async def lines(request: Request) -> Response:
        uid, query = request.path_params["uid"], request.query_params
        first, without = query.get("from", "0"), query.getlist("without")
        if not _UID.fullmatch(uid) or not re.fullmatch(r"[0-9]{1,10}", first) or len(without) > MAX_LOST_IMAGES:
            raise HTTPException(400, "This URL names no journal.")
        body = await _body(request, MAX_JOURNAL_BYTES)
        lines, lost, is_alive = body.splitlines(), frozenset(without), not query.get("left")
        return await run_in_threadpool(_take_lines, store, uid, int(first), lines, lost, is_alive)

    async def image(request: Request) -> Response:
        if not _HASH.fullmatch(name := request.path_params["sha256"]):
            raise HTTPException(400, "Name an image by the SHA-256 of its bytes.")
        body = await _body(request, media.MOST_BYTES)
        return await run_in_threadpool(_save_image, store, name, body)

    def file(request: Request) -> Response:
        url = sign_in.origin if sign_in else f"{request.url.scheme}://{request.headers['host']}"
        try:
            token.token_of(store)
        except StoreError as error:
            return PlainTextResponse(str(error), 503)
        # With sign-in, users work on other machines, where this machine's paths mean nothing.
        place = "" if sign_in else str(token.path_of(store))
        headers = {"Content-Disposition": 'attachment; filename="vr1z.py"'}
        return Response(recorder(url + below, place), media_type="text/x-python; charset=utf-8", headers=headers)

    return [
        Route(f"{below}{RECORDS}images/{{sha256}}", image, methods=["PUT"]),
        Route(f"{below}{RECORDS}{{uid}}", lines, methods=["POST"]),
        Route(f"{below}{FILE}", file),
    ]


def recorder(url: str, token_file: str) -> str:
    """Return `vr1z.py` with this dashboard's URL and token file in place of the defaults."""
    text = RECORDER.read_text(encoding="utf-8")
    for name, value in (("URL", url), ("TOKEN_FILE", token_file)):
        before, line, after = re.split(rf"(?m)^({name} = ).*$", text, maxsplit=1)
        text = f"{before}{line}{json.dumps(value)}{after}"
    return text


async def _body(request: Request, limit: int) -> bytes:
    """Return the body of a request. Raises HTTPException if it is larger than `limit` bytes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise HTTPException(413, f"The request is larger than {limit >> 20} MB: send less at once.")
        parts.append(part)
    return b"".join(parts)


def _take_lines(
    store: Store, uid: str, first: int, lines: list[bytes], without: frozenset[str], is_alive: bool
) -> Response:
    try:
        answer = take(store, uid, first, lines, without, is_alive=is_alive)
    except Gone as error:
        return PlainTextResponse(str(error), 410)
    except (Damaged, Newer) as error:
        return PlainTextResponse(str(error), 422)
    except StoreError as error:
        return PlainTextResponse(str(error), 503)
    if answer.ended:
        webhook.send_end(store, answer.ended)
    return JSONResponse(answer_json(answer))


def answer_json(answer: Receipt) -> dict[str, object]:
    return {"next": answer.next, "stop": answer.stop, "run": answer.run, "missing": list(answer.missing)}


def _save_image(store: Store, name: str, data: bytes) -> Response:
    try:
        image = media.inspect(data)
    except StoreError as error:
        return PlainTextResponse(str(error), 422)
    if image.sha256 != name:
        return PlainTextResponse("The image does not match its SHA-256.", 422)
    try:
        media.save(store.media, data)
    except StoreError as error:
        return PlainTextResponse(str(error), 503)
    return JSONResponse({})
