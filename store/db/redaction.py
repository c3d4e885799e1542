"""Remove secrets from text before it is stored or shown, by one definition for everything that leaves a process.

Secrets are values next to a telling name (of a variable, field, URL parameter or option), strings in the format of a
known kind of token, passwords in URLs, and the values of this process's secret variables, wherever they occur.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "[redacted]"
LEAST = 6
"""Shortest secret that is searched everywhere; shorter values would hide ordinary words."""
DISTINCT = 16
"""Secrets of at least this many characters are also searched inside words."""
_NAME = re.compile(
    r"""(?:
        token | secret | password | passwd | passphrase | api[_-]?key | webhook(?:[_-]?(?:url|uri))? | credentials?
        | conn(?:ection)?[_-]?str(?:ing)? | dsn | authorization | cookie | signature
        | (?:access|account|private|secret|shared|signing|encryption|auth|master|license|ssh|client)[_-]?key
        | (?:^|[_.-])(?:pass|pwd|sas|auth) | (?-i:(?<=[a-z])(?:Pass|Pwd))
    )$""",
    re.IGNORECASE | re.VERBOSE,
)
_VARIABLE = re.compile(r"(?:^|_)KEYS?$|(?:PASS|PWD)$")
"""More words that make an environment variable secret."""
_ORDINARY = re.compile(
    r"(?-i:^(?:OLD)?PWD|(?i:(?:^|[_.-])(?:bos|eos|pad|unk|sep|cls|mask|image|video|audio|boi|eoi|fake|think|end|begin|"
    r"stop|special|extra|next|first|last|per|a|each|forward|backward)[_.-]?(?:token|pass)))$"
)
"""Names that look secret but are not, such as the shell's folder, a tokenizer's tokens, a model's passes."""
_LABEL = re.compile(
    r"""(?x)
    (?: --(?P<option>[A-Za-z][\w-]{0,80})[ =]
      | (?<![\w.-])(?P<name>[A-Za-z][\w.-]{0,80})["']?\s{0,2}(?:=|:(?!//))\s{0,2} )
    (?i:(?:bearer|basic|digest|token)\s)?
    """
)
_LABELLED = re.compile(r"""(["'])(?P<quoted>[^"'\n]{1,500})\1|(?P<plain>[^\s&;,"'<>{}()]{1,500})""")
_COOKIE = re.compile(r"(?i)\b((?:set-)?cookie:\s{0,3})[^\n]{1,4000}")
_TOKEN = re.compile(
    r"""(?x)\b(?:
        hf_[A-Za-z0-9]{20,} | sk-[A-Za-z0-9_-]{20,} | gh[pousr]_[A-Za-z0-9]{30,} | github_pat_\w{30,}
        | glpat-[\w-]{20,} | npm_[A-Za-z0-9]{30,} | pypi-[\w-]{30,} | xox[abeprs]-[\w-]{10,} | xapp-[\w-]{10,}
        | A(?:KIA|SIA)[0-9A-Z]{16} | AIza[\w-]{35} | ya29\.[\w-]{20,} | tskey-[\w-]{16,} | dop_v1_[0-9a-f]{40,}
        | eyJ[\w-]{10,2000}\.eyJ[\w-]{4,4000}\.[\w-]{0,1000}
    )"""
)
_WEBHOOK = re.compile(
    r"(?i)(https?://(?:hooks\.slack\.com/(?:services|workflows|triggers)|discord(?:app)?\.com/api/webhooks"
    r"|[\w.-]{1,100}\.office\.com/webhook[\w-]{0,10})/)[^\s\"'<>)]{1,500}"
)
_KEY = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]{0,10000}(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?")
_BEARER = re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{8,}")
_WEB_ADDRESS = re.compile(r"(?i)\b(https?)://([^\s/\"'<>]{1,300})@")
_ADDRESS = re.compile(r"(?i)\b(?!https?:)([a-z][a-z0-9+.-]{0,20})://([^\s:/@\"'<>]{0,100}):([^\s\"'<>]{1,300})@")
"""A password may contain an @ and, except in web addresses, a slash."""


def is_secret(name: str) -> bool:
    """Return whether a variable, field or parameter of this name holds a secret."""
    return bool(_NAME.search(name)) and not _ORDINARY.search(name)


def redact(text: str) -> str:
    """Return the text without its secrets."""
    for secret in _values():
        text = secret.sub(HIDDEN, text)
    text = _TOKEN.sub(HIDDEN, _KEY.sub(HIDDEN, text))
    text = _ADDRESS.sub(rf"\1://\2:{HIDDEN}@", _WEB_ADDRESS.sub(_without_password, text))
    text = _COOKIE.sub(rf"\1{HIDDEN}", _WEBHOOK.sub(rf"\1{HIDDEN}", text))
    return _BEARER.sub(rf"\1{HIDDEN}", _without_labelled(text))


def redacted_values(value: Any, field: str = "") -> Any:
    """Return JSON without its secrets; the value of a field such as `hub_token` is removed entirely."""
    if isinstance(value, Mapping):
        return {key: redacted_values(item, field if is_secret(field) else str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted_values(item, field) for item in value]
    if is_secret(field) and value not in (None, "") and not isinstance(value, bool):
        return HIDDEN
    return redact(value) if isinstance(value, str) else value


def _without_labelled(text: str) -> str:
    parts, at = [], 0
    for begin, end in _labelled_spans(text):
        parts += [text[at:begin], HIDDEN]
        at = end
    return "".join([*parts, text[at:]])


def _labelled_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each value next to a secret's name."""
    at = 0
    for label in _LABEL.finditer(text):
        value = _LABELLED.match(text, label.end())
        if label.start() < at or value is None or not is_secret(label["option"] or label["name"]):
            continue
        begin, at = value.span("plain" if value["plain"] else "quoted")
        if not text.startswith(HIDDEN, begin):
            yield begin, at


def _without_password(match: re.Match[str]) -> str:
    """Return a web address without user and password, or without the token in their place."""
    user, colon, _password = match[2].partition(":")
    return f"{match[1]}://{user}:{HIDDEN}@" if colon else f"{match[1]}://{HIDDEN}@"


def _values() -> tuple[re.Pattern[str], ...]:
    """Return patterns for this process's secrets, longest first, because one may be part of another."""
    return _patterns(tuple(os.environ.items()))


@lru_cache(maxsize=1)
def _patterns(environment: tuple[tuple[str, str], ...]) -> tuple[re.Pattern[str], ...]:
    encoded_secrets = {way for secret in _secrets(environment) for way in _ways(secret) if len(way) >= LEAST}
    return tuple(_pattern(way) for way in sorted(encoded_secrets, key=len, reverse=True) if way not in HIDDEN)


def _secrets(environment: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the values of secret variables, and secrets in the URLs and settings of other variables."""
    for name, value in environment:
        if is_secret(name) or (_VARIABLE.search(name) and not _ORDINARY.search(name)):
            yield value
        for address in _WEB_ADDRESS.finditer(value):
            user, colon, password = address[2].partition(":")
            yield unquote(password if colon else user)
        yield from (unquote(address[3]) for address in _ADDRESS.finditer(value))
        yield from (unquote(value[begin:end]) for begin, end in _labelled_spans(value))


def _ways(secret: str) -> Iterator[str]:
    """Yield the spellings of a secret: plain, URL-encoded, and in JSON."""
    bare = secret.strip().strip("\"'")
    yield from {bare, quote(bare, safe=""), quote(bare), quote_plus(bare), json.dumps(bare)[1:-1]}


def _pattern(secret: str) -> re.Pattern[str]:
    escaped = re.escape(secret)
    return re.compile(escaped if len(secret) >= DISTINCT else rf"(?<!\w){escaped}(?!\w)")
