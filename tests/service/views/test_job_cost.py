"""The cost of a job that is not settled is the price of its started minutes."""

from datetime import timedelta
from typing import Any

import pytest

from schema.jobs.tables import JobState
from service.views.job_cost import describe_cost, summarize_cost
from service.views.jobs import JobEntry
from tests.support.jobs.job_statuses import NOW, make_status

PRICES: dict[str, Any] = {
    "price_micro_usd": 10_000,
    "ceiling_micro_usd": 300_000,
    "held_micro_usd": 300_000,
    "state": JobState.RUNNING,
    "attempt": 1,
    "stage": "RUNNING",
}


@pytest.mark.parametrize(
    ("ran", "cost"),
    [
        (timedelta(hours=-3), 10_000),
        (timedelta(0), 10_000),
        (timedelta(seconds=0.5), 10_000),
        (timedelta(seconds=61), 20_000),
        (timedelta(hours=3), 300_000),
    ],
)
def test_a_started_minute_counts_from_the_moment_of_the_start(ran: timedelta, cost: int) -> None:
    """Also where the Hub's clock is ahead of ours: what has started costs something."""
    status = make_status(**PRICES, started_at=NOW - ran)

    assert summarize_cost(status).so_far_micro_usd == cost
    assert "so far" in describe_cost(status)


def test_what_waits_for_hardware_costs_nothing() -> None:
    """The Hub bills no wait."""
    status = make_status(**PRICES | {"stage": "SCHEDULING"})

    assert summarize_cost(status).so_far_micro_usd == 0
    assert describe_cost(status) == ""


@pytest.mark.parametrize(
    ("settled", "words"),
    [
        ({}, "running, $0.01 so far, $0.30 at most"),
        (
            {"state": JobState.SUCCEEDED, "finished_at": NOW, "spent_micro_usd": 20_000},
            "succeeded, it cost $0.02",
        ),
    ],
)
def test_a_line_of_a_list_says_what_a_finished_job_cost(
    settled: dict[str, Any], words: str
) -> None:
    """It can cost nothing more, so its bound says nothing any more."""
    status = make_status(**PRICES | {"started_at": NOW} | settled)

    entry = JobEntry.summarize(status, "https://hub", None, max_summary_bytes=100)

    assert entry.brief_facts == words
