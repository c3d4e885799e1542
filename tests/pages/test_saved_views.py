"""Views under names: saved from the address, shared, opened and deleted; filters of Runs live in the address."""

from __future__ import annotations

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from store.db.engine import Store
from store.views import list_views, save_view

Open = Callable[..., AppTest]


def save(app: AppTest, page: str, name: str) -> None:
    app.text_input(key=f"view_name_{page}").set_value(name)
    next(button for button in app.button if button.label == "Save view").click().run()
    assert not app.exception


def test_a_view_keeps_what_the_address_says_and_is_deleted_again(seeded_store: Store, open_page: Open) -> None:
    app = open_page("curves", group="method", zoom="1,2", charts="Reward")
    save(app, "curves", "by method")
    assert list_views(seeded_store, "curves") == {"by method": "group=method&charts=Reward"}
    assert '<a href="curves?group=method&amp;charts=Reward"' in html(app)
    save(app, "curves", "  ")
    assert len(list_views(seeded_store, "curves")) == 1
    app.button(key="delete_view_curves_0").click().run()
    assert list_views(seeded_store, "curves") == {} and not app.exception


def test_filters_of_runs_are_in_the_address_and_in_its_views(seeded_store: Store, open_page: Open) -> None:
    app = open_page("runs", method="SFT", find="demo")
    assert app.multiselect(key="runs_method").value == ["SFT"] and app.text_input(key="runs_search").value == "demo"
    app.multiselect(key="runs_status").set_value(["finished"]).run()
    assert app.query_params["status"] == "finished"
    save(app, "runs", "finished SFT")
    assert list_views(seeded_store, "runs")["finished SFT"] == "method=SFT&status=finished&find=demo"
    app.multiselect(key="runs_method").set_value([]).run()
    assert "method" not in app.query_params and app.multiselect(key="runs_method").value == []


def test_a_view_of_somebody_else_is_offered(seeded_store: Store, open_page: Open) -> None:
    save_view(seeded_store, "sweep", "theirs", "picture=Scatter")
    app = open_page("sweep")
    assert '<a href="sweep?picture=Scatter"' in html(app) and ">theirs</a>" in html(app)


def html(app: AppTest) -> str:
    return "".join(each.proto.body for each in app.get("html"))
