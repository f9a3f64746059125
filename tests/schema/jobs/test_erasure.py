"""Whoever is erased is known nowhere, and nobody else is touched."""

from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from schema.accounts.restored_subjects import mark_restored
from schema.db.database import Database, Transaction
from schema.jobs import lifecycle
from schema.jobs.retention import erasure
from schema.settings import Settings
from service.cli import personal_data
from service.cli.personal_data import ForgetRefused, forget_subject
from tests.support.database.subject_rows import find_mentions, read_rows_of
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.jobs.job_costs import give_up_launch, stop_watching_absent_runs
from tests.support.subjects import ADA_ID, BOB_ID


async def cancel_all(database: Database) -> None:
    async with database.transaction() as tx:
        for job_id in await erasure.list_unfinished_jobs(tx, ADA_ID):
            await lifecycle.cancel_job(tx, job_id, subject_id=ADA_ID)


async def erase(database: Database) -> int:
    """Erase Ada, and return the number of steps; each is first broken off, and then repeated."""
    steps = 0
    has_more = True
    while has_more:
        with suppress(ZeroDivisionError):
            async with database.transaction() as tx:
                await erasure.erase_step(tx, ADA_ID)
                raise ZeroDivisionError
        async with database.transaction() as tx:
            has_more = await erasure.erase_step(tx, ADA_ID)
        steps += 1
    return steps


async def test_an_erasure_leaves_nothing_of_one_and_everything_of_the_other(
    database: Database, rows_of_two: None, make_job: JobFactory
) -> None:
    """Only what was spent stays, in an entry that does not say by whom."""
    await cancel_all(database)
    over = await make_job(subject_id=BOB_ID, namespace="bob")
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, over.id, subject_id=BOB_ID)
    bobs = await read_rows_of(database, BOB_ID)
    async with database.transaction() as tx:
        spent = await tx.fetchval(
            "SELECT sum(spent_micro_usd)::bigint FROM spending WHERE subject_id = $1", ADA_ID
        )

    steps = await erase(database)

    assert steps > 2
    assert await read_rows_of(database, ADA_ID) == {}
    assert await find_mentions(database, ADA_ID) == {}
    assert await read_rows_of(database, BOB_ID) == bobs
    async with database.transaction() as tx:
        facts = await tx.fetchval(
            "SELECT facts FROM audit_entry WHERE action = 'subject_forgotten'"
        )
    assert facts["jobs"] == 3
    assert sum(facts["spent_micro_usd"].values()) == spent


async def test_what_may_still_run_stands_in_the_way(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A job, a run, or a run that is watched for: nobody would know of it afterwards."""
    await make_job()
    (claim,) = await claim_jobs()

    async def look() -> tuple[int, int, bool]:
        async with database.transaction() as tx:
            work = await erasure.read_open_work(tx, ADA_ID)
            assert not work.is_none
            assert await erasure.erase_step(tx, ADA_ID)
        return work.unfinished_jobs, work.open_runs, work.watched_until is not None

    launching = await look()
    await cancel_all(database)
    stopping = await look()
    await give_up_launch(database, claim, relaunch=False, monthly_budget=None)
    watched = await look()
    await stop_watching_absent_runs(database)
    async with database.transaction() as tx:
        work = await erasure.read_open_work(tx, ADA_ID)

    assert (launching, stopping, watched) == ((1, 1, False), (0, 1, False), (0, 0, True))
    assert work.is_none
    assert await erase(database) > 0
    assert await read_rows_of(database, ADA_ID) == {}


async def test_nothing_is_cancelled_for_an_erasure_that_is_refused(
    database: Database, make_job: JobFactory, make_settings: Callable[..., Settings]
) -> None:
    """After a restore runs of theirs may be unknown, and no waiting shows them."""
    job = await make_job()
    async with database.transaction() as tx:
        await mark_restored(tx, backup_at=datetime.now(UTC))

    with pytest.raises(ForgetRefused, match="came from a backup"):
        await forget_subject(
            Namespace(subject=ADA_ID, yes=True, cancel=True), make_settings(), Console()
        )

    async with database.transaction() as tx:
        assert await erasure.list_unfinished_jobs(tx, ADA_ID) == [job.id]


async def test_a_client_that_goes_on_launching_is_named_as_the_reason(
    database: Database,
    make_settings: Callable[..., Settings],
    make_job: JobFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command ends, and says whom to ask; what has been launched is cancelled."""
    await make_job()
    read_open_work = erasure.read_open_work

    async def launch_and_read(tx: Transaction, subject_id: str) -> erasure.OpenWork:
        await make_job()
        return await read_open_work(tx, subject_id)

    monkeypatch.setattr(erasure, "read_open_work", launch_and_read)
    monkeypatch.setattr(personal_data, "_STOP_TIMEOUT", timedelta(seconds=2))
    monkeypatch.setattr(personal_data, "_STOP_CHECK_INTERVAL", timedelta(milliseconds=10))

    with pytest.raises(ForgetRefused, match="A client of theirs goes on launching"):
        await forget_subject(
            Namespace(subject=ADA_ID, yes=True, cancel=True), make_settings(), Console()
        )

    async with database.transaction() as tx:
        open_jobs = await tx.fetchval("SELECT count(*) FROM job WHERE state = 'queued'")
        cancelled_jobs = await tx.fetchval("SELECT count(*) FROM job WHERE state = 'cancelled'")
    assert open_jobs <= 1 < cancelled_jobs
