"""Pages run without the model stack: each by itself in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from store.db.engine import Store
from tests import seeded

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
HEAVY = (
    *("torch", "transformers", "trl", "peft", "datasets", "accelerate", "sentence_transformers", "bitsandbytes"),
    "ray",
)
CODE = """
import sys
from streamlit.testing.v1 import AppTest
from app import server
server.prepare()
page, uid = sys.argv[1:]
app = AppTest.from_file("app/main.py", default_timeout=120).run()
app.query_params["run"] = uid
app.switch_page(f"../pages/{page}.py").run()
assert not app.exception, app.exception
print("loaded:", *[name for name in %r if name in sys.modules])
"""


@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_no_model_library(page: str, seeded_store: Store) -> None:
    run = seeded.find(seeded_store, "demo-grpo")
    command = [sys.executable, "-c", CODE % (HEAVY,), page, run.uid]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "loaded:"
