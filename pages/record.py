"""Record: stream your own training script into this dashboard, wherever it runs."""

from __future__ import annotations

import streamlit as st

from app.record import lines
from app.shared import data, format
from store.db.engine import StoreError
from store.recording import token

st.title("Record a script", anchor=False)
st.text(
    "Stream your own training script into this dashboard, live, with all its metrics, completions, rewards, questions "
    "and images. You need Python 3.9 or newer, one file next to the script and a few lines in it. The script never "
    "waits for the dashboard."
)

address = lines.address(st.context.url)
try:
    place = token.path_of(data.reader())
except StoreError as error:
    data.end_page(error)

where = st.segmented_control(
    "Where does the script run?",
    lines.PLACES,
    default=lines.PLACES[0],
    required=True,
    key="record.where",
)
is_here = where == lines.PLACES[0]

st.header("1. Put the recorder next to the script", anchor=False)
if is_here:
    st.code(lines.download(address), language="bash")
else:
    st.text("On that machine, open a tunnel to this one, set the token, and download the file.")
    st.code(lines.tunnel(address), language="bash")
    lines.secret()

st.header("2. Add these lines", anchor=False)
kinds = st.tabs(list(lines.SCRIPTS), key="record.kind")
for tab, (code, note) in zip(kinds, lines.SCRIPTS.values(), strict=True):
    with tab:
        st.code(code, language="python")
        st.caption(format.literal(note))

st.header("3. Run it", anchor=False)
st.text(
    "The run appears on the Runs page within a second or two; Stop on its page ends the script after its current step. "
    "The recorder also keeps everything in a folder named vr1z-…. If the script is killed, whatever it has not sent is "
    "imported from there: automatically on this machine, elsewhere by the next script that uses the same folder, and "
    "anywhere with this command:"
)
st.code(lines.sync(data.reader().where), language="bash")
if is_here:
    st.caption(format.literal(f"The recorder authenticates with a token that only your account can read, in {place}."))
lines.latest()
