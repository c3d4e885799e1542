"""Databases for pages, and pages run in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from store.db.engine import Store, open_store
from tests import seeded
from tests.pages import opening


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a seeded database, to be copied."""
    folder = tmp_path_factory.mktemp("seeded")
    seeded.seed_database(folder / "runs.db")
    return folder


@pytest.fixture
def seeded_store(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A database of its own with a run in every state, which the pages of the test read."""
    return copied(template, tmp_path / "data", monkeypatch)


def copied(template: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A copy of a folder with a database, which the pages of the test read."""
    shutil.copytree(template, folder)
    monkeypatch.setenv("VR1Z_DATABASE_URL", f"sqlite:///{folder / 'runs.db'}")
    return open_store()


@pytest.fixture
def empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("VR1Z_DATABASE_URL", f"sqlite:///{tmp_path / 'runs.db'}")
    return open_store()


@pytest.fixture
def open_page() -> Callable[..., AppTest]:
    """Runs a page of the app with an address's parameters: `open_page("run", run=uid)`."""

    def run(page: str, **query: str) -> AppTest:
        app = opening.address(page, **query).run()
        assert not app.exception
        return app

    return run
