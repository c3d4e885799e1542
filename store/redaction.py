"""Takes secrets out of text before it is kept or shown: tokens, and passwords in addresses. Knows no database."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "[redacted]"
LEAST = 8
"""Characters of a secret that is looked for; a shorter value would hide ordinary words."""
_VARIABLE = re.compile(r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|KEY|WEBHOOK)$", re.IGNORECASE)
_FIELD = re.compile(r"(?:^|_)(?:token|secret|password|api_key)$", re.IGNORECASE)
_TOKEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|AKIA[0-9A-Z]{16})"
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{8,}")
_PASSWORD = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]{0,20}://[^\s/:@]{0,100}):[^\s/@]{1,200}@")


def redacted(text: str) -> str:
    """The text without tokens of known shapes, passwords in URLs and the values of secret environment variables."""
    for secret in _secrets():
        text = text.replace(secret, HIDDEN)
    text = _BEARER.sub(rf"\1{HIDDEN}", _TOKEN.sub(HIDDEN, text))
    return _PASSWORD.sub(rf"\1:{HIDDEN}@", text)


def redacted_values(value: Any, field: str = "") -> Any:
    """The same of whatever JSON holds; what a field such as `hub_token` holds goes altogether."""
    if isinstance(value, str):
        return HIDDEN if value and _FIELD.search(field) else redacted(value)
    if isinstance(value, Mapping):
        return {key: redacted_values(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted_values(item, field) for item in value]
    return value


def _secrets() -> list[str]:
    """The longest first: one secret may be a part of another."""
    found = {value for name, value in os.environ.items() if _VARIABLE.search(name) and len(value) >= LEAST}
    return sorted(found, key=len, reverse=True)
