"""Choose where a run goes: to this host's queue or, if one is configured, to a Ray cluster."""

from __future__ import annotations

import streamlit as st

from trainer.launch import cluster

NAMES = {"local": "This machine", "ray": "Ray cluster"}


def launcher_choice(key: str) -> str:
    """Return the name of a launcher; ask only if there are several."""
    address = cluster.address()
    if address is None:
        return "local"
    help = f"The cluster is the one at {address}; it starts a run when a node has room."
    return st.segmented_control(
        "Where", list(NAMES), default="local", format_func=NAMES.__getitem__, required=True, key=key, help=help
    )
