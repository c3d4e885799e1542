"""The page that hands out the recorder: lines that work as they are copied, and the token for who may write."""

from __future__ import annotations

import ast
from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from app.record import lines
from app.shared import data
from store.db.engine import Store
from store.recording import token
from store.recording.intake import take
from tests.store.test_recording import UID
from tests.store.test_recording import lines as journal
from trainer.record import vr1z


def shown(at: AppTest) -> str:
    return "\n".join(each.value for each in at.get("code"))


def test_the_lines_are_python_and_name_what_the_file_has() -> None:
    for code, _ in lines.SCRIPTS.values():
        for node in ast.walk(ast.parse(code.replace("...", "pass"))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in ("vr1z", "run")
            ):
                assert hasattr(vr1z if node.value.id == "vr1z" else vr1z.Run, node.attr)


def test_another_machine_gets_a_tunnel_and_the_token_if_it_asks(
    empty_store: Store, open_page: Callable[..., AppTest]
) -> None:
    at = open_page("record")
    assert "curl -fsS -o vr1z.py http" in shown(at) and "/api/vr1z.py" in shown(at)
    assert token.token_of(empty_store) not in shown(at)
    at.segmented_control(key="record.where").set_value(lines.PLACES[1]).run()
    assert "ssh -f -N -L" in shown(at) and "VR1Z_TOKEN" in shown(at)
    at.toggle(key="record.token").set_value(True).run()
    assert token.token_of(empty_store) in shown(at)


def test_a_name_that_people_sign_in_at_needs_no_tunnel() -> None:
    assert "ssh" not in lines.tunnel("https://runs.example.org")
    assert lines.address("https://runs.example.org/record?run=a") == "https://runs.example.org"


def test_the_latest_recorded_run_is_named(empty_store: Store, open_page: Callable[..., AppTest]) -> None:
    assert "No recorded scripts yet." in [each.value for each in open_page("record").caption]
    take(empty_store, UID, 0, journal()[:1])
    data.forget()
    assert "Latest: mine, step 0" in [each.value for each in open_page("record").text]
