"""Which of a browser's messages are older than what the server told it; `tests/e2e/test_unseen.py` has the journeys."""

from __future__ import annotations

from streamlit.proto.WidgetStates_pb2 import WidgetState, WidgetStates

from app.unseen import Unseen

ALL = frozenset({"order", "name", "next"})


def states(*pressed: str, **values: str) -> WidgetStates:
    buttons = [WidgetState(id=id, trigger_value=True) for id in pressed]
    return WidgetStates(widgets=[*buttons, *(WidgetState(id=id, string_value=text) for id, text in values.items())])


def ids(states: WidgetStates) -> set[str]:
    return {state.id for state in states.widgets}


def told() -> Unseen:
    """The server set `order` after the browser had sent it."""
    unseen = Unseen()
    assert ids(unseen.news(states(order="drift", name="a"), ALL)) == {"order", "name"}
    unseen.set_widget("order")
    return unseen


def test_a_widget_that_the_server_set_is_not_taken_back_by_a_timer() -> None:
    unseen = told()
    for _ in range(2):
        assert ids(unseen.news(states(order="drift", name="a"), frozenset())) == {"name"}
    assert ids(unseen.news(states(order="random", name="a"), frozenset())) == {"order", "name"}
    assert ids(unseen.news(states(order="drift", name="a"), ALL)) == {"order", "name"}, "somebody chose it again"


def test_nor_by_a_button_or_another_widget() -> None:
    assert ids(told().news(states("next", order="drift", name="a"), ALL)) == {"next", "name"}
    assert ids(told().news(states(order="drift", name="b"), ALL)) == {"name"}


def test_somebody_may_put_it_back() -> None:
    assert ids(told().news(states(order="drift", name="a"), ALL)) == {"order", "name"}


def test_a_widget_that_has_left_the_page_says_nothing() -> None:
    unseen = Unseen()
    unseen.news(states(order="drift", name="a"), ALL)
    assert ids(unseen.news(states("next", order="drift", name="a"), ALL, frozenset({"order"}))) == {"next", "name"}
    assert ids(unseen.news(states(order="random", name="a"), ALL, frozenset({"order"}))) == {"order", "name"}


def test_only_addresses_that_the_server_left_are_behind_until_the_browser_follows() -> None:
    unseen = Unseen()
    assert not unseen.is_behind("page", "a=1&b=2", is_history=False)
    unseen.move("page", "a=1&b=2", "a=2")
    assert unseen.is_behind("page", "b=2&a=1", is_history=False)
    assert not unseen.is_behind("page", "a=2", is_history=False)
    assert not unseen.is_behind("page", "b=2&a=1", is_history=False), "it was there, and has gone back by itself"
    unseen.move("page", "a=1&b=2", "a=2")
    assert not unseen.is_behind("another page", "a=1&b=2", is_history=False)
    unseen.move("page", "a=1&b=2", "a=2")
    assert not unseen.is_behind("page", "a=1&b=2", is_history=True)
