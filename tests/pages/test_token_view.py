"""A completion token by token: what was measured is coloured, what was not can be asked for."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from app.traces.token_view import INVISIBLE, MOST_TOKENS, listed, strip
from store.completions.rows import list_groups
from store.completions.tokens import put_tokens
from store.db.engine import Store
from store.db.rows import StoredCompletion, TokenRow
from store.jobs import ask_stop, list_jobs
from tests import seeded
from tests.pages import test_trace_view
from tests.pages.test_trace_view import HOSTILE
from trainer.launch import local

Open = Callable[..., AppTest]


def by_character(text: str, entropy: float | None = 1.0, change: float = -3.0) -> TokenRow:
    """A token for each character, and one that ends the text."""
    n = len(text) + 1
    ends = (*range(1, n), n - 1)
    return TokenRow(ends, (entropy,) * n, (-2.0,) * n, (-2.0 - change,) * n)


def a_completion(store: Store) -> StoredCompletion:
    return list_groups(store, seeded.find(store, "shapes-grpo").id, 60)[0].completions[0]


@pytest.mark.parametrize("by", ["Entropy", "Change"])
@pytest.mark.parametrize("text", HOSTILE)
def test_tokens_are_shown_as_they_are(text: str, by: str) -> None:
    shown = test_trace_view.read(strip(text, by_character(text), by))
    assert set(shown.tags) <= {"div", "span", "i"}
    assert {name for name, _ in shown.attributes} <= {"class", "style", "title"}
    for character in text:
        assert (
            character in shown.text
            or f"U+{ord(character):04X}" in shown.text
            or chr(0x2400 + ord(character)) in shown.text
        )


def test_the_colour_is_the_number() -> None:
    tokens = TokenRow((1, 2, 2), (0.0, 2.5, None), (-0.1, -4.5, -1.0), (-0.1, -1.5, None))
    colours = re.compile(r'<span style="background: rgba\(([\d, .]+)\)"')
    assert colours.findall(strip("ab", tokens, "Entropy")) == [
        "86, 180, 233, 0.00",
        "86, 180, 233, 0.50",
        "86, 180, 233, 0.00",
    ]
    assert colours.findall(strip("ab", tokens, "Change")) == [
        "86, 180, 233, 0.00",
        "213, 94, 0, 0.50",
        "86, 180, 233, 0.00",
    ]
    assert "probability 1 % (at start 22 %) · change −3.00 nats · entropy 2.50 nats" in strip("ab", tokens, "Change")
    assert "probability 37 % (at start unknown)" in strip("ab", tokens, "Change")


def test_the_numbers_are_a_table_too() -> None:
    tokens = TokenRow((1, 2, 2), (0.0, 2.5, None), (0.0, -4.5, -1.0), (0.0, -1.5, None))
    found = listed("ab", tokens)
    assert found["token"] == ["a", "b", INVISIBLE] and found["entropy (nats)"] == [0.0, 2.5, None]
    assert found["change (nats)"] == [0.0, -3.0, None]
    assert found["probability"] == pytest.approx([1.0, 0.011, 0.368], abs=1e-3) and found["at start"][2] is None
    assert listed("\ud800", TokenRow((1,), (1.0,), (-1.0,), (-1.0,)))["token"] == ["?"]


def test_long_completions_are_cut() -> None:
    html = strip("x" * 100_000, by_character("x" * 100_000), "Entropy")
    assert html.count("<span") == MOST_TOKENS
    assert f"{100_001 - MOST_TOKENS} more tokens" in html


def test_measured_tokens_stand_in_the_inspector(seeded_store: Store, open_page: Open) -> None:
    row = a_completion(seeded_store)
    put_tokens(seeded_store, row.id, by_character(row.text), step=50)
    at = open_page("traces", completion=str(row.id))
    assert any(
        "with the checkpoint of step 50; it was sampled with the weights after 59" in each.value for each in at.caption
    )
    assert sum(each.value.startswith('<div class="tk-legend"') for each in at.html) == 1
    at.segmented_control(key="inspect.tokens").set_value("Change").run()
    assert not at.exception
    assert any("213, 94, 0, 0.50" in each.value for each in at.html)


def test_tokens_can_be_measured_by_a_job(seeded_store: Store, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "start_worker", lambda store: None)  # the run's weights are made up
    row = a_completion(seeded_store)
    at = open_page("traces", completion=str(row.id))
    at.button(key="inspect.measure").click().run()
    assert not at.exception
    (job,) = [job for job in list_jobs(seeded_store, open_only=True) if job.kind == "tokens"]
    assert (job.run_id, job.arguments) == (row.run_id, {"completion": row.id})
    assert any("Measuring its tokens: queued" in each.value for each in at.caption)
    ask_stop(seeded_store, job.id)
    at.run()
    assert any("Removed from the queue" in each.value for each in at.caption)
    assert at.button(key="inspect.measure")
