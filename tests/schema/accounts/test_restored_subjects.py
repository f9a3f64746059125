"""Nothing happens to the jobs of a restored subject before the Hub was compared."""

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from schema.accounts import credentials, restored_subjects
from schema.accounts.restored_subjects import MIN_LISTINGS, RestoreLease
from schema.accounts.vault import Vault
from schema.db.database import Database
from schema.jobs import deadlines, run_launch
from schema.jobs.tables import JobKind
from schema.schedules import firing
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.jobs import schedule_states

BACKUP_AT: Final = datetime(2026, 11, 30, tzinfo=UTC)
SETTLE: Final = timedelta(minutes=10)


@pytest.fixture
async def restored(database: Database, ada_id: str) -> str:
    """Ada, whose rows came from a backup."""
    async with database.transaction() as tx:
        await restored_subjects.mark_restored(tx, backup_at=BACKUP_AT)
    return ada_id


async def lease(database: Database) -> RestoreLease:
    async with database.transaction() as tx:
        (lease,) = await restored_subjects.lease_restored_subjects(
            tx, limit=10, lease=timedelta(minutes=1), is_forced=True
        )
    return lease


async def compare(database: Database, settle: timedelta) -> timedelta | None:
    """Compare once, with listings that are complete."""
    leased = await lease(database)
    async with database.transaction() as tx:
        return await restored_subjects.record_comparison(
            tx, leased, settle_window=settle, recheck_after=timedelta(0)
        )


async def test_nothing_is_claimed_before_the_comparison(
    database: Database, restored: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Also what was submitted after the restore: the budget may be spent upstream."""
    await make_job()

    assert await claim_jobs() == []
    async with database.transaction() as tx:
        assert await run_launch.find_waiting_subjects(tx, JobKind.HUB_JOB) == []
    for _ in range(MIN_LISTINGS):
        await compare(database, timedelta(0))
    assert len(await claim_jobs()) == 1


async def test_three_complete_listings_are_needed_after_the_window(
    database: Database, restored: str
) -> None:
    """A create request of the last second may show late, and one listing may lag."""
    for _ in range(MIN_LISTINGS + 2):
        left = await compare(database, SETTLE)
        assert left is not None
        assert timedelta(minutes=9) < left <= SETTLE
    async with database.transaction() as tx:
        await tx.execute("UPDATE restored_subject SET listings = 0")
    assert [await compare(database, timedelta(0)) for _ in range(MIN_LISTINGS)] == [
        *[timedelta(0)] * (MIN_LISTINGS - 1),
        None,
    ]


async def test_a_listing_that_began_before_the_end_of_the_window_does_not_end_it(
    database: Database, restored: str
) -> None:
    """What counts is when it was asked for, not when it was written down."""
    leased = await lease(database)
    async with database.transaction() as tx:
        await tx.execute(
            "UPDATE restored_subject SET listings = 9, restored_at = $1",
            leased.leased_at - SETTLE + timedelta(microseconds=1),
        )
        left = await restored_subjects.record_comparison(
            tx, leased, settle_window=SETTLE, recheck_after=timedelta(0)
        )

    assert left is not None


async def test_of_two_comparisons_at_once_only_the_later_one_counts(
    database: Database, restored: str
) -> None:
    """An operator compares by hand what a worker compares already: that is one listing, not two."""
    first = await lease(database)
    second = await lease(database)
    async with database.transaction() as tx:
        for leased in (first, second):
            await restored_subjects.record_comparison(
                tx, leased, settle_window=SETTLE, recheck_after=timedelta(minutes=5)
            )
            await restored_subjects.postpone_comparison(tx, first, recheck_after=timedelta(0))

        row = await tx.fetchrow(
            "SELECT listings, due_at = now() + interval '5 minutes' AS kept FROM restored_subject"
        )
    assert row is not None
    assert row["listings"] == 1
    assert row["kept"]


async def test_a_dry_run_leaves_the_lease_of_a_worker_alone(
    database: Database, restored: str
) -> None:
    """It changes nothing: not even when the subject is compared next."""
    leased = await lease(database)
    async with database.transaction() as tx:
        (seen,) = await restored_subjects.lease_restored_subjects(
            tx, limit=10, lease=timedelta(hours=1), is_forced=True, is_dry_run=True
        )

        assert await tx.fetchval("SELECT due_at FROM restored_subject") == leased.lapses_at
    assert seen.lapses_at == leased.lapses_at


@pytest.mark.parametrize("hours_ahead", [-5, 5])
async def test_no_row_of_the_backup_is_later_than_its_limit(
    database: Database, ada_id: str, hours_ahead: int
) -> None:
    """The clock of the lost database may have been ahead of the one that has the rows now."""
    async with database.transaction() as tx:
        last_row_at = await tx.fetchval("SELECT now() + make_interval(hours => $1)", hours_ahead)
        await restored_subjects.mark_restored(tx, backup_at=last_row_at)

    leased = await lease(database)

    assert leased.rows_until >= last_row_at
    assert leased.rows_until >= leased.restored_at


async def test_no_schedule_fires_and_no_job_is_given_up_before_the_comparison(
    database: Database, vault: Vault, restored: str, make_job: JobFactory
) -> None:
    """The firing may have been made since the backup, and the old job may run."""
    await schedule_states.make_schedule(database, vault)
    await make_job()
    async with database.transaction() as tx:
        await tx.execute("UPDATE schedule SET next_at = now(), due_at = now()")

        assert await firing.lease_due_schedules(tx, limit=1, lease=timedelta(minutes=1)) == []
        await deadlines.fail_abandoned_jobs(tx, abandon_after=timedelta(0), worker="w")
        assert await tx.fetchval("SELECT state FROM job") == "queued"

        missed = await firing.miss_past_firings(tx, restored, until=datetime.now(UTC))
        assert missed == 1
        assert await tx.fetchval("SELECT next_at > now() FROM schedule")
        assert await tx.fetchval("SELECT became FROM schedule_firing") == "missed"


async def test_the_token_of_a_restored_subject_stays_until_the_comparison(
    database: Database, restored: str
) -> None:
    """They have nothing open in the backup, and may have launched something since."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE credential SET seen_at = now() - interval '1 day'")
        await credentials.delete_idle_credentials(tx)
        assert await tx.fetchval("SELECT count(*) FROM credential") == 1
    for _ in range(MIN_LISTINGS):
        await compare(database, timedelta(0))
    async with database.transaction() as tx:
        await credentials.delete_idle_credentials(tx)
        assert await tx.fetchval("SELECT count(*) FROM credential") == 0


async def test_a_subject_without_a_usable_token_is_compared_when_they_call(
    database: Database, restored: str
) -> None:
    """Nobody else may look at their jobs."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE credential SET expires_at = now() - interval '1 second'")
        leases = await restored_subjects.lease_restored_subjects(
            tx, limit=10, lease=timedelta(minutes=1), is_forced=True
        )
        assert leases == []
        assert await restored_subjects.count_unreconciled_subjects(tx) == 1
