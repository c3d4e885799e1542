"""A run of somebody else's script on the pages that people read it on: what was asked, what is right, what was said."""

from __future__ import annotations

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from store.db.engine import Store
from store.examples import add_examples
from store.recording.records import RECORDED
from store.steps import record_step
from tests.store import make

PROMPT = [{"role": "system", "content": "Be <b>brief</b>."}, {"role": "user", "content": "Where is the cat?"}]


def recorded(store: Store) -> tuple[str, int]:
    """The uid of the run and the id of one of its completions."""
    run = make.run(store, "theirs", dataset=RECORDED, grammar="none", reward_weights={"iou": 1.0})
    example = make.example(
        "k",
        dataset=RECORDED,
        question="Where is the cat?",
        answer=None,
        gold=[1, 2, 30, 40],
        prompt=PROMPT,
        columns={"level": "hard", "tags": ["a", "b"]},
    )
    (example_id,) = add_examples(store, [example])
    plain = {"think": None, "answer_span": None, "answer": None, "correct": None, "rewards": {"iou": 0.5}}
    rows = [make.completion(i, text=f"at {i}", example_id=example_id, **plain) for i in range(4)]
    record_step(store, run.id, 1, {"reward": 0.5}, at=1.0, completions=rows)
    return run.uid, 1


def shown(at: AppTest) -> str:
    assert not at.exception
    return "\n".join([str(each.proto) for kind in ("html", "markdown", "caption") for each in at.get(kind)])


def test_the_pages_show_what_a_script_asked_and_what_is_right(
    empty_store: Store, open_page: Callable[..., AppTest]
) -> None:
    uid, completion = recorded(empty_store)
    for query in ({"run": uid, "step": "1"}, {"completion": str(completion)}):
        at = open_page("traces", **query)
        text = shown(at)
        assert "Where is the cat?" in text and "Be &lt;b&gt;brief&lt;/b&gt;." in text
        assert "level: hard" in text and "gold answer" in text and "30, 40" in text
        assert "not recorded" not in text
        called = [line for line in text.splitlines() if "malformed" in line]
        assert all("Not shown" in line or "have no required format" in line for line in called), called
    assert "gold answer" in shown(open_page("find"))
    for page in ("run", "emergence"):
        assert not open_page(page, run=uid).exception
