"""A workspace changes in one statement, and its jobs never with it."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from schema.billing.budgets import Rate
from schema.common import ids
from schema.common.errors import BudgetExceeded, WorkspaceArchived
from schema.common.ids import HandleKind
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.tables import JobKind
from schema.workspaces import store as workspace_store
from schema.workspaces.store import WorkspaceChange
from schema.workspaces.tables import Workspace
from tests.support.factories import JobFactory

CLIENT_NAME = "cursor 3"


@pytest.fixture
async def llama_workspace(database: Database, ada_id: str) -> UUID:
    """A workspace of Ada's."""
    identity = ids.new_id()
    async with database.transaction() as tx:
        defaults = {"flavor": "t4-small", "labels": {"team": "nlp"}, "namespace": None}
        await workspace_store.create_workspace(tx, ada_id, identity, "llama", defaults=defaults)
    return identity


async def change_workspace(
    database: Database, ada: str, identity: UUID, **changes: Any
) -> Workspace:
    async with database.transaction() as tx:
        changed = await workspace_store.update_workspace(
            tx, ada, identity, WorkspaceChange(**changes), client=CLIENT_NAME
        )
    assert changed is not None
    return changed


async def read_audit_details(database: Database) -> list[tuple[str, dict[str, Any]]]:
    async with database.transaction() as tx:
        rows = await tx.fetch(
            "SELECT action, facts FROM audit_entry WHERE client = $1 ORDER BY id", CLIENT_NAME
        )
    return [(row["action"], row["facts"]) for row in rows]


async def test_only_what_is_given_changes(
    database: Database, ada_id: str, llama_workspace: UUID
) -> None:
    """A client that says one thing does not mean to unsay the others."""
    await change_workspace(
        database, ada_id, llama_workspace, defaults={"timeout": 60.0, "labels": None}
    )

    changed = await change_workspace(database, ada_id, llama_workspace, name="llama-2")

    assert changed.name == "llama-2"
    assert changed.defaults == {"flavor": "t4-small", "timeout": 60.0}
    assert changed.confirm_above_micro_usd is None


async def test_a_threshold_is_set_kept_and_taken_away(
    database: Database, ada_id: str, llama_workspace: UUID
) -> None:
    """Zero asks always, none never, and saying nothing leaves it."""
    amounts = [
        (
            await change_workspace(database, ada_id, llama_workspace, **change)
        ).confirm_above_micro_usd
        for change in (
            {"sets_confirmation": True, "confirm_above_micro_usd": 0},
            {"name": "x"},
            {"sets_confirmation": True},
        )
    ]

    assert amounts == [0, 0, None]


async def test_what_is_different_is_noted_and_nothing_else(
    database: Database, ada_id: str, llama_workspace: UUID
) -> None:
    """Whoever asks since when jobs run on a dearer flavor finds who said so."""
    for change in (
        {"defaults": {"flavor": "t4-small"}},
        {"name": "b", "sets_confirmation": True, "confirm_above_micro_usd": 5},
        {"archived": True},
        {"archived": True},
        {"archived": False},
        {"archived": False},
    ):
        await change_workspace(database, ada_id, llama_workspace, **change)

    first, second, third = await read_audit_details(database)
    assert first == ("workspace_updated", {"name": "b", "confirm_above_micro_usd": 5})
    assert (second[0], list(second[1])) == ("workspace_archived", ["archived_at"])
    assert third == ("workspace_updated", {"archived_at": None})


async def test_archiving_twice_keeps_the_first_time(
    database: Database, ada_id: str, llama_workspace: UUID
) -> None:
    """Since when it takes no jobs is a fact."""
    first = await change_workspace(database, ada_id, llama_workspace, archived=True)
    second = await change_workspace(database, ada_id, llama_workspace, archived=True)

    assert first.archived_at is not None
    assert second.archived_at == first.archived_at


async def test_an_archived_workspace_takes_no_job_and_keeps_those_it_has(
    database: Database, make_job: JobFactory, ada_id: str, llama_workspace: UUID
) -> None:
    """What was accepted is carried out; nothing is written of what is refused."""
    first_job = await make_job(workspace_id=llama_workspace, idempotency_key="k")
    await change_workspace(database, ada_id, llama_workspace, archived=True)

    with pytest.raises(
        WorkspaceArchived, match=ids.format_handle(HandleKind.WORKSPACE, llama_workspace)
    ):
        await make_job(workspace_id=llama_workspace)
    again = await make_job(workspace_id=llama_workspace, idempotency_key="k")
    elsewhere = await make_job()

    assert again.id == first_job.id
    async with database.transaction() as tx:
        rows = await tx.fetch("SELECT id FROM job ORDER BY id")
        assert await tx.fetchval("SELECT count(*) FROM idempotency_key") == 1
    assert {row["id"] for row in rows} == {first_job.id, elsewhere.id}
    await change_workspace(database, ada_id, llama_workspace, archived=False)
    assert (await make_job(workspace_id=llama_workspace)).workspace_id == llama_workspace


async def test_a_launch_that_waits_for_an_archive_is_refused(
    database: Database, make_job: JobFactory, ada_id: str, llama_workspace: UUID, database_url: str
) -> None:
    """A launch that began before the archive was committed must see it."""
    watcher: asyncpg.Connection = await asyncpg.connect(database_url)
    try:
        async with database.transaction() as tx:
            await workspace_store.update_workspace(
                tx, ada_id, llama_workspace, WorkspaceChange(archived=True)
            )
            launching = asyncio.ensure_future(make_job(workspace_id=llama_workspace))
            await _wait_until_blocked(watcher)
        with pytest.raises(WorkspaceArchived):
            await launching
    finally:
        await watcher.close()


@pytest.mark.parametrize("rate", [None, Rate(5, timedelta(minutes=3))])
async def test_a_launch_that_waits_for_a_budget_is_held_to_it(
    database: Database,
    make_job: JobFactory,
    ada_id: str,
    llama_workspace: UUID,
    database_url: str,
    rate: Rate | None,
) -> None:
    """Also one without a price, which no budget has room for."""
    watcher: asyncpg.Connection = await asyncpg.connect(database_url)
    try:
        async with database.transaction() as tx:
            bounded = WorkspaceChange(sets_budget=True, budget_micro_usd=14)
            await workspace_store.update_workspace(tx, ada_id, llama_workspace, bounded)
            launching = asyncio.ensure_future(make_job(workspace_id=llama_workspace, rate=rate))
            await _wait_until_blocked(watcher)
        with pytest.raises(BudgetExceeded):
            await launching
    finally:
        await watcher.close()


async def test_a_budget_that_is_used_up_changes_nothing_but_what_is_new(
    database: Database, make_job: JobFactory, ada_id: str, llama_workspace: UUID
) -> None:
    """What was accepted was accepted; a counter that follows a budget down would lose money."""
    rate = Rate(5, timedelta(minutes=3))
    first_job = await make_job(workspace_id=llama_workspace, rate=rate)

    lowered = await change_workspace(
        database, ada_id, llama_workspace, sets_budget=True, budget_micro_usd=1
    )
    with pytest.raises(BudgetExceeded):
        await make_job(workspace_id=llama_workspace, rate=rate)
    untouched = await change_workspace(database, ada_id, llama_workspace, name="b")
    lifted = await change_workspace(database, ada_id, llama_workspace, sets_budget=True)

    assert (lowered.held_micro_usd, lowered.budget_micro_usd) == (15, 1)
    assert (untouched.held_micro_usd, untouched.budget_micro_usd) == (15, 1)
    assert lifted.budget_micro_usd is None
    assert (await make_job(workspace_id=llama_workspace, rate=rate)).id != first_job.id
    assert ("workspace_updated", {"budget_micro_usd": 1}) in await read_audit_details(database)


async def test_what_is_put_away_says_so_before_what_it_lacks(
    database: Database, make_job: JobFactory, ada_id: str, llama_workspace: UUID
) -> None:
    """A shorter timeout would be refused as well."""
    await change_workspace(
        database, ada_id, llama_workspace, archived=True, sets_budget=True, budget_micro_usd=1
    )

    for rate in (None, Rate(5, timedelta(minutes=3))):
        with pytest.raises(WorkspaceArchived):
            await make_job(workspace_id=llama_workspace, rate=rate)


async def test_an_archive_waits_for_a_launch_that_was_first(
    database: Database, ada_id: str, llama_workspace: UUID, database_url: str
) -> None:
    """Or it would say that nothing new begins while something does."""
    watcher: asyncpg.Connection = await asyncpg.connect(database_url)
    try:
        async with database.transaction() as tx:
            await lifecycle.submit_job(
                tx,
                subject_id=ada_id,
                kind=JobKind.HUB_JOB,
                namespace="ada",
                title="t",
                spec={},
                labels={},
                max_open_jobs=9,
                workspace_id=llama_workspace,
            )
            archiving = asyncio.create_task(
                change_workspace(database, ada_id, llama_workspace, archived=True)
            )
            await _wait_until_blocked(watcher)
        assert (await archiving).archived_at is not None
    finally:
        await watcher.close()
    async with database.transaction() as tx:
        status = await workspace_store.get_workspace_status(tx, ada_id, llama_workspace)
    assert status is not None
    assert (status.jobs, status.open_jobs, status.states) == (1, 1, {"queued": 1})


async def _wait_until_blocked(watcher: asyncpg.Connection) -> None:
    async with asyncio.timeout(5):
        while not await watcher.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            pass


async def test_no_job_slips_into_a_workspace_that_is_being_archived(
    database: Database, make_job: JobFactory, ada_id: str, llama_workspace: UUID
) -> None:
    """Whichever commits first decides, however many come at once."""
    launches = [make_job(workspace_id=llama_workspace) for _ in range(8)]
    results = await asyncio.gather(
        *launches[:4],
        change_workspace(database, ada_id, llama_workspace, archived=True),
        *launches[4:],
        return_exceptions=True,
    )

    refused = [each for each in results if isinstance(each, WorkspaceArchived)]
    async with database.transaction() as tx:
        status = await workspace_store.get_workspace_status(tx, ada_id, llama_workspace)
    assert status is not None
    assert status.archived_at is not None
    assert status.jobs + len(refused) == 8


async def test_a_roll_up_counts_what_became_of_the_jobs(
    database: Database, make_job: JobFactory, ada_id: str, llama_workspace: UUID
) -> None:
    """Only of this workspace, by state, and how long they ran."""
    jobs = [await make_job(workspace_id=llama_workspace) for _ in range(3)]
    await make_job()
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, jobs[0].id, subject_id=ada_id)
        await tx.execute("SET LOCAL session_replication_role = replica")  # it is no move
        await tx.execute(
            "UPDATE job SET started_at = finished_at - interval '90 seconds' WHERE id = $1",
            jobs[0].id,
        )
        status = await workspace_store.get_workspace_status(tx, ada_id, llama_workspace)

    assert status is not None
    assert (status.jobs, status.open_jobs, status.run_seconds) == (3, 2, 90)
    assert status.states == {"queued": 2, "cancelled": 1}
