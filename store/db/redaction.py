"""Takes secrets out of text before it is kept or shown: one list of what is secret, for all that leaves a process.

Secret is what stands beside a telling name (a variable, a field, a parameter of a URL, an option), what has the shape
of a known kind of token, the password in an address, and, wherever it stands, the value of a secret variable of this
very process. Knows no database.
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
"""Characters of a secret that is looked for everywhere; a shorter value would hide ordinary words."""
DISTINCT = 16
"""From so many characters on, a secret is looked for inside of words, too."""
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
"""What else is secret in the name of an environment variable."""
_ORDINARY = re.compile(
    r"(?-i:^(?:OLD)?PWD|(?i:(?:^|[_.-])(?:bos|eos|pad|unk|sep|cls|mask|image|video|audio|boi|eoi|fake|think|end|begin|"
    r"stop|special|extra|next|first|last|per|a|each|forward|backward)[_.-]?(?:token|pass)))$"
)
"""The folder of a shell, tokens of a tokenizer, the passes of a model."""
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
"""A password may hold an @ and, but in the addresses of the web, a slash."""


def is_secret(name: str) -> bool:
    """Whether a variable, a field or a parameter of this name holds a secret."""
    return bool(_NAME.search(name)) and not _ORDINARY.search(name)


def redacted(text: str) -> str:
    """The text without what is secret in it."""
    for secret in _values():
        text = secret.sub(HIDDEN, text)
    text = _TOKEN.sub(HIDDEN, _KEY.sub(HIDDEN, text))
    text = _ADDRESS.sub(rf"\1://\2:{HIDDEN}@", _WEB_ADDRESS.sub(_without_password, text))
    text = _COOKIE.sub(rf"\1{HIDDEN}", _WEBHOOK.sub(rf"\1{HIDDEN}", text))
    return _BEARER.sub(rf"\1{HIDDEN}", _without_labelled(text))


def redacted_values(value: Any, field: str = "") -> Any:
    """The same of whatever JSON holds; what a field such as `hub_token` holds goes altogether."""
    if isinstance(value, Mapping):
        return {key: redacted_values(item, field if is_secret(field) else str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted_values(item, field) for item in value]
    if is_secret(field) and value not in (None, "") and not isinstance(value, bool):
        return HIDDEN
    return redacted(value) if isinstance(value, str) else value


def _without_labelled(text: str) -> str:
    parts, at = [], 0
    for begin, end in _labelled(text):
        parts += [text[at:begin], HIDDEN]
        at = end
    return "".join([*parts, text[at:]])


def _labelled(text: str) -> Iterator[tuple[int, int]]:
    """Where values begin and end that stand beside a secret's name."""
    at = 0
    for label in _LABEL.finditer(text):
        value = _LABELLED.match(text, label.end())
        if label.start() < at or value is None or not is_secret(label["option"] or label["name"]):
            continue
        begin, at = value.span("plain" if value["plain"] else "quoted")
        if not text.startswith(HIDDEN, begin):
            yield begin, at


def _without_password(match: re.Match[str]) -> str:
    """Of an address of the web with a user and a password, or with a token in their place."""
    user, colon, _password = match[2].partition(":")
    return f"{match[1]}://{user}:{HIDDEN}@" if colon else f"{match[1]}://{HIDDEN}@"


def _values() -> tuple[re.Pattern[str], ...]:
    """The secrets of this process as they may be written, the longest first: one may be a part of another."""
    return _patterns(tuple(os.environ.items()))


@lru_cache(maxsize=1)
def _patterns(environment: tuple[tuple[str, str], ...]) -> tuple[re.Pattern[str], ...]:
    found = {way for secret in _secrets(environment) for way in _ways(secret) if len(way) >= LEAST}
    return tuple(_pattern(way) for way in sorted(found, key=len, reverse=True) if way not in HIDDEN)


def _secrets(environment: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The values of secret variables, and what is secret in the addresses and settings that others hold."""
    for name, value in environment:
        if is_secret(name) or (_VARIABLE.search(name) and not _ORDINARY.search(name)):
            yield value
        for address in _WEB_ADDRESS.finditer(value):
            user, colon, password = address[2].partition(":")
            yield unquote(password if colon else user)
        yield from (unquote(address[3]) for address in _ADDRESS.finditer(value))
        yield from (unquote(value[begin:end]) for begin, end in _labelled(value))


def _ways(secret: str) -> Iterator[str]:
    """As it is, in a URL, in JSON."""
    bare = secret.strip().strip("\"'")
    yield from {bare, quote(bare, safe=""), quote(bare), quote_plus(bare), json.dumps(bare)[1:-1]}


def _pattern(secret: str) -> re.Pattern[str]:
    escaped = re.escape(secret)
    return re.compile(escaped if len(secret) >= DISTINCT else rf"(?<!\w){escaped}(?!\w)")
