"""A run is billed by the started minutes of the Hub's own times, whatever its clock says (I6)."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import pytest

from schema.accounts.vault import Vault
from schema.billing.budgets import Rate, read_budgets
from schema.common import ids
from schema.db.database import Database
from schema.hub.job import JOB_ADAPTER, RemoteJob
from schema.jobs import run_launch
from schema.jobs.tables import JobKind
from schema.settings import Settings
from schema.workspaces.store import create_workspace
from tests.support.factories import JobFactory
from tests.support.jobs.job_costs import DOLLAR_MICRO_USD, read_held_and_spent
from tests.support.subjects import ADA_ID
from workers.context import Worker
from workers.hub.client import HubJobsClient
from workers.loops.poll_runs import poll_runs

SIXTY_CENT_HOUR: Final = Rate(price_micro_usd=10_000, timeout=timedelta(minutes=30))
"""A flavor of sixty cents an hour: a cent a started minute."""
CREATED: Final = datetime.now(UTC)


@dataclass
class OneJobHub:
    """A Hub with one job that is over; its clock may be wrong."""

    job: dict[str, Any] = field(default_factory=dict[str, Any])

    async def list_jobs(self, *_: Any, **__: Any) -> list[RemoteJob]:
        return []

    async def inspect_job(self, *_: Any) -> RemoteJob:
        return JOB_ADAPTER.validate_python({"id": "r1", **self.job})

    async def stream_log(self, *_: Any, **__: Any) -> AsyncGenerator[list[str]]:
        yield []


@pytest.fixture
def hub() -> OneJobHub:
    """A Hub whose only job has ended."""
    return OneJobHub()


@pytest.fixture
def worker(
    database: Database, vault: Vault, make_settings: Callable[..., Settings], hub: OneJobHub
) -> Worker:
    """A worker without loops, at that Hub."""
    return Worker(
        name="w1",
        settings=make_settings(),
        database=database,
        vault=vault,
        hub=cast("HubJobsClient", hub),
        executors={},
    )


def describe_job(
    stage: str, *, start: float | None, end: float | None, clock_offset: timedelta
) -> dict[str, Any]:
    """Describe a job as the Hub does, whose clock is off; seconds count from the creation."""
    times = {"createdAt": 0.0, "startedAt": start, "finishedAt": end}
    clock = CREATED + clock_offset
    described: dict[str, Any] = {
        name: (clock + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
        for name, seconds in times.items()
        if seconds is not None
    }
    if start is not None and end is not None:
        described |= {"durations": {"runningSecs": int(end - start)}}  # the Hub rounds them down
    return {**described, "status": {"stage": stage, "message": None}}


@pytest.mark.parametrize("hours_off", [-9, 0, 5])
@pytest.mark.parametrize(
    ("stage", "start", "end", "billed"),
    [
        ("COMPLETED", 4.0, 4.0, 10_000),
        ("COMPLETED", 4.0, 4.5, 10_000),
        ("COMPLETED", 4.0, 64.0, 10_000),
        ("COMPLETED", 4.0, 64.4, 20_000),
        ("COMPLETED", 4.0, 65.0, 20_000),
        ("ERROR", 4.0, 4.2, 10_000),
        ("CANCELED", None, None, 0),
        ("ERROR", None, 30.0, 0),
        ("CANCELED", 130.0, None, 20_000),
    ],
)
async def test_a_run_is_billed_by_the_started_minutes_of_the_hubs_own_times(
    worker: Worker,
    hub: OneJobHub,
    make_job: JobFactory,
    stage: str,
    start: float | None,
    end: float | None,
    billed: int,
    hours_off: int,
) -> None:
    """The last job was created 200 s ago, and cancelled 70 s after its start: the Hub says only
    when it started. The workspace, the month and the job agree on what is spent, held and left."""
    workspace_id = ids.new_id()
    async with worker.database.transaction() as tx:
        await create_workspace(tx, ADA_ID, workspace_id, "llama", budget_micro_usd=DOLLAR_MICRO_USD)
    await make_job(rate=SIXTY_CENT_HOUR, workspace_id=workspace_id)
    offset = timedelta(hours=hours_off)
    hub.job = describe_job(stage, start=start, end=end, clock_offset=offset)
    minute = timedelta(minutes=1)
    async with worker.database.transaction() as tx:
        (claim,) = await run_launch.claim(
            tx, JobKind.HUB_JOB, limit=1, worker="w1", lease=minute, settle_window=minute
        )
        await run_launch.record_remote_id(
            tx, claim.run_id, remote_id="r1", stage=None, worker="w1", poll_after=timedelta(0)
        )
        await tx.execute("UPDATE remote_run SET posted_at = now() - interval '200 seconds'")

    await poll_runs(worker)

    for table in ("workspace", "spending", "job_cost"):
        assert await read_held_and_spent(worker.database, table) == (0, billed)
    async with worker.database.transaction() as tx:
        budgets = await read_budgets(
            tx, ADA_ID, workspace_id, default_monthly_budget=DOLLAR_MICRO_USD
        )
    assert [budget.remaining_micro_usd for budget in budgets] == [DOLLAR_MICRO_USD - billed] * 2
