"""The promises about whose jobs are launched next, and how many at a time."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import anyio
import pytest

from schema.accounts import credentials, operator_actions
from schema.accounts.row_security import open_worker_database
from schema.accounts.vault import Secret, Vault
from schema.db.database import Database
from schema.jobs import run_launch
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobKind, Reason
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.polling import eventually
from tests.support.subjects import ADA_ID, BOB_ID

# Rows as ten thousand launches have written them, which would take half a minute.
_MULTIPLY_JOB: Final = """
WITH copies AS (
    INSERT INTO job
    SELECT (jsonb_populate_record(job, jsonb_build_object('id', gen_random_uuid()))).*
      FROM job CROSS JOIN generate_series(1, $1::int)
    RETURNING *
), payloads AS (
    INSERT INTO job_payload (job_id, spec) SELECT id, '{}' FROM copies
), events AS (
    INSERT INTO job_event (job_id, version, kind, state, actor)
    SELECT id, version, 'created', state, 'test' FROM copies
)
UPDATE subject SET queued = queued + $1 WHERE id = (SELECT subject_id FROM copies LIMIT 1)
"""


@pytest.fixture
async def bob_id(database: Database, vault: Vault) -> str:
    """A subject beside Ada."""
    await add_subject(database, vault, BOB_ID)
    return BOB_ID


async def add_subject(database: Database, vault: Vault, subject_id: str) -> None:
    async with database.transaction() as tx:
        await credentials.save_credential(
            tx, vault, subject_id=subject_id, name="x", token=Secret("hf_x"), expires_at=None
        )


async def set_max_active(database: Database, *, max_active: int) -> None:
    async with database.transaction() as tx:
        await tx.execute("UPDATE subject SET max_active = $1", max_active)


async def set_default_limits(
    database: Database, by_kind: Mapping[str, int], *, max_active: int = 100
) -> None:
    async with database.transaction() as tx:
        await operator_actions.save_default_limits(
            tx, max_active=max_active, max_active_by_kind=by_kind
        )


async def limit_ada(
    database: Database, max_active: int | None, kind: JobKind | None = None
) -> None:
    async with database.transaction() as tx:
        await operator_actions.limit_subject(tx, ADA_ID, max_active=max_active, kind=kind)


async def find_waiting(database: Database, kind: JobKind = JobKind.HUB_JOB) -> list[str]:
    async with database.transaction() as tx:
        return await run_launch.find_waiting_subjects(tx, kind)


async def test_whoever_was_served_longest_ago_is_served_next(
    database: Database, bob_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A single hand goes round, however many jobs each of them has."""
    for _ in range(3):
        await make_job()
        await make_job(subject_id=bob_id, namespace="bob")

    served = [(await claim_jobs(limit=1))[0].subject_id for _ in range(6)]

    async with database.transaction() as tx:
        never = await tx.fetch("SELECT FROM subject WHERE last_served_at = '-infinity'")
    assert never == []
    assert sorted(served[:2]) == sorted([ADA_ID, bob_id])
    assert served == served[:2] * 3


async def test_a_subject_launches_no_more_than_it_has_room_for(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The rest keeps its place in the queue until something ends."""
    await set_max_active(database, max_active=2)
    for _ in range(4):
        await make_job()

    first, then = await claim_jobs(), await claim_jobs()

    assert (len(first), len(then)) == (2, 0)


async def test_a_subject_whose_room_was_cut_below_what_it_uses_launches_nothing(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Nothing is stopped for it either, and nobody else has to wait for it."""
    for _ in range(3):
        await make_job()
    assert len(await claim_jobs(limit=3)) == 2
    await set_max_active(database, max_active=1)

    assert await claim_jobs() == []


async def test_a_subject_the_hub_asked_to_be_quiet_launches_nothing(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The budget is the subject's; their next job would be refused like the last."""
    await make_job()
    (one,) = await claim_jobs()
    await make_job()
    async with database.transaction() as tx:
        await run_launch.mark_not_created(
            tx,
            one.run_id,
            reason=None,
            message="429",
            worker="w1",
            pause_subject_for=timedelta(hours=1),
        )

    assert await claim_jobs() == []


async def test_a_job_that_is_to_wait_lets_the_next_one_pass(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """What failed a moment ago is not hammered, and holds up nobody."""
    await make_job()
    (one,) = await claim_jobs()
    second = await make_job()
    async with database.transaction() as tx:
        await run_launch.mark_not_created(
            tx, one.run_id, reason=None, message="busy", worker="w1", retry_after=timedelta(hours=1)
        )

    assert [each.job_id for each in await claim_jobs()] == [second.id]


@pytest.mark.parametrize("kind", JobKind)
@pytest.mark.parametrize("slots", [2, 4, 6, 12, 48])
async def test_one_subject_leaves_a_slot_for_whoever_comes_next(
    bob_id: str,
    make_job: JobFactory,
    claim_jobs: ClaimFactory,
    kind: JobKind,
    slots: int,
) -> None:
    """However much Ada has queued, and however long each of it takes."""
    for _ in range(slots + 1):
        await make_job(kind=kind)
    held = Counter[str]()
    while claims := await claim_jobs(kind, limit=slots - held.total(), held_slots=held):
        held.update(claim.subject_id for claim in claims)

    await make_job(kind=kind, subject_id=bob_id, namespace="bob")
    served = await claim_jobs(kind, limit=slots - held.total(), held_slots=held)

    assert held == {ADA_ID: slots * 3 // 4}
    assert [claim.subject_id for claim in served] == [bob_id]


async def test_ten_thousand_queued_jobs_delay_another_subject_by_one_claim_at_most(
    database: Database, bob_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Though Bob was served last; a claim that was on its way already does not see his job."""
    await make_job()
    async with database.transaction() as tx:
        await tx.execute(_MULTIPLY_JOB, 9_999)
        await tx.execute("UPDATE subject SET last_served_at = now() WHERE id = $1", bob_id)
    await make_job(subject_id=bob_id, namespace="bob")

    rounds = [await claim_jobs(limit=8) for _ in range(2)]

    assert bob_id in {claim.subject_id for claims in rounds for claim in claims}
    assert ADA_ID in {claim.subject_id for claims in rounds for claim in claims}


async def test_a_single_slot_is_anybodys(make_job: JobFactory, claim_jobs: ClaimFactory) -> None:
    """Nobody would be served if one slot had to stay free."""
    await make_job()

    assert len(await claim_jobs(limit=1)) == 1


async def test_free_slots_go_to_those_who_hold_the_fewest(
    database: Database, vault: Vault, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Also if many who hold some have waited longer."""
    holders = [f"{number:024x}" for number in range(5)]
    for subject_id in holders:
        await add_subject(database, vault, subject_id)
    for subject_id in [*holders, ADA_ID]:
        for _ in range(3):
            await make_job(subject_id=subject_id, namespace="x")
    async with database.transaction() as tx:
        await tx.execute("UPDATE subject SET last_served_at = now() WHERE id = $1", ADA_ID)

    served = await claim_jobs(limit=4, held_slots=dict.fromkeys(holders, 1))

    assert Counter(claim.subject_id for claim in served)[ADA_ID] >= 1
    assert max(Counter(claim.subject_id for claim in served).values()) <= 2


@pytest.mark.parametrize("own", [None, 1, 5])
async def test_a_limit_of_a_subject_counts_instead_of_the_default(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory, own: int | None
) -> None:
    """Whether it is smaller or larger."""
    for _ in range(8):
        await make_job()
    await set_default_limits(database, {}, max_active=3)
    await limit_ada(database, own)

    assert len(await claim_jobs(limit=100)) == (own or 3)
    assert (await claim_jobs(), await find_waiting(database)) == ([], [])

    await limit_ada(database, None)
    assert len(await claim_jobs(limit=100)) == (2 if own == 1 else 0)


@pytest.mark.parametrize("own", [None, 0, 1, 5])
async def test_a_limit_of_a_kind_holds_and_holds_up_no_other_kind(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory, own: int | None
) -> None:
    """The limit of the subject counts instead of that of the deployment, smaller or larger."""
    for _ in range(8):
        await make_job()
        await make_job(kind=JobKind.INFERENCE)
    await set_default_limits(database, {JobKind.HUB_JOB: 3})
    if own is not None:
        await limit_ada(database, own, JobKind.HUB_JOB)
    limit = 3 if own is None else own

    assert len(await claim_jobs(limit=100)) == limit
    assert (await claim_jobs(), await find_waiting(database)) == ([], [])
    assert await find_waiting(database, JobKind.INFERENCE) == [ADA_ID]
    assert len(await claim_jobs(JobKind.INFERENCE, limit=100)) == 8

    await limit_ada(database, None, JobKind.HUB_JOB)
    assert len(await claim_jobs(limit=100)) == max(3 - limit, 0)


async def test_a_kind_has_room_again_when_a_run_of_it_is_over(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """One that may still exist at the Hub counts."""
    for _ in range(3):
        await make_job()
    await limit_ada(database, 1, JobKind.HUB_JOB)
    (first,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.mark_unconfirmed(tx, first.run_id, cause="timeout", worker="w1")
    while_in_doubt = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.mark_not_created(
            tx, first.run_id, reason=Reason.INVALID_REQUEST, message="no", worker="w1"
        )

    assert while_in_doubt == []
    assert len(await claim_jobs()) == 1


async def test_whoever_has_no_room_of_a_kind_takes_no_place_of_others(
    database: Database, bob_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A worker looks at only as many subjects as it has free slots."""
    await make_job()
    await make_job(subject_id=bob_id, namespace="bob")
    await limit_ada(database, 0, JobKind.HUB_JOB)
    async with database.transaction() as tx:
        await tx.execute("UPDATE subject SET last_served_at = now() WHERE id = $1", bob_id)

    assert [claim.subject_id for claim in await claim_jobs(limit=1)] == [bob_id]


async def test_workers_that_claim_at_the_same_time_stay_within_the_limit_of_a_kind(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """However their claims overlap."""
    for _ in range(12):
        await make_job()
    await limit_ada(database, 5, JobKind.HUB_JOB)
    claimed: list[int] = []

    async def claim_often() -> None:
        for _ in range(10):
            claimed.append(len(await claim_jobs(limit=1)))  # noqa: PERF401  # each has to wait

    async with anyio.create_task_group() as workers:
        for _ in range(6):
            workers.start_soon(claim_often)

    assert sum(claimed) == 5


async def test_a_claim_counts_what_was_claimed_since_it_began(
    database: Database, database_url: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """It began before the other one ended, and locks the subject afterwards.

    A policy that waits holds it up in between.
    """
    for _ in range(4):
        await make_job()
    await limit_ada(database, 2, JobKind.HUB_JOB)
    async with database.transaction() as tx:
        await tx.execute(
            "CREATE FUNCTION wait_for_test() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
            " PERFORM pg_advisory_xact_lock_shared(1); RETURN true; END $$"
        )
        await tx.execute(
            "CREATE POLICY slow ON subject AS RESTRICTIVE FOR SELECT TO holdfast_worker"
            " USING (wait_for_test())"
        )
    early: list[ClaimedJob] = []
    late: list[ClaimedJob] = []

    async def claim_late() -> None:
        async with (
            open_worker_database(
                database_url, application_name="late", pooled=False
            ) as worker_database,
            worker_database.transaction() as tx,
        ):
            late.extend(
                await run_launch.claim(
                    tx,
                    JobKind.HUB_JOB,
                    limit=10,
                    worker="w2",
                    lease=timedelta(minutes=1),
                    settle_window=timedelta(0),
                )
            )

    async def is_blocked() -> bool:
        async with database.transaction() as tx:
            return bool(
                await tx.fetchval(
                    "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
                )
            )

    async with anyio.create_task_group() as workers, database.transaction() as gate:
        await gate.execute("SELECT pg_advisory_xact_lock(1)")
        workers.start_soon(claim_late)
        await eventually(is_blocked, bool)
        early.extend(await claim_jobs())

    assert (len(early), late) == (2, [])
