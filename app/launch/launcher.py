"""Choose where a run is queued: on this host or, if configured, on a Ray cluster."""

from __future__ import annotations

import streamlit as st

from trainer.launch import cluster

NAMES = {"local": "This machine", "ray": "Ray cluster"}


def launcher_choice(key: str) -> str:
    """Return the name of a launcher; show a choice only if there are several."""
    address = cluster.address()
    if address is None:
        return "local"
    help = f"The cluster at {address} starts a run when a node has free capacity."
    return st.segmented_control(
        "Run on", list(NAMES), default="local", format_func=NAMES.__getitem__, required=True, key=key, help=help
    )
