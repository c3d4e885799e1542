"""Navigation over the pages, and the sidebar's box with what is running."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import access, misread
from app.now import now_box
from app.shared import data
from store.db.engine import StoreError

PAGES = Path(__file__).resolve().parents[1] / "pages"
FAVICON = Path(__file__).with_name("favicon.svg")

st.set_page_config(page_title="Vision-R1-Zero", page_icon=str(FAVICON), layout="wide")

navigation = st.navigation(
    [
        st.Page(
            PAGES / "runs.py",
            title="Runs",
            icon=":material/list_alt:",
            url_path="runs",
            default=True,
            help="Every run, what is going on now and what waits. Open, stop, resume, clone or delete runs here.",
        ),
        st.Page(
            PAGES / "launch.py",
            title="Launch",
            icon=":material/rocket_launch:",
            url_path="launch",
            help="Start a run: choose method, model, data and rewards, and see what it will cost before it starts.",
        ),
        st.Page(
            PAGES / "run.py",
            title="Run",
            icon=":material/monitoring:",
            url_path="run",
            help="Is it learning? Live curves, configuration, log and events of one run.",
        ),
        st.Page(
            PAGES / "emergence.py",
            title="Emergence",
            icon=":material/timeline:",
            url_path="emergence",
            help="When did it start to reason? Milestones, what moves the policy, and one example through training.",
        ),
        st.Page(
            PAGES / "traces.py",
            title="Traces",
            icon=":material/psychology:",
            url_path="traces",
            help="What did it say? Every sampled answer beside its image, step by step, with its rewards.",
        ),
        st.Page(
            PAGES / "find.py",
            title="Find",
            icon=":material/search:",
            url_path="find",
            help="Where did it say that? Filter, sort and search all completions; tag, export or train on a selection.",
        ),
        st.Page(
            PAGES / "rewards.py",
            title="Rewards",
            icon=":material/balance:",
            url_path="rewards",
            help="What is an answer paid, and why? Score a text, or a whole past run again under other weights.",
        ),
        st.Page(
            PAGES / "compare.py",
            title="Compare",
            icon=":material/leaderboard:",
            url_path="compare",
            help="Which one wins, and is that sure? Tables with intervals, and the examples that decide them.",
        ),
        st.Page(
            PAGES / "drift.py",
            title="Drift",
            icon=":material/compare:",
            url_path="drift",
            help="How do the styles differ? Methods side by side, sentence by sentence, and what each says more often.",
        ),
        st.Page(
            PAGES / "datasets.py",
            title="Datasets",
            icon=":material/dataset:",
            url_path="datasets",
            help="What am I training on? Images, questions and counts, images that two sets share, and who saw what.",
        ),
        st.Page(
            PAGES / "system.py",
            title="System",
            icon=":material/health_and_safety:",
            url_path="system",
            help="Is the machine well, and the database? Versions, devices, disk, workers, and what to do.",
        ),
    ]
)

try:
    access.gate()
    data.keeper()
except StoreError as error:
    data.end_page(error)

try:
    with st.sidebar:
        now_box()
    navigation.run()
except Exception as error:  # any row written by another program may raise
    if not misread.explain(error):
        raise
