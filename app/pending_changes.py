"""Keep changes that the server made to the URL and to widgets until the browser has received them.

Streamlit trusts the URL and the widget values in each message from the browser. A message sent before the server's last
change arrived would undo that change, and each refreshing fragment sends one every few seconds.
Read in Streamlit 1.67.0; `tests/e2e/test_pending_changes.py` fails when it changes.
"""

from __future__ import annotations

from functools import wraps
from typing import Any
from urllib.parse import parse_qsl

from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.scriptrunner_utils.script_run_context import ScriptRunContext
from streamlit.runtime.state.query_params import QueryParams
from streamlit.runtime.state.session_state import SessionState

Place = tuple[str, tuple[tuple[str, str], ...]]
"""A page and its URL parameters in alphabetical order."""


class PendingChanges:
    """Changes sent to one session's browser, and the outdated values that it may still send."""

    def __init__(self) -> None:
        self.address = ""
        self.replaced: set[Place] = set()
        """URLs that the server has replaced since the browser was last known to be up to date."""
        self.sent: dict[str, bytes] = {}
        """Widget values in the browser's last message."""
        self.outdated: dict[str, bytes] = {}
        """Last values from the browser of widgets that the server has set since."""

    def replace_url(self, page: str, before: str, after: str) -> None:
        self.replaced.add(place(page, before))
        self.replaced.discard(place(page, after))
        self.address = after

    def is_behind(self, page: str, address: str, *, is_history: bool) -> bool:
        """Return whether a message was sent before the server's URL arrived; navigating back is the user's choice."""
        if not is_history and place(page, address) in self.replaced:
            return True
        self.replaced.clear()
        return False

    def set_widget(self, id: str) -> None:
        if id in self.sent:
            self.outdated[id] = self.sent[id]

    def drop_outdated(
        self, states: WidgetStates, running: frozenset[str], gone: frozenset[str] = frozenset()
    ) -> WidgetStates:
        """Return the widgets without outdated ones: those that the server has set since, and those that are `gone`.

        Every user action changes a value: if none has changed, one of the `running` widgets was reset by the user.
        """
        unchanged = {state.id for state in states.widgets if self.sent.get(state.id) == _serialize(state)}
        unchanged -= {state.id for state in states.widgets if _is_trigger(state)}
        is_reset = len(unchanged) == len(states.widgets)
        current = [
            state
            for state in states.widgets
            if not (state.id in unchanged and state.id in gone)
            and (self.outdated.get(state.id) != _serialize(state) or (is_reset and state.id in running))
        ]
        for state in current:
            self.outdated.pop(state.id, None)
        self.sent = {state.id: _serialize(state) for state in states.widgets}
        return WidgetStates(widgets=current)


def place(page: str, address: str) -> Place:
    return page, tuple(sorted(parse_qsl(address, keep_blank_values=True)))


def install() -> None:
    """Wrap the three Streamlit functions that handle a session's URL and widgets."""
    if not hasattr(SessionState.register_widget, "__wrapped__"):
        QueryParams._send_query_param_msg = _wrap_send(QueryParams._send_query_param_msg)  # type: ignore[method-assign]
        SessionState.register_widget = _wrap_register(SessionState.register_widget)  # type: ignore[method-assign]
        SessionState.on_script_will_rerun = _wrap_rerun(SessionState.on_script_will_rerun)  # type: ignore[method-assign]


def _wrap_send(original: Any) -> Any:
    @wraps(original)
    def send(self: QueryParams) -> None:
        context = get_script_run_ctx()
        before = context.query_string if context else ""
        original(self)
        if context is not None:
            _pending_changes(self).replace_url(context.page_script_hash, before, context.query_string)

    return send


def _wrap_register(original: Any) -> Any:
    @wraps(original)
    def register(self: SessionState, metadata: Any, user_key: str | None) -> Any:
        result = original(self, metadata, user_key)
        if result.value_changed:
            _pending_changes(self.query_params).set_widget(metadata.id)
        return result

    return register


def _wrap_rerun(original: Any) -> Any:
    @wraps(original)
    def rerun(self: SessionState, fresh: WidgetStates | None, *, is_history_navigation: bool, **rest: Any) -> None:
        context, pending = get_script_run_ctx(), _pending_changes(self.query_params)
        if fresh is not None and context is not None:
            page, address = context.page_script_hash, context.query_string
            if pending.is_behind(page, address, is_history=is_history_navigation):
                context.query_string = pending.address
                self.query_params.set_initial_query_params(pending.address)
                self.query_params.populate_from_query_string(pending.address)
            fresh = pending.drop_outdated(fresh, *_running_and_gone(self, fresh, context))
        original(self, fresh, is_history_navigation=is_history_navigation, **rest)

    return rerun


def _running_and_gone(
    session: SessionState, states: WidgetStates, context: ScriptRunContext
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the widgets of the fragments (or page) that now run, and those that are no longer on the page."""
    ids, fragments = frozenset(state.id for state in states.widgets), context.fragment_ids_this_run
    gone = frozenset(id for id in ids if id not in session._old_state and id not in session._new_widget_state)
    if not fragments:
        return ids, gone
    metadata_by_id = {id: session.get_widget_metadata(id) for id in ids}
    return frozenset(
        id for id, metadata in metadata_by_id.items() if metadata and metadata.fragment_id in fragments
    ), gone


def _pending_changes(address: QueryParams) -> PendingChanges:
    pending: PendingChanges = vars(address).setdefault("pending_changes", PendingChanges())
    return pending


def _is_trigger(state: WidgetState) -> bool:
    """Return whether it is a button or a key, which is part of a message only if pressed."""
    return "trigger" in (state.WhichOneof("value") or "")


def _serialize(state: WidgetState) -> bytes:
    return state.SerializeToString(deterministic=True)
