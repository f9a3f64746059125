"""The promises about whose jobs are launched next, and how many at a time."""

from collections import Counter
from datetime import timedelta

import pytest

from schema.accounts import credentials
from schema.accounts.vault import Secret, Vault
from schema.db.database import Database
from schema.jobs import run_launch
from schema.jobs.tables import JobKind
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.subjects import ADA_ID, BOB_ID


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
