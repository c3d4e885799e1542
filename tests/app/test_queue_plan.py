"""When what waits will start."""

from __future__ import annotations

import math

import pytest

from app.shared.queue.plan import start_delays

UNKNOWN = math.inf


@pytest.mark.parametrize(
    ("free_in", "lasts", "begin"),
    [
        ([0.0], [5.0, 7.0, 1.0], [0.0, 5.0, 12.0]),
        ([10.0], [5.0, 5.0], [10.0, 15.0]),
        ([10.0, 0.0], [5.0, 5.0, 5.0], [0.0, 5.0, 10.0]),
        ([10.0], [None, 5.0], [10.0, None]),
        ([10.0, 20.0], [None, 5.0, 5.0], [10.0, 20.0, 25.0]),
        ([UNKNOWN], [5.0], [None]),
        ([3.0], [], []),
    ],
)
def test_a_job_starts_when_a_device_is_free(
    free_in: list[float], lasts: list[float | None], begin: list[float | None]
) -> None:
    assert start_delays(free_in, lasts) == begin


def test_a_job_of_several_processes_starts_when_as_many_devices_are_free() -> None:
    assert start_delays([0.0, 10.0, 20.0], [5.0, 5.0, 5.0], [1, 2, 9]) == [0.0, 10.0, 20.0]
