"""Schedules fire: each time once, whoever else is at it, and never past what may be spent."""

import base64
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import anyio
import pytest

from schema.accounts import secrets as sealed_secrets
from schema.accounts.row_security import DatabaseRole
from schema.accounts.vault import Secret, Vault
from schema.billing import price_store
from schema.common.errors import Unavailable
from schema.common.money import to_micro_usd
from schema.db.database import Database
from schema.jobs import queries as job_queries
from schema.jobs.tables import JobKind
from schema.schedules import firing as schedule_firing
from schema.schedules import store as schedule_store
from schema.schedules.firing import DueFiring
from schema.schedules.tables import FiringOutcome, MissedPolicy, OverlapPolicy
from schema.settings import Settings
from schema.workspaces import store as workspace_store
from schema.workspaces.store import WorkspaceChange
from tests.support.factories import FailFirstCommit, JobFactory
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.jobs import schedule_states
from tests.support.jobs.schedule_states import (
    CPU_BASIC_PRICE,
    SCHEDULE_REQUEST,
    read_schedule,
    set_due,
)
from tests.support.subjects import ADA_ID
from workers.context import Worker
from workers.hub.client import open_hub_jobs_client
from workers.loops.fire_schedules import fire_due_schedules

WorkerFactory = Callable[..., Worker]
ScheduleFactory = Callable[..., Awaitable[UUID]]
HOUR: Final = timedelta(hours=1)


@pytest.fixture
async def make_worker(
    database_url: str, vault: Vault, make_settings: Callable[..., Settings], ada_id: str
) -> AsyncGenerator[WorkerFactory]:
    """Make workers without loops, each with connections of its own; the Hub is silent to them."""
    async with (
        open_hub_jobs_client("http://127.0.0.1:9", "http://127.0.0.1:9") as silent,
        Database(database_url, application_name="w1", role=DatabaseRole.WORKER) as first,
        Database(database_url, application_name="w2", role=DatabaseRole.WORKER) as second,
    ):

        def make(name: str = "w1", **overrides: Any) -> Worker:
            arguments: dict[str, Any] = {
                "name": name,
                "settings": make_settings(lease="100ms", post_timeout="50ms", settle="50ms"),
                "database": {"w1": first, "w2": second}[name],
                "vault": vault,
                "hub": silent,
                "executors": {},
            }
            return Worker(**arguments | overrides)

        yield make


@pytest.fixture
def make_schedule(database: Database, vault: Vault, ada_id: str) -> ScheduleFactory:
    """Make a schedule of Ada's that is due now; keyword arguments override the request."""

    async def make(**overrides: Any) -> UUID:
        return await schedule_states.make_schedule(database, vault, **overrides)

    return make


async def list_jobs(database: Database, schedule_id: UUID) -> list[UUID]:
    async with database.transaction() as tx:
        rows = await tx.fetch("SELECT id FROM job WHERE schedule_id = $1 ORDER BY id", schedule_id)
    return [row["id"] for row in rows]


async def fire_all(worker: Worker) -> None:
    while await fire_due_schedules(worker):
        pass


async def test_a_schedule_that_is_due_makes_an_ordinary_job(
    database: Database, vault: Vault, make_worker: WorkerFactory, make_schedule: ScheduleFactory
) -> None:
    """It has a handle, a price, and everything a launch would have given it."""
    schedule_id = await make_schedule(secrets={"KEY": Secret("hidden")}, labels={"team": "a"})
    due_at = (await read_schedule(database, schedule_id)).next_at

    await fire_due_schedules(make_worker())

    (job_id,) = await list_jobs(database, schedule_id)
    after = await read_schedule(database, schedule_id)
    assert after.next_at is not None
    assert due_at is not None
    assert after.read_at < after.next_at <= due_at + timedelta(minutes=5)
    (firing,) = after.firings
    assert (firing.fire_at, firing.became, firing.job_id) == (
        due_at,
        FiringOutcome.LAUNCHED,
        job_id,
    )
    async with database.transaction() as tx:
        job = await job_queries.get_job_status(tx, ADA_ID, job_id)
        secrets = await sealed_secrets.open_job_secrets(tx, vault, job_id)
    assert job is not None
    assert (job.spec, job.labels, job.ceiling_micro_usd) == (
        SCHEDULE_REQUEST.spec,
        {"team": "a"},
        167,
    )
    assert {name: secret.reveal() for name, secret in secrets.items()} == {"KEY": "hidden"}


async def test_each_fires_once_however_many_workers_look(
    database: Database, make_worker: WorkerFactory, make_schedule: ScheduleFactory
) -> None:
    """Two workers that see the same schedule due would run, and bill, everything twice."""
    made = [await make_schedule(name=f"s{number}") for number in range(25)]

    async with anyio.create_task_group() as tasks:
        for worker in (make_worker("w1"), make_worker("w2"), make_worker("w1"), make_worker("w2")):
            tasks.start_soon(fire_all, worker)

    counts = [len(await list_jobs(database, schedule_id)) for schedule_id in made]
    assert counts == [1] * len(made)
    assert not await fire_due_schedules(make_worker())
    assert [len(await list_jobs(database, schedule_id)) for schedule_id in made] == counts


async def test_what_a_dead_worker_took_is_fired_by_another_and_not_by_both(
    database: Database, make_worker: WorkerFactory, make_schedule: ScheduleFactory
) -> None:
    """A worker may come back long after its lease has lapsed."""
    schedule_id = await make_schedule()
    (taken,) = await schedule_states.lease_due_schedules(database, lease=timedelta(0))
    stale = DueFiring.from_schedule(taken)

    await fire_due_schedules(make_worker())

    async with database.transaction() as tx:
        assert not await schedule_firing.lock_firing(tx, stale)
        await schedule_firing.record_firing(tx, stale, FiringOutcome.MISSED)
    assert len(await list_jobs(database, schedule_id)) == 1
    assert [firing.became for firing in (await read_schedule(database, schedule_id)).firings] == [
        "launched"
    ]


async def test_a_commit_that_was_cut_off_fires_once(
    database: Database,
    make_worker: WorkerFactory,
    make_schedule: ScheduleFactory,
    fail_first_commit: FailFirstCommit,
) -> None:
    """Whether it was carried out is not known to whoever sent it."""
    schedule_id = await make_schedule()
    await fail_first_commit("schedule_firing")

    with suppress(Unavailable):
        await fire_due_schedules(make_worker())
    async with database.transaction() as tx:
        await tx.execute("UPDATE schedule SET due_at = least(next_at, now())")
    await fire_due_schedules(make_worker())

    assert len(await list_jobs(database, schedule_id)) == 1
    assert len((await read_schedule(database, schedule_id)).firings) == 1


async def test_nothing_is_launched_beside_a_job_that_has_not_finished(
    database: Database, make_worker: WorkerFactory, make_schedule: ScheduleFactory
) -> None:
    """Else a job that takes longer than its interval piles up, at its owner's cost."""
    skips, allows = await make_schedule(), await make_schedule(overlap=OverlapPolicy.ALLOW)
    await fire_due_schedules(make_worker())
    (first,) = await list_jobs(database, skips)
    for schedule_id in (skips, allows):
        await set_due(database, schedule_id, timedelta(0))

    await fire_due_schedules(make_worker())

    assert await list_jobs(database, skips) == [first]
    assert len(await list_jobs(database, allows)) == 2
    latest = (await read_schedule(database, skips)).firings[0]
    assert (latest.became, latest.job_id) == (FiringOutcome.SKIPPED, first)


@pytest.mark.parametrize(
    ("missed", "late", "became"),
    [
        (MissedPolicy.SKIP, timedelta(days=3), FiringOutcome.MISSED),
        (MissedPolicy.RUN_ONCE, timedelta(days=3), FiringOutcome.LAUNCHED),
        (MissedPolicy.SKIP, timedelta(minutes=4), FiringOutcome.LAUNCHED),
    ],
)
async def test_what_was_missed_is_made_up_for_once_or_not_at_all(
    database: Database,
    make_worker: WorkerFactory,
    make_schedule: ScheduleFactory,
    missed: MissedPolicy,
    late: timedelta,
    became: FiringOutcome,
) -> None:
    """After three days without a worker, 864 jobs would be launched at once."""
    schedule_id = await make_schedule(missed=missed, overlap=OverlapPolicy.ALLOW)
    due_at = await set_due(database, schedule_id, late)

    await fire_all(make_worker())

    after = await read_schedule(database, schedule_id)
    assert [(firing.fire_at, firing.became) for firing in after.firings] == [(due_at, became)]
    assert len(await list_jobs(database, schedule_id)) == (became is FiringOutcome.LAUNCHED)
    assert after.next_at is not None
    assert after.next_at > after.read_at


@pytest.mark.parametrize("paused", [False, True])
async def test_a_firing_that_was_asked_for_moves_no_other(
    database: Database,
    make_worker: WorkerFactory,
    make_schedule: ScheduleFactory,
    paused: bool,  # noqa: FBT001  # a parameter
) -> None:
    """Trying a schedule out must not cost the run of the night; and a paused one stays paused."""
    schedule_id = await make_schedule(due_in=HOUR)
    async with database.transaction() as tx:
        locked = await schedule_store.lock_schedule(tx, ADA_ID, schedule_id)
        assert locked is not None
        next_at = None if paused else locked.next_at
        asked_at = await schedule_store.update_schedule(tx, locked, next_at=next_at, fire_now=True)
        again = await schedule_store.update_schedule(tx, locked, next_at=next_at, fire_now=True)
    assert asked_at == again

    await fire_all(make_worker())

    after = await read_schedule(database, schedule_id)
    assert (after.next_at, after.due_at, after.asked_at) == (next_at, next_at, None)
    assert [(firing.asked, firing.became) for firing in after.firings] == [(True, "launched")]
    assert len(await list_jobs(database, schedule_id)) == 1


async def spend_budget(database: Database, **_: Any) -> UUID:
    async with database.transaction() as tx:
        made = await workspace_store.create_workspace(
            tx, ADA_ID, UUID(int=7), "w", budget_micro_usd=100
        )
    assert made is not None
    return made.id


async def archive_workspace(database: Database, **_: Any) -> UUID:
    workspace_id = await spend_budget(database)
    change = WorkspaceChange(archived=True, sets_budget=True)
    async with database.transaction() as tx:
        await workspace_store.update_workspace(tx, ADA_ID, workspace_id, change)
    return workspace_id


async def raise_prices(database: Database, **_: Any) -> UUID:
    """Let prices have risen since the schedule was made, above what may be launched unasked."""
    workspace_id = await spend_budget(database)
    change = WorkspaceChange(
        sets_budget=True, sets_confirmation=True, confirm_above_micro_usd=to_micro_usd(0.0002)
    )
    async with database.transaction() as tx:
        await workspace_store.update_workspace(tx, ADA_ID, workspace_id, change)
        await tx.execute("UPDATE schedule SET ceiling_micro_usd = 100")
        await price_store.save_price_list(tx, [CPU_BASIC_PRICE | {"unitCostMicroUSD": 300}])
    return workspace_id


async def remove_price(database: Database, **_: Any) -> None:
    async with database.transaction() as tx:
        await price_store.save_price_list(tx, [CPU_BASIC_PRICE | {"unitLabel": "moon"}])


async def remove_price_list(database: Database, **_: Any) -> None:
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM price_list")


async def fill_queue(database: Database, make_job: JobFactory) -> None:
    await make_job()


async def shrink_ceiling(database: Database, **_: Any) -> None:
    async with database.transaction() as tx:
        await tx.execute('UPDATE schedule SET spec = spec || \'{"image": "a b"}\'::jsonb')


REFUSALS: Final[dict[str, tuple[Any, str]]] = {
    "a budget has no room": (spend_budget, "BudgetExceeded"),
    "the workspace is archived": (archive_workspace, "WorkspaceArchived"),
    "it costs more than was agreed to": (raise_prices, "NotAgreedTo"),
    "the flavor has no price": (remove_price, "Invalid"),
    "nothing has a price": (remove_price_list, "Conflict"),
    "there are as many jobs as may be": (fill_queue, "LimitReached"),
    "the request is not taken any more": (shrink_ceiling, "Invalid"),
}


@pytest.mark.parametrize("why", REFUSALS)
async def test_what_a_launch_would_refuse_is_written_down_and_not_tried_again(
    database: Database,
    make_worker: WorkerFactory,
    make_schedule: ScheduleFactory,
    make_job: JobFactory,
    why: str,
) -> None:
    """Nobody is there to read an error; and a loop that tries again would never end."""
    prepare, code = REFUSALS[why]
    schedule_id = await make_schedule()
    workspace_id = await prepare(database=database, make_job=make_job)
    async with database.transaction() as tx:
        await tx.execute("UPDATE schedule SET workspace_id = $1", workspace_id)
    worker = make_worker()
    worker = replace(worker, settings=worker.settings.model_copy(update={"open_jobs": 1}))

    await fire_all(worker)

    after = await read_schedule(database, schedule_id)
    (firing,) = after.firings
    assert (firing.became, firing.code, firing.job_id) == (FiringOutcome.REFUSED, code, None)
    assert "othing was launched" in (firing.message or "")
    assert await list_jobs(database, schedule_id) == []
    assert after.next_at is not None
    assert after.next_at > after.read_at


async def test_secrets_that_cannot_be_opened_launch_nothing(
    database: Database, make_worker: WorkerFactory, make_schedule: ScheduleFactory
) -> None:
    """A job without its secrets would fail, and be paid for."""
    schedule_id = await make_schedule(secrets={"KEY": Secret("hidden")})
    other = Vault.from_key_ring(f"2:{base64.b64encode(os.urandom(32)).decode()}")

    await fire_due_schedules(make_worker(vault=other))

    (firing,) = (await read_schedule(database, schedule_id)).firings
    assert (firing.became, firing.code) == (FiringOutcome.REFUSED, "Unsealable")
    assert await list_jobs(database, schedule_id) == []


async def test_a_schedule_that_breaks_does_not_stop_the_others(
    database: Database, make_worker: WorkerFactory, make_schedule: ScheduleFactory
) -> None:
    """One row that nobody can read would end everybody's schedules."""
    broken, whole = await make_schedule(), await make_schedule()
    async with database.transaction() as tx:
        await tx.execute("UPDATE schedule SET timezone = 'Mars/Base' WHERE id = $1", broken)

    await fire_due_schedules(make_worker())

    assert await list_jobs(database, broken) == []
    assert len(await list_jobs(database, whole)) == 1


async def test_a_call_has_no_price_and_is_made_all_the_same(
    database: Database, make_worker: WorkerFactory, make_schedule: ScheduleFactory
) -> None:
    """Hugging Face names none."""
    spec: dict[str, Any] = {"task": "chat-completion", "model": "m", "messages": [], "timeout": 60}
    schedule_id = await make_schedule(kind=JobKind.INFERENCE, spec=spec, ceiling_micro_usd=None)

    await fire_due_schedules(make_worker())

    assert len(await list_jobs(database, schedule_id)) == 1


async def test_old_prices_are_asked_for_again(
    database: Database,
    make_worker: WorkerFactory,
    make_schedule: ScheduleFactory,
    hub_emulator: HubEmulatorProcess,
) -> None:
    """Nobody calls for weeks, and the worst case that is held would be one of weeks ago."""
    schedule_id = await make_schedule()
    async with database.transaction() as tx:
        await price_store.save_price_list(tx, [CPU_BASIC_PRICE | {"unitCostMicroUSD": 1}])
        await tx.execute("UPDATE price_list SET read_at = now() - interval '2 hours'")

    async with open_hub_jobs_client(hub_emulator.url, hub_emulator.url) as gateway:
        await fire_due_schedules(make_worker(hub=gateway))

    (job_id,) = await list_jobs(database, schedule_id)
    async with database.transaction() as tx:
        job = await job_queries.get_job_status(tx, ADA_ID, job_id)
    assert job is not None
    assert (job.price_micro_usd or 0) > 1
