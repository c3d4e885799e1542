from collections.abc import Iterator
from pathlib import Path

import pytest

from store.engine import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(str(tmp_path / "test.db"))
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
