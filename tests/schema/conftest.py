"""What a worker does to jobs, as fixtures."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from schema import launches
from schema.database import Database
from schema.job import JobKind
from schema.launches import Claim

ClaimFactory = Callable[..., Awaitable[list[Claim]]]


@pytest.fixture
def claim(database: Database) -> ClaimFactory:
    """Claim due jobs the way a worker does."""

    async def take(
        kind: JobKind = JobKind.HUB_JOB,
        *,
        limit: int = 10,
        lease: timedelta = timedelta(minutes=1),
        settle: timedelta = timedelta(0),
    ) -> list[Claim]:
        async with database.transaction() as tx:
            return await launches.claim(
                tx, kind, limit=limit, worker="w1", lease=lease, settle=settle
            )

    return take
