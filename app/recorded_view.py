"""What pages show about the recorded experiment: its origin, the stops of the tour, and how to get runs.

The URL holds the tour's current stop, whose sentence is shown above the page.
"""

from __future__ import annotations

from typing import NoReturn

import streamlit as st

from app import recorded
from app.recorded import Stop
from app.shared import data, intents, links
from app.shared.run_actions import attempt, demo_button

PARAMETER = "tour"
LAUNCH_PAGE = "../pages/launch.py"
LOOK_EVERY = 2.0
"""Seconds between checks for a first run."""


def banner() -> None:
    """Show that the page's run was recorded, with the commands to reproduce it and a button to remove it."""
    manifest = recorded.manifest()
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="recorded", gap="small"):
        st.caption(
            f":material/inventory_2: **Recorded** on {manifest.recorded_on} by commit `{manifest.commit[:10]}` "
            f"({manifest.machine}), not on this machine.",
            width="stretch",
        )
        with st.popover("Reproduce", icon=":material/terminal:", type="tertiary"):
            st.caption("Run these commands in order. DB is a database file of your choice.")
            st.code("\n".join(manifest.commands), language="bash")
        remove_button()


def remove_button() -> None:
    st.button(
        "Remove the recorded runs",
        icon=":material/delete:",
        type="tertiary",
        key="remove_recorded",
        on_click=_remove,
        help="Deletes the recorded runs from this database. You can import them again on the Tour page.",
    )


def _remove() -> None:
    attempt(intents.remove_recorded)
    links.go("run", "runs", "experiment", "sides", "tour")


def show_button(*, type: str = "secondary") -> None:
    """Show the button that imports the recorded runs, if there are any."""
    if not recorded.manifest().runs:
        return
    if st.button(
        "Show the recorded experiment",
        type="primary" if type == "primary" else "secondary",
        icon=":material/inventory_2:",
        key="show_recorded",
        help="Imports real runs that come with the project: GRPO, SFT, and a policy that collapses. Takes seconds.",
    ):
        with st.spinner("Importing the recorded runs"):
            attempt(intents.show_recorded)
        st.rerun()


def no_runs(shows: str) -> NoReturn:
    """Show that there are no runs yet and what the page is for, and stop it; it reloads once there is a run.

    `shows` completes a sentence: "the live curves of a run".
    """
    st.info(f"No runs yet. Once there is one, this page shows {shows}.", icon=":material/inbox:")
    with st.container(horizontal=True, vertical_alignment="center", key="no_runs"):
        show_button(type="primary")
        demo_button()
        st.page_link(LAUNCH_PAGE, label="Launch a run", icon=":material/rocket_launch:")
    rerun_on_first_run()
    st.stop()


@st.fragment(run_every=LOOK_EVERY)
def rerun_on_first_run(*, for_recorded: bool = False) -> None:
    """Rerun the page once another process has added a run or, with `for_recorded`, a recorded one."""
    heads = data.list_run_heads(newest=1, uids=tuple(recorded.manifest().runs))
    if recorded.recorded_runs(heads) if for_recorded else heads:
        st.rerun()


def stop_parameters(number: int) -> dict[str, str]:
    """Return the URL parameters of a stop, counted from 1."""
    return {**stops()[number - 1].query, PARAMETER: str(number)}


def stops() -> tuple[Stop, ...]:
    return recorded.manifest().stops


def stop_page(stop: Stop) -> str:
    return f"../pages/{stop.page}.py"


def tour_strip() -> None:
    """Show the sentence of the stop in the URL, and links to its neighbours; nothing without a stop."""
    number = links.number(PARAMETER)
    if number is None or not 1 <= number <= len(stops()):
        return
    stop = stops()[number - 1]
    with st.container(border=True, horizontal=True, vertical_alignment="center", key="tour_strip", gap="small"):
        st.markdown(f"**Stop {number} of {len(stops())} · {stop.title}.** {stop.sentence}", width="stretch")
        if number > 1:
            before = stops()[number - 2]
            st.page_link(
                stop_page(before), label="Back", icon=":material/arrow_back:", query_params=stop_parameters(number - 1)
            )
        if number < len(stops()):
            after = stops()[number]
            st.page_link(
                stop_page(after),
                label="Next stop",
                icon=":material/arrow_forward:",
                query_params=stop_parameters(number + 1),
            )
        else:
            st.page_link(LAUNCH_PAGE, label="Launch a run", icon=":material/rocket_launch:")
        st.button(
            "Leave the tour",
            icon=":material/close:",
            key="leave_tour",
            type="tertiary",
            on_click=links.go,
            args=(PARAMETER,),
        )
