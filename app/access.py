"""Who may read and who may act. Without sign-in, anyone who can reach the server may do everything.

Sign-in is OpenID Connect through Streamlit; a TOML file holds its `[auth]` section, as Streamlit documents it, and
`[access]` with `writers` and `readers`: lists of e-mail addresses; readers may be `["*"]`. The file is read again
whenever it changes, so that removing a user takes effect at once.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import streamlit as st
from streamlit.auth_util import get_cookie_with_chunks
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from store.db.engine import StoreError

VARIABLE = "VR1Z_SIGN_IN"
"""Environment variable with the file's path; the command line sets it for the pages."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
NEEDED = ("redirect_uri", "cookie_secret", "client_id", "client_secret", "server_metadata_url")
LEAST_SECRET = 32
EVERYBODY = "*"
MISSING_VERIFICATION = "accept_missing_email_verified"


class SignIn(NamedTuple):
    """The contents of the file; addresses in lower case."""

    redirect_uri: str
    cookie_secret: str
    writers: frozenset[str]
    readers: frozenset[str]
    accepts_missing_verification: bool = False
    """Whether to accept providers that never send `email_verified`."""

    @property
    def origin(self) -> str:
        """Return the scheme and authority under which users reach the server."""
        parts = urlsplit(self.redirect_uri)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def host(self) -> str:
        return urlsplit(self.redirect_uri).hostname or ""

    def may_write(self, user: Mapping[str, Any]) -> bool:
        return self.address(user) in self.writers

    def may_read(self, user: Mapping[str, Any]) -> bool:
        address = self.address(user)
        return bool(address) and (EVERYBODY in self.readers or address in self.readers | self.writers)

    def address(self, user: Mapping[str, Any]) -> str:
        """Return the e-mail address that the provider has verified, or an empty text."""
        if not user.get("is_logged_in") or not self._is_verified(user.get("email_verified")):
            return ""
        return str(user.get("email") or "").lower()

    def _is_verified(self, claim: object) -> bool:
        """Return whether the claim is true. OpenID Connect defines a boolean; some providers send text or nothing."""
        return claim is True or claim == "true" or (claim is None and self.accepts_missing_verification)

    def refusal(self, user: Mapping[str, Any]) -> str:
        """Return why a signed-in account may not read, and what to do."""
        email = str(user.get("email") or "This account")
        if not user.get("email") or self.address(user):
            return f"{email} may not view these runs: ask to be added to the readers."
        return f"Your sign-in provider has not verified {email}: verify the address there, then sign in again."

    def user_of(self, cookies: Mapping[str, str]) -> dict[str, Any]:
        """Return the user in a request's cookies; empty without one, or if a cookie is not ours."""

        def read_signed(name: str) -> bytes | None:
            value = cookies.get(name)
            return None if value is None else decode_signed_value(self.cookie_secret, name, value.encode("latin-1"))

        cookie = get_cookie_with_chunks(read_signed, USER_COOKIE_NAME)
        user = json.loads(cookie) if cookie else {}
        is_ours = isinstance(user, dict) and user.get("is_logged_in") and user.get("origin") == self.origin
        return user if is_ours else {}


def load(path: Path) -> SignIn:
    """Read the file. Raises StoreError that says what is wrong with it."""
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise StoreError(f"Other accounts on this machine can read the secrets in {path}: run `chmod 600 {path}`.")
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StoreError(f"{path} cannot be read as TOML ({error}): correct it, or start without --sign-in.") from None
    auth, access = _section(values, "auth"), _section(values, "access")
    if missing := [name for name in NEEDED if not isinstance(auth.get(name), str) or not auth[name]]:
        raise StoreError(f"The [auth] section of {path} lacks {', '.join(missing)}: add them.")
    writers, readers = (_addresses(path, access, name) for name in ("writers", "readers"))
    accepts_missing = access.get(MISSING_VERIFICATION, False)
    if not isinstance(accepts_missing, bool):
        raise StoreError(f"{MISSING_VERIFICATION} in {path} must be true or false.")
    sign_in = SignIn(auth["redirect_uri"], auth["cookie_secret"], writers, readers, accepts_missing)
    if len(sign_in.cookie_secret) < LEAST_SECRET:
        raise StoreError(f"The cookie_secret in {path} is too short: use at least {LEAST_SECRET} random characters.")
    if not sign_in.origin.startswith("https://") and sign_in.host not in LOOPBACK:
        raise StoreError(f"The redirect_uri in {path} does not use https: put a TLS proxy in front of the server.")
    if not writers or EVERYBODY in writers:
        raise StoreError(
            f"{path} must name who may launch and delete: set writers = [addresses] in its [access] section."
        )
    return sign_in


def _section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = values.get(name)
    return section if isinstance(section, dict) else {}


def _addresses(path: Path, access: Mapping[str, Any], name: str) -> frozenset[str]:
    addresses = access.get(name, [])
    if not isinstance(addresses, list) or not all(isinstance(each, str) for each in addresses):
        raise StoreError(f"{name} in {path} must be a list of e-mail addresses.")
    return frozenset(each.lower() for each in addresses)


def current_settings() -> SignIn | None:
    """Return this process's current sign-in settings, or None. Raises StoreError."""
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    try:
        file_state = os.stat(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read ({error.strerror}): put it back, or start without --sign-in."
        ) from None
    return _load_settings(path, (file_state.st_ino, file_state.st_mtime_ns, file_state.st_size, file_state.st_mode))


@lru_cache(maxsize=2)
def _load_settings(path: str, version: tuple[int, ...]) -> SignIn:
    return load(Path(path))


def may_write() -> bool:
    """Return whether the page's viewer may launch, stop, tag and delete."""
    sign_in = current_settings()
    return sign_in is None or sign_in.may_write(st.user.to_dict())


def require_write() -> None:
    """Raise StoreError for a viewer who may only read."""
    if not may_write():
        raise StoreError("You have read-only access: ask to be added to the writers.")


def gate() -> None:
    """Stop the page for a viewer who may not read it, and offer sign-in."""
    sign_in = current_settings()
    if sign_in is None or sign_in.may_read(user := st.user.to_dict()):
        return
    st.title("Vision-R1-Zero")
    if user.get("is_logged_in"):
        st.text(sign_in.refusal(user))
        st.button("Sign out", on_click=st.logout, key="sign_out")
    else:
        st.button("Sign in", on_click=st.login, type="primary", icon=":material/login:", key="sign_in")
    st.stop()
