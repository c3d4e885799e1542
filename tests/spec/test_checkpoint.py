"""How a checkpoint of a run is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.spec.checkpoint import NAMED, Reference, parse


@pytest.mark.parametrize(
    ("text", "run", "checkpoint", "step"),
    [
        ("abc", "abc", None, None),
        ("abc:12", "abc", "12", 12),
        ("abc:best", "abc", "best", None),
        ("abc:last", "abc", "last", None),
        ("a:b:final", "a:b", "final", None),
        ("my:run", "my:run", None, None),
        ("abc:", "abc:", None, None),
        ("abc:1x", "abc:1x", None, None),
        ("abc:\u0663", "abc:\u0663", None, None),
        ("abc:12345678901", "abc:12345678901", None, None),
    ],
)
def test_a_reference_names_a_run_and_perhaps_its_checkpoint(
    text: str, run: str, checkpoint: str | None, step: int | None
) -> None:
    assert parse(text) == Reference(run, checkpoint) and parse(text).step == step


@given(st.text(), st.one_of(st.sampled_from(NAMED), st.integers(0, 10**10 - 1).map(str)))
def test_what_is_put_together_comes_apart(run: str, checkpoint: str) -> None:
    assert parse(f"{run}:{checkpoint}") == Reference(run, checkpoint)
