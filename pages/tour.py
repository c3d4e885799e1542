"""Tour: stops on recorded runs, next to the runs that are active on this machine."""

from __future__ import annotations

import streamlit as st

from app import recorded, recorded_view
from app.shared import data, run_actions
from app.tour import live

RUNS_PAGE = "../pages/runs.py"


def stops() -> None:
    for number, stop in enumerate(recorded_view.stops(), 1):
        with st.container(border=True, key=f"stop_{number}", gap="xxsmall"):
            st.page_link(
                recorded_view.stop_page(stop),
                label=f"{number}. {stop.title}",
                icon=":material/arrow_forward:",
                query_params=recorded_view.stop_parameters(number),
            )
            st.caption(stop.sentence)


st.title("Tour")
st.markdown(
    "The model sees an image and a question, and must count. **GRPO** rewards correct, well-formed answers and shows "
    "it no reasoning; **SFT** shows it reasoning to imitate. The stops show the outcome of both on recorded runs."
)
is_here = len(recorded.recorded_runs(data.list_run_heads(newest=0, uids=tuple(recorded.manifest().runs)))) > 0
tour, beside = st.columns([3, 2], gap="large")
with tour:
    if is_here:
        stops()
        recorded_view.banner()
    else:
        is_shipped = bool(recorded.manifest().runs)
        st.info(
            "The recorded runs are not in this database."
            if is_shipped
            else "This copy of the project has no recorded runs: start the demo instead.",
            icon=":material/inventory_2:",
        )
        recorded_view.show_button(type="primary")
        recorded_view.rerun_on_first_run(for_recorded=True)
with beside:
    live.live()
    run_actions.demo_button()
    st.page_link(RUNS_PAGE, label="All runs", icon=":material/list_alt:")
