"""How the groups of one step are polled side by side, and written together."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Final, cast

import anyio
import pytest

from schema.accounts import credentials
from schema.accounts.vault import Secret, Vault
from schema.artifacts import log_store
from schema.db.database import Database, Transaction
from schema.hub.job import RemoteJob, RemoteStatus
from schema.jobs import run_launch
from schema.jobs.tables import JobKind, Reason
from schema.settings import Settings
from tests.support.factories import JobFactory
from workers.context import Worker
from workers.hub.client import HubJobsClient
from workers.loops import poll_runs as poll_runs_module
from workers.loops.poll_runs import poll_runs

PEOPLE: Final = ("ann", "ben", "cid")
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
OBSERVE_MAX: Final = timedelta(seconds=30)
"""Of the worker below; a group is due later than in this time only under its lease."""
LEASE: Final = timedelta(hours=2)
_PATIENCE_SECONDS: Final = 10


class ListingHub:
    """A Hub where each namespace has one job, which waits for hardware; it remembers who asked."""

    def __init__(self) -> None:
        self.listings: list[tuple[str, str]] = []
        """The namespace and the token of each."""
        self.stages: dict[str, str] = {}
        """Of the jobs that do not wait for hardware."""
        self.printed: list[str] = []
        """Each job that runs prints one line more whenever its log is read."""
        self.slow_namespaces = set[str]()
        self.slow_listing_begun = anyio.Event()
        self.release = anyio.Event()

    async def list_jobs(self, namespace: str, token: Secret, **_: Any) -> list[RemoteJob]:
        self.listings.append((namespace, token.reveal()))
        if namespace in self.slow_namespaces:
            self.slow_listing_begun.set()
            await self.release.wait()
        stage = self.stages.get(namespace, "SCHEDULING")
        return [RemoteJob(id=f"r-{namespace}", status=RemoteStatus(stage=stage))]

    async def stream_log(self, *_: Any, **__: Any) -> AsyncGenerator[list[str]]:
        self.printed.append(f"step {len(self.printed) + 1}")
        yield list(self.printed)


@pytest.fixture
def hub() -> ListingHub:
    return ListingHub()


@pytest.fixture
async def worker(
    hub: ListingHub,
    database: Database,
    vault: Vault,
    make_settings: Callable[..., Settings],
    make_job: JobFactory,
) -> Worker:
    """A worker without loops, and a group of each person that is due, with one run."""
    for person in PEOPLE:
        async with database.transaction() as tx:
            await credentials.save_credential(
                tx,
                vault,
                subject_id=person,
                name=person,
                token=Secret(f"hf_{person}"),
                expires_at=None,
            )
        await make_job(subject_id=person, namespace=person)
    async with database.transaction() as tx:
        claims = await run_launch.claim(
            tx, JobKind.HUB_JOB, limit=9, worker="w1", lease=MINUTE, settle_window=MINUTE
        )
        for claim in claims:
            await run_launch.record_remote_id(
                tx,
                claim.run_id,
                remote_id=f"r-{claim.namespace}",
                stage="SCHEDULING",
                worker="w1",
                poll_after=timedelta(0),
                max_stage_duration=HOUR,
            )
    return Worker(
        name="w1",
        settings=make_settings(lease=LEASE, observe_max=OBSERVE_MAX),
        database=database,
        vault=vault,
        hub=cast("HubJobsClient", hub),
        executors={},
    )


async def read_delays(database: Database) -> dict[str, timedelta]:
    """Return in how long each group is due."""
    async with database.transaction() as tx:
        rows = await tx.fetch("SELECT namespace, due_at - now() AS delay FROM poll_group")
    return {row["namespace"]: row["delay"] for row in rows}


async def wait_until_due_within(database: Database, namespace: str, delay: timedelta) -> None:
    with anyio.fail_after(_PATIENCE_SECONDS):
        while (await read_delays(database))[namespace] > delay:
            await anyio.lowlevel.checkpoint()


async def test_groups_whose_runs_have_not_changed_take_two_transactions_together(
    worker: Worker, hub: ListingHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 2,000 groups hardly one has a run that has changed since the last listing."""
    transactions: list[object] = []
    begin = worker.database.transaction

    def begin_and_count() -> AbstractAsyncContextManager[Transaction]:
        transactions.append(transaction := begin())
        return transaction

    monkeypatch.setattr(worker.database, "transaction", begin_and_count)
    monkeypatch.setattr(poll_runs_module, "_FINISH_INTERVAL", HOUR)  # however slow the machine is
    await poll_runs(worker)
    monkeypatch.undo()

    assert sorted(namespace for namespace, _ in hub.listings) == list(PEOPLE)
    assert len(transactions) == 2  # what is due and its runs; when each group is due again
    assert max((await read_delays(worker.database)).values()) <= OBSERVE_MAX


async def test_each_group_is_listed_with_the_token_of_its_own_person(
    worker: Worker, hub: ListingHub
) -> None:
    """They are read in one statement, and must not be mixed up."""
    await poll_runs(worker)

    assert sorted(hub.listings) == [(person, f"hf_{person}") for person in PEOPLE]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE credential SET state = 'refused' WHERE subject_id = 'ben'",
        "UPDATE credential SET expires_at = now() WHERE subject_id = 'ben'",
        "DELETE FROM credential WHERE subject_id = 'ben'",
    ],
    ids=["refused", "expired", "deleted"],
)
async def test_a_person_without_a_usable_token_is_held_and_the_others_are_polled(
    worker: Worker, hub: ListingHub, change: str
) -> None:
    """Nobody is asked with a token that is known to be refused."""
    async with worker.database.transaction() as tx:
        await tx.execute(change)

    await poll_runs(worker)

    assert sorted(namespace for namespace, _ in hub.listings) == ["ann", "cid"]
    async with worker.database.transaction() as tx:
        held = await tx.fetch("SELECT id, hold FROM subject WHERE hold IS NOT NULL")
    assert [(row["id"], row["hold"]) for row in held] == [("ben", "credentials")]


async def test_a_slow_listing_keeps_no_other_group_from_being_due_again(
    worker: Worker, hub: ListingHub
) -> None:
    """The Hub may take half a minute for one person, and another's job ends meanwhile."""
    hub.slow_namespaces.add("ben")
    delays: dict[str, timedelta] = {}

    async with anyio.create_task_group() as step:
        step.start_soon(poll_runs, worker)
        await hub.slow_listing_begun.wait()
        for person in ("ann", "cid"):
            await wait_until_due_within(worker.database, person, OBSERVE_MAX)
        delays |= await read_delays(worker.database)
        hub.release.set()

    assert delays["ben"] > HOUR  # as long as its lease
    assert (await read_delays(worker.database))["ben"] <= OBSERVE_MAX


async def test_a_worker_that_is_stopped_leaves_no_group_under_its_lease(
    worker: Worker, hub: ListingHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are done are due as if it had gone on, and the one under way is due at once."""
    monkeypatch.setattr(poll_runs_module, "_FINISH_INTERVAL", HOUR)
    hub.slow_namespaces.add("ben")

    async with anyio.create_task_group() as step:
        step.start_soon(poll_runs, worker)
        with anyio.fail_after(_PATIENCE_SECONDS):
            await hub.slow_listing_begun.wait()
            while len(hub.listings) < len(PEOPLE):
                await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        step.cancel_scope.cancel()

    delays = await read_delays(worker.database)
    assert delays["ben"] <= timedelta(0)
    assert max(delays.values()) <= OBSERVE_MAX


async def test_a_listed_run_that_is_overdue_is_expired_though_its_stage_is_the_same(
    worker: Worker,
) -> None:
    """Its stage never changes, which is what is wrong with it."""
    async with worker.database.transaction() as tx:
        await tx.execute("UPDATE remote_run SET deadline_at = now() WHERE namespace = 'ann'")

    await poll_runs(worker)

    async with worker.database.transaction() as tx:
        rows = await tx.fetch("SELECT namespace, reason FROM job ORDER BY namespace")
    assert [row["reason"] for row in rows] == [Reason.STUCK_SCHEDULING, None, None]


async def test_the_log_of_a_run_is_followed_though_its_stage_is_the_same(
    worker: Worker, hub: ListingHub
) -> None:
    """Runs print for hours, and are in one stage for all of them."""
    hub.stages["ann"] = "RUNNING"
    for _ in range(2):  # the first poll records the stage
        async with worker.database.transaction() as tx:
            await tx.execute("UPDATE poll_group SET due_at = now()")
        await poll_runs(worker)

    async with worker.database.transaction() as tx:
        job_id = await tx.fetchval("SELECT id FROM job WHERE namespace = 'ann'")
        lines = await log_store.read_lines(tx, "ann", job_id, start=0, limit=10)
    assert [line.text for line in lines] == ["step 1", "step 2"]
