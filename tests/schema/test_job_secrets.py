"""Secrets of jobs are sealed, opened for the launch alone, and wiped by the move after it."""

import base64
import os
from datetime import timedelta

import pytest

from schema import job_secrets, launches, lifecycle
from schema.database import Database
from schema.job import Job, JobKind, Reason
from schema.launches import Claim
from schema.rotation import rotate
from schema.vault import Secret, Unsealable, Vault
from tests.conftest import ADA, JobFactory

CANARY = "canary-5f2a"


@pytest.fixture
async def job(database: Database, vault: Vault, make_job: JobFactory) -> Job:
    """A queued job with a secret."""
    made = await make_job()
    async with database.transaction() as tx:
        await job_secrets.keep(tx, vault, made.id, ADA, {"KEY": Secret(CANARY)})
    return made


async def claim_one(database: Database) -> Claim:
    async with database.transaction() as tx:
        (claim,) = await launches.claim(
            tx,
            JobKind.HUB_JOB,
            limit=1,
            worker="w1",
            lease=timedelta(minutes=1),
            settle=timedelta(minutes=1),
        )
    return claim


async def kept(database: Database) -> int:
    async with database.transaction() as tx:
        rows: int = await tx.fetchval("SELECT count(*) FROM job_secret")
    return rows


async def test_a_worker_opens_what_a_caller_gave(
    database: Database, vault: Vault, job: Job
) -> None:
    """In between nobody can read it, whatever they dump."""
    async with database.transaction() as tx:
        sealed = await tx.fetchval("SELECT sealed FROM job_secret")
        opened = await job_secrets.reveal(tx, vault, job.id)

    assert CANARY.encode() not in sealed
    assert {name: secret.reveal() for name, secret in opened.items()} == {"KEY": CANARY}
    assert CANARY not in repr(opened)


async def test_secrets_do_not_open_for_another_job(
    database: Database, vault: Vault, job: Job, make_job: JobFactory
) -> None:
    """Whoever can write rows cannot have the secrets of one job handed to another."""
    other = await make_job()
    async with database.transaction() as tx:
        await tx.execute("UPDATE job_secret SET job_id = $1", other.id)
        with pytest.raises(Unsealable):
            await job_secrets.reveal(tx, vault, other.id)


async def test_secrets_are_wiped_when_the_launch_is_known_to_be_over(
    database: Database, job: Job
) -> None:
    """From then on they are at the Hub, and nowhere else."""
    claim = await claim_one(database)
    assert await kept(database) == 1

    async with database.transaction() as tx:
        await launches.bind(
            tx, claim.run_id, remote_id="r", stage=None, worker="w1", look_again=timedelta(0)
        )

    assert await kept(database) == 0


async def test_a_job_that_is_queued_again_still_has_its_secrets(
    database: Database, job: Job
) -> None:
    """The next attempt is the same request."""
    claim = await claim_one(database)

    async with database.transaction() as tx:
        await launches.reject(tx, claim.run_id, reason=None, message="later", worker="w1")

    assert await kept(database) == 1


@pytest.mark.parametrize("ending", ["cancelled", "refused"])
async def test_a_job_that_will_not_run_leaves_no_secret(
    database: Database, job: Job, ending: str
) -> None:
    """Nobody will need it any more."""
    claim = await claim_one(database)

    async with database.transaction() as tx:
        if ending == "cancelled":
            await lifecycle.cancel(tx, job.id, subject_id=ADA)
        else:
            await launches.reject(
                tx, claim.run_id, reason=Reason.INVALID_REQUEST, message="no", worker="w1"
            )

    assert await kept(database) == 0


async def test_after_a_rotation_the_old_key_is_not_needed_any_more(
    database: Database, vault_keys: str, job: Job
) -> None:
    """Tokens and secrets are sealed anew, and open with the new key alone."""
    fresh = f"2:{base64.b64encode(os.urandom(32)).decode()}"

    first = await rotate(database, Vault.of(f"{fresh},{vault_keys}"))
    again = await rotate(database, Vault.of(f"{fresh},{vault_keys}"))

    assert (first.resealed, first.current, first.lost) == (2, 0, 0)
    assert (again.resealed, again.current) == (0, 2)
    async with database.transaction() as tx:
        opened = await job_secrets.reveal(tx, Vault.of(fresh), job.id)
    assert opened["KEY"].reveal() == CANARY


async def test_a_rotation_says_what_it_cannot_open(database: Database, job: Job) -> None:
    """The old key was taken out too early; it can still be put back."""
    fresh = f"2:{base64.b64encode(os.urandom(32)).decode()}"

    rotated = await rotate(database, Vault.of(fresh))

    assert (rotated.resealed, rotated.lost) == (0, 2)
