"""Pages run without the model stack: all of them in a fresh process, one after the other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
from tests.pages import opening
from app import server
server.prepare()
uid, *pages = sys.argv[1:]
for page in pages:
    app = opening.address(page, run=uid).run()
    assert not app.exception, (page, app.exception)
    print(page, *[name for name in %r if name in sys.modules])
"""


def test_no_page_loads_a_model_library(seeded_store: Store) -> None:
    run = seeded.find(seeded_store, "shapes-grpo")
    command = [sys.executable, "-c", CODE % (HEAVY,), run.uid, *PAGES]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines() == PAGES
