"""What only a server can do: go away, come back, and refuse."""

import threading
import time
from dataclasses import replace

import pytest
from sqlalchemy import make_url, text

from store.db.connection import Unreachable, reading
from store.db.engine import StoreError, open_store
from store.metrics import list_metric_names
from store.runs import list_runs
from store.steps import record_step
from tests import postgres
from tests.store import make


def test_a_plain_url_means_the_driver_that_is_required(postgres_server: str) -> None:
    with postgres.database(postgres_server) as url:
        store = open_store(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
        assert make.run(store).id == 1
        store.close()


def test_a_database_that_is_not_there(postgres_server: str) -> None:
    with pytest.raises(StoreError, match="Create it first"):
        open_store(make_url(postgres_server).set(database="nothing").render_as_string(hide_password=False))


def test_a_reader_sees_one_moment(postgres_server: str) -> None:
    with postgres.database(postgres_server) as url:
        store = open_store(url)
        with reading(store) as moment:
            assert moment.scalar(text("SELECT count(*) FROM run")) == 0
            make.run(store)
            assert moment.scalar(text("SELECT count(*) FROM run")) == 0
        assert len(list_runs(store)) == 1
        store.close()


def test_a_server_that_goes_away_and_comes_back() -> None:
    with postgres.startable() as (url, running):
        store = open_store(url)
        run_id = make.run(store).id
        running.stop()
        with pytest.raises(Unreachable, match=r"does not answer. Start the server"):
            list_runs(store)
        with pytest.raises(Unreachable):
            record_step(store, run_id, 1, {}, at=1.0)
        patient = replace(store, patience=30.0)
        later = threading.Timer(2.0, running.start)
        later.start()
        begun = time.monotonic()
        record_step(patient, run_id, 1, {"reward": 1.0}, at=1.0)
        assert time.monotonic() - begun >= 1.0
        later.join()
        assert list_metric_names(store, run_id) == ["reward"]
        store.close()
