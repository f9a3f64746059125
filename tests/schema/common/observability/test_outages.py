"""An outage is told of at once, and does not bury the rest of the log."""

from typing import Any

import pytest
import structlog

from schema.common.observability.outages import OutageFilter

WAITING = {"event": "worker.waiting", "error": "The database cannot be reached."}


class SteppedClock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


def write(outages: OutageFilter, **event: Any) -> dict[str, Any] | None:
    """Return what is written of a line; None if it is dropped."""
    try:
        return dict(outages(None, "", dict(event)))
    except structlog.DropEvent:
        return None


def test_a_line_for_each_attempt_becomes_one_a_minute_that_counts_the_others(
    clock: SteppedClock,
) -> None:
    """An outage of a night would fill the disk with one sentence."""
    outages = OutageFilter(clock)

    first = write(outages, **WAITING)
    clock.now = 50
    within = [write(outages, **WAITING) for _ in range(3)]
    clock.now = 61
    after = write(outages, **WAITING)

    assert first == WAITING
    assert within == [None] * 3
    assert after == WAITING | {"repeated": 3}


@pytest.mark.parametrize(
    "other",
    [
        WAITING | {"error": "The role is missing."},
        {"event": "loop.interrupted", "loop": "poll"},
        {"event": "job.ended", "job": "job_1"},
    ],
    ids=["another reason", "another kind", "no outage"],
)
def test_what_says_something_else_is_written(clock: SteppedClock, other: dict[str, Any]) -> None:
    """The reason may change while it lasts, and the work of the others goes on."""
    outages = OutageFilter(clock)
    write(outages, **WAITING)

    assert write(outages, **other) == other


def test_an_event_that_is_no_outage_is_never_dropped(clock: SteppedClock) -> None:
    """Two jobs may end in one instant."""
    outages = OutageFilter(clock)

    assert [write(outages, event="job.ended") for _ in range(2)] == [{"event": "job.ended"}] * 2
