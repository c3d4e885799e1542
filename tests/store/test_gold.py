"""Gold answers that scripts and tables hold: a count in any usual form, and nothing that may mean two numbers."""

from __future__ import annotations

from typing import Any

import pytest

from store.completions.gold import count


@pytest.mark.parametrize(
    ("gold", "found"),
    [
        (4, 4),
        (4.0, 4),
        (" 4 ", 4),
        ("4.0", 4),
        ("Four.", 4),
        (["4"], 4),
        ("<think>…</think><answer> 4 </answer>", 4),
        (r"\boxed{4}", 4),
        (r"\boxed{\frac{8}{2}}", 4),
        ("**4**", 4),
        ("$4$", 4),
        ("$4", None),
        ("2 + 2\n#### 1,234", 1234),
        ("1,234", None),
        ("3.5", None),
        ("-1", None),
        (True, None),
        (["4", "5"], None),
        ({"count": 4}, None),
        (None, None),
        ("9" * 10_000, None),
    ],
)
def test_a_gold_answer_is_a_count_or_none(gold: Any, found: int | None) -> None:
    assert count(gold) == found
