"""A script of somebody else, in a folder of its own: copy the lines, run it, watch it, read a trace, stop it."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from scripts import browsing
from store.db.engine import open_store
from store.jobs import list_jobs
from store.runs import list_runs
from tests.e2e.conftest import PATIENCE_MS

pytestmark = pytest.mark.e2e

STREAMLITS_STOP = '<div data-testid="stStatusWidget"><button>Stop</button></div>'
LOOP = """
import time
from PIL import Image

{import_line}
assert not hasattr(__import__("trainer"), "record"), "the script's own trainer.py"
with {start_line}
    for step in range(1, 20001):
        picture = Image.new("RGB", (64, 64), (step % 255, 20, 200))
        texts = ["<think>1. left 2. right</think><answer>2</answer>", "two of them"]
        run.group(step, "How many? Answer in <think> and <answer>.", [picture], texts, rewards={{"right": [1.0, 0.0]}}, answer="2")
        run.log(step, {{"loss": 1 / step}})
        time.sleep(0.1)
        if run.should_stop:
            break
print("left after", step)
"""  # noqa: E501


def test_a_script_of_ones_own(server: browsing.Server, browser_page: Page, tmp_path: Path) -> None:
    page = browser_page
    page.goto(f"{server.url}/record")
    expect(page.get_by_text("No recorded scripts yet.")).to_be_visible()
    fetch = page.locator("code", has_text="/api/vr1z.py").first.inner_text()
    [address] = re.findall(r"http\S+", fetch)
    page.get_by_role("tab", name="Custom training loop").click()
    shown = page.locator("code", has_text="vr1z.start").first.inner_text().splitlines()

    folder = tmp_path / "theirs"
    folder.mkdir()
    with urllib.request.urlopen(address) as answer:
        (folder / "vr1z.py").write_bytes(answer.read())
    (folder / "trainer.py").write_text("mine = True\n")
    start = next(line for line in shown if line.startswith("with ")).removeprefix("with ")
    (folder / "loop.py").write_text(LOOP.format(import_line=shown[0], start_line=start))
    script = subprocess.Popen(
        [sys.executable, "loop.py"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        expect(page.get_by_text(re.compile("Latest: my run, step"))).to_be_visible()
        page.get_by_role("main").get_by_role("link", name="Open").click()
        expect(page.get_by_role("heading", name="my run")).to_be_visible()
        expect(page.get_by_text("running").first).to_be_visible()
        run = list_runs(open_store(server.database, readonly=True))[0]
        page.goto(f"{server.url}/traces?run={run.uid}&step=1")
        expect(page.get_by_text("How many? Answer in").first).to_be_visible()
        picture = page.locator("img[src*='api/media']").first
        expect(picture).to_be_visible()
        expect(picture).to_have_js_property("naturalWidth", 64)
        page.goto(f"{server.url}/run?run={run.uid}")
        stop = page.get_by_role("main").get_by_role("button", name="Stop", exact=True)
        expect(stop).to_be_visible()
        # Streamlit's own button, which it shows in the header once a page takes half a second to draw.
        page.evaluate(f"document.querySelector('header').insertAdjacentHTML('beforeend', `{STREAMLITS_STOP}`)")
        expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(1)
        stop.click()
        said, _ = script.communicate(timeout=PATIENCE_MS / 1000)
        assert script.returncode == 0 and "left after" in said, said
        expect(page.get_by_text("stopped").first).to_be_visible()
    finally:
        script.kill()
    store = open_store(server.database, readonly=True)
    assert [job.state for job in list_jobs(store)] == ["stopped"]
    store.close()
