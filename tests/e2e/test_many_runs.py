"""What a researcher does with many runs besides looking at their curves, in a real browser."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from threading import Event, Thread
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from scripts.browsing import Server, cell, edit_cell, goto, nameless, no_exception, overflow, wait_until_idle
from store.db import private
from store.db.engine import Store, open_store
from store.experiments import get_experiment
from store.jobs import beat_worker, remove_worker, upsert_worker
from store.runs import delete_run, list_runs
from store.surroundings.code import Source, add_code
from store.surroundings.machine import add_samples
from tests import seeded
from trainer.launch import identity, local
from trainer.launch.experiments import launch_experiment, stop_experiment
from trainer.spec.experiments import Matrix

pytestmark = pytest.mark.e2e
BETAS = Matrix(arms=("GRPO CoT",), seeds=(0, 1), varied=(("grpo.beta", (0, 0.02)),), benchmarks=("shapes-simple",))
NAME, NOTE, TAGS = 1, 6, 7
"""Columns of the table of values, the boxes first."""
IN_NAME = (NAME, 150)
"""A place in the names, and where it is from the table's left edge."""


@pytest.fixture
def store(forty: Server) -> Iterator[Store]:
    opened = open_store(forty.database)
    yield opened
    opened.close()


HOLDING = """import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print(flush=True)
time.sleep(3600)
"""


@pytest.fixture
def queued(store: Store) -> Iterator[str]:
    """An experiment that waits: the queue's worker is a process that shows signs of life and takes nothing."""
    host, over = identity.host(), Event()

    def beat(pid: int) -> None:
        while not over.wait(2):
            beat_worker(store, host, pid)

    private.lock_folder(local.data_folder(store))
    command = [sys.executable, "-c", HOLDING, str(local.queue_lock(store))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as idle:
        assert idle.stdout is not None and idle.stdout.readline()
        started = identity.start_time(idle.pid)
        upsert_worker(store, host=host, boot_id=identity.boot_id(), pid=idle.pid, pid_started=started)
        beating = Thread(target=beat, args=(idle.pid,))
        beating.start()
        uid = launch_experiment(store, "betas", BETAS)
        yield uid
        stop_experiment(store, uid, 2)
        for run in get_experiment(store, uid).arms:
            delete_run(store, run)
        over.set()
        beating.join()
        remove_worker(store, host, idle.pid)
        idle.kill()


def uid(store: Store, name: str) -> str:
    return next(run.uid for run in list_runs(store) if run.name == name)


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()
    wait_until_idle(page)


def plot(page: Page, name: str) -> Locator:
    """The picture of the sweep, drawn."""
    drawn = page.locator(f".st-key-sweep-{name}")
    expect(drawn.locator(".main-svg").first).to_be_visible()
    return drawn


def test_which_setting_of_the_sweep_would_you_take(forty: Server, either_page: Page) -> None:
    """The page names the best setting by the newest measurement, and by another result and picture as asked."""
    page = either_page
    goto(page, f"{forty.url}/sweep")
    best = page.locator(".st-key-best_setting")
    expect(best).to_contain_text("GRPO CoT · rank 16")
    expect(best).to_contain_text(re.compile(r"95 % interval 0\.\d+ to 0\.\d+ over 5 seeds"))
    expect(plot(page, "parallel").locator(".scatterlayer .trace")).to_have_count(40)
    choose(page, "Value", "lowest")
    expect(best).to_contain_text("val/accuracy, lowest")
    choose(page, "Better is", "lower")
    expect(best).to_contain_text("GRPO random reward")
    page.get_by_role("radio", name="Heat map").click()
    expect(plot(page, "heat").locator(".heatmaplayer")).to_be_visible()
    page.get_by_role("radio", name="Scatter").click()
    scatter = plot(page, "scatter").locator(".nsewdrag").first
    scatter.scroll_into_view_if_needed()
    layer = scatter.bounding_box()
    assert layer is not None
    page.mouse.move(layer["x"] + 2, layer["y"] + 2)
    page.mouse.down()
    page.mouse.move(layer["x"] + layer["width"] / 4, layer["y"] + layer["height"] - 2, steps=6)
    page.mouse.up()
    expect(page.locator(".st-key-sweep_selected")).to_contain_text("10 runs selected")
    page.reload()
    wait_until_idle(page)
    expect(best).to_contain_text("GRPO random reward")
    no_exception(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 800])
def test_sweep_and_values_fit_and_every_control_has_a_name(
    scheme: Literal["light", "dark"], width: int, forty: Server, browser_page: Page
) -> None:
    page = browser_page
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 1000})
    goto(page, f"{forty.url}/sweep?picture=Scatter&keep=lora.rank 64")
    plot(page, "scatter")
    assert (overflow(page), nameless(page)) == (0, [])
    goto(page, f"{forty.url}/?table=Values")
    expect(cell(page.get_by_test_id("stDataFrame"), NAME, 0)).to_be_attached()
    assert (overflow(page), nameless(page)) == (0, [])
    no_exception(page)


def test_an_experiment_is_paused_resumed_extended_and_stopped(forty: Server, queued: str, either_page: Page) -> None:
    page = either_page
    goto(page, f"{forty.url}/sweep?experiment={queued}")
    card = page.locator(".st-key-experiment_controls")
    expect(card).to_contain_text("0 of 4 runs finished, 4 queued.")
    expect(card.get_by_role("button", name="Resume")).to_be_disabled()
    card.get_by_role("button", name="Pause").click()
    expect(card).to_contain_text("0 of 4 runs finished, 4 stopped.")
    expect(card.get_by_role("button", name="Stop")).to_be_disabled()
    card.get_by_role("button", name="Resume").click()
    expect(card).to_contain_text("0 of 4 runs finished, 4 queued.")
    card.get_by_role("button", name="Extend").click()
    seeds = page.get_by_role("spinbutton", name="Total seeds per setting")
    seeds.fill("3")
    seeds.press("Tab")
    page.get_by_role("button", name="Launch new runs").click()
    expect(card).to_contain_text("0 of 6 runs finished, 6 queued.")
    page.keyboard.press("Escape")
    card.get_by_role("button", name="Stop").click()
    expect(card).to_contain_text("0 of 6 runs finished, 6 stopped.")
    no_exception(page)


def test_name_note_and_tags_are_changed_in_the_table(forty: Server, browser_page: Page) -> None:
    page = browser_page
    columns = "seed,lora.rank,reward:last,val%2Faccuracy:last,note"
    goto(page, f"{forty.url}/?table=Values&find=random-reward&columns={columns}")
    table = page.get_by_test_id("stDataFrame")
    expect(cell(table, NAME, 0)).to_have_text("grpo-random-reward-r64-s4")
    for column, text in ((NAME, "random-reward by hand"), (NOTE, "the reward is a coin"), (TAGS, "control")):
        edit_cell(page, table, IN_NAME, column, text)
        expect(cell(table, column, 0)).to_have_text(text)
    page.reload()
    wait_until_idle(page)
    texts = [cell(table, column, 0) for column in (NAME, NOTE, TAGS)]
    for found, text in zip(texts, ("random-reward by hand", "the reward is a coin", "control"), strict=True):
        expect(found).to_have_text(text)


def test_what_differs_between_two_runs_and_where_their_curves_part(
    forty: Server, store: Store, either_page: Page
) -> None:
    page = either_page
    pair = [uid(store, name) for name in ("grpo-cot-r64-s0", "grpo-format-only-r16-s0")]
    goto(page, f"{forty.url}/curves?runs={','.join(pair)}")
    page.get_by_text("Show how the two runs differ").click()
    settings, curves = (page.get_by_test_id("stDataFrame").nth(place) for place in (0, 1))
    for column, text in enumerate(("configuration", "lora.rank", "64", "16")):
        expect(cell(settings, column, 0)).to_have_text(text)
    expect(cell(curves, 0, 0)).to_have_text("Reward")
    assert 5 < int(cell(curves, 1, 0).inner_text()) < 60
    assert "difference=true" in page.url


def test_a_saved_view_opens_in_another_tab_and_is_deleted(forty: Server, browser: Browser, browser_page: Page) -> None:
    page, other = browser_page, browser.new_page()
    goto(page, f"{forty.url}/curves?group=arm,lora.rank&charts=Reward,KL")
    page.get_by_role("button", name="Views").click()
    page.get_by_role("textbox", name="View name").fill("arms by rank")
    page.get_by_role("button", name="Save view").click()
    expect(page.get_by_role("button", name="Views (1)")).to_be_visible()
    goto(other, f"{forty.url}/curves")
    other.get_by_role("button", name="Views (1)").click()
    other.get_by_role("link", name="arms by rank").click()
    other.wait_for_url(re.compile("group=arm,lora.rank|group=arm%2Clora.rank"))
    expect(other.get_by_role("checkbox", name="Show GRPO CoT · rank 64")).to_be_visible()
    expect(other.get_by_role("figure")).to_have_count(2)
    other.get_by_role("button", name="Views (1)").click()
    other.get_by_role("button", name="Delete").click()
    expect(other.get_by_role("button", name="Views", exact=True)).to_be_visible()
    other.close()


def test_the_machine_and_the_code_of_a_run(forty: Server, store: Store, browser_page: Page) -> None:
    page = browser_page
    (run,) = [run for run in list_runs(store) if run.name == "grpo-direct-r16-s0"]
    for second in range(0, 170, 10):
        add_samples(store, run.id, seeded.NOW + second, {"cpu": 1.5, "gpu0/use": 0.5, "gpu0/temperature": 61.0})
    change = "diff --git a/t.py b/t.py\n--- a/t.py\n+++ b/t.py\n@@ -1 +1 @@\n-x = 1\n+x = 2"
    add_code(store, run.id, Source("a" * 40, ("t.py",), change))
    goto(page, f"{forty.url}/run?run={run.uid}")
    page.get_by_role("tab", name="Machine").click()
    drawn = page.get_by_role("figure", name=re.compile("over time: GPU 0 50 % on average"))
    expect(drawn.locator(".main-svg").first).to_be_visible()
    expect(page.get_by_text(re.compile("Time per step: generation"))).to_be_visible()
    page.get_by_role("tab", name="Config").click()
    page.get_by_text("Uncommitted changes").click()
    expect(page.get_by_text("+x = 2")).to_be_visible()
    no_exception(page)
