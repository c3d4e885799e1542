"""The sidebar: all pages in groups, the current run, active jobs, and the theme switch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlit as st
from streamlit.navigation.page import Page

from app import recorded, recorded_view, theme
from app.now import now_box
from app.shared import keys, run_picker

PAGES = Path(__file__).resolve().parents[1] / "pages"
NAME, MARK = (Path(__file__).with_name(file) for file in ("logo.svg", "favicon.svg"))
RUN_PAGES = ("run", "traces", "emergence", "find", "rewards", "compare", "drift", "curves", "sweep")
"""Pages that show the current run."""
STYLE = Path(__file__).with_suffix(".css")


def _page(name: str, icon: str, help: str) -> Page:
    return st.Page(
        PAGES / f"{name}.py",
        title=name.capitalize(),
        icon=f":material/{icon}:",
        url_path=name,
        default=name == "runs",
        help=help,
    )


def pages() -> dict[str, list[Page]]:
    """Return the pages by section."""
    return {
        "Train and follow": [
            _page("runs", "list_alt", "All runs and the queue. Open, stop, resume or delete runs."),
            _page("tour", "tour", "See what the dashboard can do: a few stops on recorded runs, next to live ones."),
            _page(
                "launch",
                "rocket_launch",
                "Start a run: choose method, model, data and rewards, and see what it will cost.",
            ),
            _page("record", "sensors", "Stream your own training script into this dashboard, wherever it runs."),
        ],
        "Understand one run": [
            _page("run", "monitoring", "Is it learning? Live curves, configuration, log and events."),
            _page("traces", "psychology", "What did it answer? Every completion beside its image, with its rewards."),
            _page("emergence", "timeline", "When did reasoning appear? Milestones, and one example over training."),
            _page("find", "search", "Search all completions; tag, export or train on the results."),
            _page("rewards", "balance", "How is an answer rewarded, and why? Score a text, or rescore a past run."),
        ],
        "Compare runs": [
            _page("curves", "ssid_chart", "Compare any metric of many runs over training."),
            _page(
                "sweep", "tune", "Which setting is best? Results over settings; pause, resume or extend an experiment."
            ),
            _page("compare", "leaderboard", "Which method is better, and is it significant? Tables with intervals."),
            _page("drift", "compare", "How do reasoning styles differ? Runs side by side, sentence by sentence."),
        ],
        "Data and machine": [
            _page("datasets", "dataset", "Browse images and questions, and find images that two sets share."),
            _page(
                "system",
                "health_and_safety",
                "Health of the machine and the database: versions, devices, disk, workers.",
            ),
        ],
    }


def notes(page: Page) -> None:
    """Show, above a page, the tour's current stop and whether the current run is a recorded one."""
    recorded_view.tour_strip()
    runs = run_picker.selectable_runs()
    current = run_picker.choose(runs)
    if page.url_path in RUN_PAGES and current is not None and recorded.is_recorded(current):
        recorded_view.banner()


def sidebar(groups: Mapping[str, Sequence[Page]], current: Page) -> None:
    """Show the sidebar; its links keep the current run."""
    st.logo(NAME, icon_image=MARK, size="large")
    st.html(STYLE)
    runs = run_picker.selectable_runs()
    chosen = run_picker.choose(runs)
    with st.sidebar:
        if chosen is not None:
            run_picker.show(runs, chosen, current.url_path)
        with st.container(key="menu", gap=None):
            for title, members in groups.items():
                st.caption(title)
                for page in members:
                    st.page_link(page, query_params=run_picker.carried_parameters(), width="stretch")
        now_box()
        with st.container(horizontal=True, key="menu_foot", gap="small"):
            theme.switch()
            keys.shortcuts_button()
