"""Which of a browser's messages are older than the server's changes.

`tests/e2e/test_pending_changes.py` has the journeys.
"""

from __future__ import annotations

from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates

from app.pending_changes import PendingChanges

ALL = frozenset({"order", "name", "next"})


def states(*pressed: str, **values: str) -> WidgetStates:
    buttons = [WidgetState(id=id, trigger_value=True) for id in pressed]
    return WidgetStates(widgets=[*buttons, *(WidgetState(id=id, string_value=text) for id, text in values.items())])


def ids(states: WidgetStates) -> set[str]:
    return {state.id for state in states.widgets}


def pending_order() -> PendingChanges:
    """The server set `order` after the browser had sent it."""
    pending = PendingChanges()
    assert ids(pending.drop_outdated(states(order="drift", name="a"), ALL)) == {"order", "name"}
    pending.set_widget("order")
    return pending


def test_a_widget_that_the_server_set_is_not_taken_back_by_a_timer() -> None:
    pending = pending_order()
    for _ in range(2):
        assert ids(pending.drop_outdated(states(order="drift", name="a"), frozenset())) == {"name"}
    assert ids(pending.drop_outdated(states(order="random", name="a"), frozenset())) == {"order", "name"}
    assert ids(pending.drop_outdated(states(order="drift", name="a"), ALL)) == {"order", "name"}, (
        "somebody chose it again"
    )


def test_nor_by_a_button_or_another_widget() -> None:
    assert ids(pending_order().drop_outdated(states("next", order="drift", name="a"), ALL)) == {"next", "name"}
    assert ids(pending_order().drop_outdated(states(order="drift", name="b"), ALL)) == {"name"}


def test_somebody_may_put_it_back() -> None:
    assert ids(pending_order().drop_outdated(states(order="drift", name="a"), ALL)) == {"order", "name"}


def test_a_widget_that_has_left_the_page_says_nothing() -> None:
    pending = PendingChanges()
    pending.drop_outdated(states(order="drift", name="a"), ALL)
    assert ids(pending.drop_outdated(states("next", order="drift", name="a"), ALL, frozenset({"order"}))) == {
        "next",
        "name",
    }
    assert ids(pending.drop_outdated(states(order="random", name="a"), ALL, frozenset({"order"}))) == {"order", "name"}


def test_only_addresses_that_the_server_left_are_behind_until_the_browser_follows() -> None:
    pending = PendingChanges()
    assert not pending.is_behind("page", "a=1&b=2", is_history=False)
    pending.replace_url("page", "a=1&b=2", "a=2")
    assert pending.is_behind("page", "b=2&a=1", is_history=False)
    assert not pending.is_behind("page", "a=2", is_history=False)
    assert not pending.is_behind("page", "b=2&a=1", is_history=False), "it was there, and has gone back by itself"
    pending.replace_url("page", "a=1&b=2", "a=2")
    assert not pending.is_behind("another page", "a=1&b=2", is_history=False)
    pending.replace_url("page", "a=1&b=2", "a=2")
    assert not pending.is_behind("page", "a=1&b=2", is_history=True)
