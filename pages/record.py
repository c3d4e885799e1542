"""Record: make a training of your own a run here, wherever it runs."""

from __future__ import annotations

import streamlit as st

from app.record import lines
from app.shared import data, format
from store.db.engine import StoreError
from store.recording import token

st.title("Record a script", anchor=False)
st.text(
    "A training of your own becomes a run here, live, with every figure, completion, reward, question and picture. It "
    "needs one file beside the script and Python 3.9 or newer. Nothing else about the script changes, and it never "
    "waits for this dashboard."
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

st.subheader("1. Put the recorder beside the script", anchor=False)
if is_here:
    st.code(lines.download(address), language="bash")
else:
    st.text("Open a tunnel from there to this machine, then fetch the file and name the token.")
    st.code(lines.tunnel(address), language="bash")
    lines.secret()

st.subheader("2. Add these lines", anchor=False)
kinds = st.tabs(list(lines.SCRIPTS), key="record.kind")
for tab, (code, note) in zip(kinds, lines.SCRIPTS.values(), strict=True):
    with tab:
        st.code(code, language="python")
        st.caption(format.literal(note))

st.subheader("3. Run it", anchor=False)
st.text(
    "The run appears on the Runs page within a second or two, and Stop on its page ends it after its step. Everything "
    "also lies in a folder named vr1z-… beside the run. What a killed script left there is taken in by itself on this "
    "machine, elsewhere by the next script in that folder, and anywhere by this command:"
)
st.code(lines.sync(data.reader().where), language="bash")
if is_here:
    st.caption(format.literal(f"The recorder shows a token that only your account can read, in {place}."))
lines.latest()
