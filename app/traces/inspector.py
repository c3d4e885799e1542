"""One trace in detail: image, question, reasoning, the reasons for its rewards, and its neighbours.

Used for completions and predictions; model output and users' notes are shown as inert text.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.shared import data, format, keys, links
from app.shared.example_parts import show_rest, show_truth
from app.shared.trace_text import MOST_SHOWN, body, highlighted, visible
from app.shared.trace_view import Row, chip
from app.traces import meetings_view, trace_copy
from app.traces.token_view import token_view
from store.db.engine import Store, StoreError
from store.db.rows import RunDetail, StoredCompletion, StoredExample
from store.examples import get_examples
from store.media.rows import media_path
from store.notes import Remarks, TraceKind, get_remarks, list_trace_tags, note_trace, tag_traces, untag_trace
from store.trace import Form, parse
from trainer.spec.config import ConfigError, RunConfig, from_dict
from trainer.spec.rewards import Explained, explain

PICTURE_WIDTH = 300
SAME = 1e-6


def inspect(store: Store, run: RunDetail, row: Row, siblings: Sequence[Row], style: Form) -> None:
    """Show the trace with its details; `siblings` are the rows of its group, including itself."""
    example = get_examples(store, [row.example_id]).get(row.example_id) if row.example_id is not None else None
    ranked = sorted(siblings, key=lambda each: (-(each.reward if each.reward is not None else -1e300), each.id))
    with st.container(border=True, key="inspector"):
        _head(run, row, ranked, example)
        with st.container(horizontal=True, gap="large"):
            with st.container(width=PICTURE_WIDTH):
                _picture(store, example, row)
            with st.container(key="inspected"):
                _trace(row, style)
                _rewards(run, row)
                if isinstance(row, StoredCompletion):
                    token_view(store, run, row)
                _remarks(store, row)
        if example is not None:
            meetings_view.show(store, example.id, run.id, row.step)


def kind_of(row: Row) -> TraceKind:
    return "completion" if isinstance(row, StoredCompletion) else "prediction"


def _head(run: RunDetail, row: Row, ranked: Sequence[Row], example: StoredExample | None) -> None:
    rank = next(i for i, each in enumerate(ranked) if each.id == row.id)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{kind_of(row).capitalize()} {row.id}**", width="content")
        st.caption(" · ".join(_facts(row, rank, len(ranked))), width="content")
        st.space("stretch")
        _move("k", ":material/keyboard_arrow_up:", ranked[rank - 1] if rank else None)
        _move("j", ":material/keyboard_arrow_down:", ranked[rank + 1] if rank + 1 < len(ranked) else None)
        st.button(
            "All",
            icon=":material/grid_view:",
            key="inspect.g",
            shortcut=keys.shortcut("g"),
            on_click=_leave,
            args=(run, row),
        )
        with st.popover("Copy", icon=":material/content_copy:"):
            _copies(run, row, example)


def _facts(row: Row, rank: int, of: int) -> list[str]:
    facts = [f"step {row.step}"]
    if of > 1 and row.reward is not None:
        facts.append(f"rank {rank + 1} of {of} by reward")
    if isinstance(row, StoredCompletion):
        facts.append(f"sample {row.index + 1}")
        if row.advantage is not None:
            facts.append(f"advantage {row.advantage:+.2f}".replace("-", "−"))
    else:
        facts.append(f"{row.kind} on {format.literal(row.benchmark)}")
        facts.append(f"sample {row.sample}" if row.sample else "greedy")
    if row.tokens is not None:
        facts.append(format.pluralize(row.tokens, "token") + (", cut off at the limit" if row.truncated else ""))
    return facts


def _move(key: str, icon: str, to: Row | None) -> None:
    st.button(
        icon,
        key=f"inspect.{key}",
        shortcut=keys.shortcut(key),
        disabled=to is None,
        help="Next better trace in the group" if key == "k" else "Next worse trace in the group",
        on_click=_go_to,
        args=(to,),
    )


def _go_to(row: Row) -> None:
    links.go(**{kind_of(row): str(row.id)})


def _leave(run: RunDetail, row: Row) -> None:
    """Go to the list that the trace belongs to."""
    if isinstance(row, StoredCompletion):
        st.session_state["view"] = "Completions"
        links.go("completion", run=run.uid, step=str(row.step))
    else:
        st.session_state["view"] = "Predictions"
        links.go("prediction", run=run.uid, evaluation=str(row.evaluation_id))


def _copies(run: RunDetail, row: Row, example: StoredExample | None) -> None:
    link = f"{st.context.url or 'traces'}?{kind_of(row)}={row.id}"
    st.caption("Link")
    st.code(link, language=None, wrap_lines=True)
    st.caption("Markdown")
    st.code(trace_copy.markdown(row, example, run.name, link), language=None, height=150)
    st.caption("JSON")
    st.code(trace_copy.as_json(row, example, run.uid), language=None, height=150)


def _picture(store: Store, example: StoredExample | None, row: Row) -> None:
    if example is None:
        st.caption("The example of this trace was not recorded.")
        return
    for sha256 in example.images:
        try:
            path = media_path(store, sha256)
            st.image(path, width="stretch", alt=format.literal(example.question[:200]))
        except StoreError as error:
            st.caption(format.literal(str(error)))
    st.html(f'<div class="tv-question">{highlighted(example.question)}</div>')
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        show_truth(example)
        if answered := chip(row):
            st.html(answered, width="content")
    if example.reference:
        with st.expander("Reference", type="compact"):
            st.html(f'<div class="tv-reference">{highlighted(example.reference)}</div>')
    show_rest(example)
    st.html(f'<div class="tv-name">{visible(example.name)}</div>')


def _trace(row: Row, style: Form) -> None:
    key = f"inspect-all-{kind_of(row)}-{row.id}"
    text_html = body(parse(row.text, style), limit=None if st.session_state.get(key) else MOST_SHOWN)
    st.html(text_html.html)
    if text_html.hidden:
        st.toggle(f"Show all {len(row.text):,} characters", key=key)


def _rewards(run: RunDetail, row: Row) -> None:
    explanations = explain_components(run, row)
    if not explanations:
        return
    st.html(reward_table(explanations, row.rewards, row.reward))
    if isinstance(row, StoredCompletion):
        where = {"run": run.uid, "completion": str(row.id)}
        st.page_link("../pages/rewards.py", label="Try other rewards", icon=":material/balance:", query_params=where)


def explain_components(run: RunDetail, row: Row) -> list[Explained]:
    """Return each component with its reason; for a script's run, only the recorded values."""
    try:
        config = from_dict(run.config)
    except ConfigError:
        config = RunConfig()
    if {reward.label for reward in config.paid} != set(row.rewards):
        weights = run.reward_weights
        return [Explained(name, value, weights.get(name, 1.0), "as recorded") for name, value in row.rewards.items()]
    return explain(row.text, row.truth, config, recorded=row.rewards)


def reward_table(explanations: Sequence[Explained], recorded: dict[str, float | None], total: float | None) -> str:
    """Return value, weight and reason of every component as inert HTML, and the recorded value where it differs."""
    lines = []
    for explanation in explanations:
        recorded_value = recorded.get(explanation.name, explanation.value)
        reason = visible(explanation.reason)
        if (
            recorded_value is not None
            and explanation.value is not None
            and abs(recorded_value - explanation.value) > SAME
        ):
            reason += f" · <b>recorded as {recorded_value:.3g}</b>"
        contribution = "–" if explanation.value is None else f"{explanation.weight * explanation.value:.3g}"
        value = "–" if explanation.value is None else f"{explanation.value:.3g}"
        cells = (visible(explanation.name), f"{value} × {explanation.weight:.3g}", contribution, reason)
        lines.append(_line(*cells))
    end = "–" if total is None else f"{total:.3g}"
    lines.append(_line("<b>reward</b>", "", f"<b>{end}</b>", ""))
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Component", "Value × weight", "Reward", "Reason"))
    return f'<table class="tv-rewards"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _line(name: str, *cells: str) -> str:
    return f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _remarks(store: Store, row: Row) -> None:
    kind = kind_of(row)
    remarks = get_remarks(store, kind, [row.id]).get(row.id, Remarks())
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        tags = st.multiselect(
            "Tags",
            sorted({*remarks.tags, *list_trace_tags(store)}),
            default=list(remarks.tags),
            key=f"inspect-tags-{kind}-{row.id}",
            accept_new_options=True,
            placeholder="none",
            width=320,
        )
        note = st.text_area("Note", remarks.note, key=f"inspect-note-{kind}-{row.id}", height=68)
    if set(tags) != set(remarks.tags) or note.strip() != remarks.note:
        _save(kind, row.id, remarks, tags, note)


def _save(kind: TraceKind, id: int, remarks: Remarks, tags: Sequence[str], note: str) -> None:
    try:
        writer = data.writer()
        for name in set(tags) - set(remarks.tags):
            tag_traces(writer, kind, [id], name)
        for name in set(remarks.tags) - set(tags):
            untag_trace(writer, kind, id, name)
        note_trace(writer, kind, id, note)
    except StoreError as error:
        st.error(format.literal(str(error)), icon=":material/error:")
