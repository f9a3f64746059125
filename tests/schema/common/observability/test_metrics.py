"""The metrics that both processes have."""

import math
from datetime import timedelta

import anyio

from schema.common.observability.metrics import HubRequest, ProcessMetrics
from schema.db.database import Database
from tests.support.metrics import Scrape
from tests.support.polling import SHORT_INTERVAL, eventually

REMAINING = "holdfast_hub_rate_limit_remaining_requests"


def read_remaining(metrics: ProcessMetrics) -> float:
    return Scrape.from_text(metrics.render().decode()).value(REMAINING, limit="api")


def test_the_fewest_requests_left_are_shown_until_their_window_ends() -> None:
    """Each user has a limit of their own; the one that is nearly used up is what matters."""
    metrics = ProcessMetrics()

    for remaining in (400, 3, 200):
        metrics.count_hub_request(HubRequest("GET /x", "200", 0.1, "api", remaining, 60))

    assert read_remaining(metrics) == 3
    metrics.count_hub_request(HubRequest("GET /x", "200", 0.1, "api", 1, 0))
    assert math.isnan(read_remaining(metrics))  # its window is over, and nobody has asked since
    metrics.count_hub_request(HubRequest("GET /x", "200", 0.1, "api", 500, 60))
    assert read_remaining(metrics) == 500


def test_an_unknown_kind_of_job_makes_no_series() -> None:
    """A kind is an open word; only those of this process have series."""
    metrics = ProcessMetrics()
    metrics.add_kinds(["hub_job"])

    assert [metrics.bound_kind(kind) for kind in ("hub_job", "anything")] == ["hub_job", "other"]


async def test_whoever_waits_for_a_connection_is_seen(database_url: str) -> None:
    """A pool that is too small shows as waiting long before it shows as an error."""
    metrics = ProcessMetrics()

    async with Database(database_url, application_name="tests", max_connections=1) as database:
        metrics.watch_pool(database.read_pool_usage)

        async def read_waiting() -> tuple[float, float]:
            page = Scrape.from_text(metrics.render().decode())
            return (
                page.value("holdfast_database_pool_connections_in_use"),
                page.value("holdfast_database_pool_waiting_transactions"),
            )

        async def wait_for_connection() -> None:
            async with database.transaction():
                pass

        async with anyio.create_task_group() as tasks, database.transaction():
            tasks.start_soon(wait_for_connection)
            await eventually(
                read_waiting,
                lambda usage: usage == (1, 1),
                timeout=timedelta(seconds=4),
                interval=SHORT_INTERVAL,
            )
        assert await read_waiting() == (0, 0)
