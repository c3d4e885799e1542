from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from store.db.engine import MEDIA_VARIABLE, Store, open_store
from tests import postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with postgres.server() as url:
        yield url


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """The name of a database with our tables in it: a copy is there much sooner than all migrations."""
    with postgres.database(postgres_server) as address:
        open_store(address).close()
        yield str(make_url(address).database)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database that is not there yet (SQLite), or empty (PostgreSQL) but for a test that asks for the store."""
    if request.param == "sqlite":
        yield str(tmp_path / "test.db")
        return
    monkeypatch.setenv(MEDIA_VARIABLE, str(tmp_path / "media"))
    template = request.getfixturevalue("postgres_template") if "store" in request.fixturenames else "template1"
    with postgres.database(request.getfixturevalue("postgres_server"), template=template) as address:
        yield address


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = open_store(url)
    yield store
    store.close()


@pytest.fixture
def reader(store: Store) -> Iterator[Store]:
    reader = open_store(store.url, readonly=True)
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One database for all examples of a property."""
    store = open_store(str(tmp_path_factory.mktemp("shared") / "test.db"))
    yield store
    store.close()
