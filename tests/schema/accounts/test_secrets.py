"""Secrets of jobs are sealed, opened for their launch and their log, and wiped after the last."""

import base64
import os
from datetime import timedelta

import pytest

from schema.accounts import secrets as sealed_secrets
from schema.accounts.key_rotation import count_lost_rows, rotate_keys
from schema.accounts.vault import Secret, Unsealable, Vault
from schema.accounts.vault_keys import compare_vault_keys
from schema.db.database import Database
from schema.jobs import lifecycle, run_end, run_launch
from schema.jobs.run_end import RunResult
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import Job, JobKind, JobState, Reason
from tests.support.database.row_security import tenant_transaction
from tests.support.factories import JobFactory
from tests.support.subjects import ADA_ID

CANARY = "canary-5f2a"


@pytest.fixture
async def job_with_secret(database: Database, vault: Vault, make_job: JobFactory) -> Job:
    """A queued job with a secret."""
    made = await make_job()
    async with database.transaction() as tx:
        await sealed_secrets.save_job_secrets(tx, vault, made.id, ADA_ID, {"KEY": Secret(CANARY)})
    return made


async def claim_one(database: Database) -> ClaimedJob:
    async with database.transaction() as tx:
        (claim,) = await run_launch.claim(
            tx,
            JobKind.HUB_JOB,
            limit=1,
            worker="w1",
            lease=timedelta(minutes=1),
            settle_window=timedelta(minutes=1),
        )
    return claim


async def read_sealed_secrets(database: Database) -> int:
    async with database.transaction() as tx:
        rows: int = await tx.fetchval("SELECT count(*) FROM job_secret")
    return rows


async def test_a_worker_opens_what_a_caller_gave(
    database: Database, vault: Vault, job_with_secret: Job
) -> None:
    """In between nobody can read it, whatever they dump."""
    async with database.transaction() as tx:
        sealed = await tx.fetchval("SELECT sealed FROM job_secret")
        opened = await sealed_secrets.open_job_secrets(tx, vault, job_with_secret.id)

    assert CANARY.encode() not in sealed
    assert {name: secret.reveal() for name, secret in opened.items()} == {"KEY": CANARY}
    assert CANARY not in repr(opened)


async def test_secrets_do_not_open_for_another_job(
    database: Database, vault: Vault, job_with_secret: Job, make_job: JobFactory
) -> None:
    """Whoever can write rows cannot have the secrets of one job handed to another."""
    other = await make_job()
    async with database.transaction() as tx:
        await tx.execute("UPDATE job_secret SET job_id = $1", other.id)
        with pytest.raises(Unsealable):
            await sealed_secrets.open_job_secrets(tx, vault, other.id)


async def record_remote_id(database: Database, claim: ClaimedJob) -> None:
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, claim.run_id, remote_id="r", stage=None, worker="w1", poll_after=timedelta(0)
        )


async def test_secrets_are_wiped_when_the_run_is_over_and_not_before(
    database: Database, job_with_secret: Job
) -> None:
    """As long as it prints, they are looked for in what it prints."""
    claim = await claim_one(database)
    await record_remote_id(database, claim)
    assert await read_sealed_secrets(database) == 1

    async with database.transaction() as tx:
        await run_end.end_run(
            tx, claim.run_id, RunResult(JobState.SUCCEEDED, "COMPLETED"), worker="w1"
        )

    assert await read_sealed_secrets(database) == 0


async def test_a_job_that_was_called_off_keeps_its_secrets_until_it_has_stopped(
    database: Database, job_with_secret: Job
) -> None:
    """Until then it may print them, and that is captured."""
    claim = await claim_one(database)
    await record_remote_id(database, claim)
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job_with_secret.id, subject_id=ADA_ID)
    assert await read_sealed_secrets(database) == 1

    async with database.transaction() as tx:
        await run_end.end_run(
            tx, claim.run_id, RunResult(JobState.CANCELLED, "CANCELED"), worker="w1"
        )

    assert await read_sealed_secrets(database) == 0


async def test_secrets_are_wiped_by_the_end_of_a_run_alone(
    database: Database, job_with_secret: Job
) -> None:
    """The database does not rely on a transition that writes the job as well."""
    claim = await claim_one(database)
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job_with_secret.id, subject_id=ADA_ID)
    before = await read_sealed_secrets(database)
    async with database.transaction() as tx:
        await tx.execute(
            "UPDATE remote_run SET state = 'rejected', due_at = NULL WHERE id = $1", claim.run_id
        )
        await tx.execute("UPDATE subject SET active = 0")

    assert (before, await read_sealed_secrets(database)) == (1, 0)


async def test_the_token_a_job_is_trusted_with_is_sealed_with_its_secrets(
    database: Database, vault: Vault, job_with_secret: Job
) -> None:
    """The subject's token may be another by the time the log is read."""
    claim = await claim_one(database)
    secrets = {"KEY": Secret(CANARY), "HF_TOKEN": Secret("hf_passed")}

    async with database.transaction() as tx:
        await sealed_secrets.save_run_secrets(
            tx, vault, job_with_secret.id, claim.run_id, ADA_ID, secrets
        )
        opened = await sealed_secrets.open_job_secrets(tx, vault, job_with_secret.id)

    assert {name: secret.reveal() for name, secret in opened.items()} == {
        "KEY": CANARY,
        "HF_TOKEN": "hf_passed",
    }


async def test_nothing_is_handed_over_to_a_run_that_is_not_being_posted_any_more(
    database: Database, vault: Vault, job_with_secret: Job
) -> None:
    """A worker that was asleep would seal what nobody comes by to wipe."""
    claim = await claim_one(database)
    async with database.transaction() as tx:
        await run_launch.mark_not_created(
            tx, claim.run_id, reason=Reason.INVALID_REQUEST, message="no", worker="w1"
        )

    async with database.transaction() as tx:
        await sealed_secrets.save_run_secrets(
            tx, vault, job_with_secret.id, claim.run_id, ADA_ID, {"A": Secret("b")}
        )

    assert await read_sealed_secrets(database) == 0


async def test_a_job_that_is_queued_again_still_has_its_secrets(
    database: Database, job_with_secret: Job
) -> None:
    """The next attempt is the same request."""
    claim = await claim_one(database)

    async with database.transaction() as tx:
        await run_launch.mark_not_created(
            tx, claim.run_id, reason=None, message="later", worker="w1"
        )

    assert await read_sealed_secrets(database) == 1


async def test_a_job_that_is_refused_leaves_no_secret(
    database: Database, job_with_secret: Job
) -> None:
    """Nobody will need it any more."""
    claim = await claim_one(database)

    async with database.transaction() as tx:
        await run_launch.mark_not_created(
            tx, claim.run_id, reason=Reason.INVALID_REQUEST, message="no", worker="w1"
        )

    assert await read_sealed_secrets(database) == 0


async def test_a_job_that_was_never_launched_leaves_no_secret(
    database: Database, database_url: str, job_with_secret: Job
) -> None:
    """A caller can call off what is queued; the service may wipe what it cannot read."""
    async with tenant_transaction(database_url, ADA_ID) as tx:
        await lifecycle.cancel_job(tx, job_with_secret.id, subject_id=ADA_ID)

    assert await read_sealed_secrets(database) == 0


async def test_after_a_rotation_the_old_key_is_not_needed_any_more(
    database: Database, vault_keys: str, job_with_secret: Job
) -> None:
    """Tokens and secrets are sealed anew, and open with the new key alone."""
    fresh = f"2:{base64.b64encode(os.urandom(32)).decode()}"

    first = await rotate_keys(database, Vault.from_key_ring(f"{fresh},{vault_keys}"))
    again = await rotate_keys(database, Vault.from_key_ring(f"{fresh},{vault_keys}"))

    assert (first.resealed, first.current, first.lost) == (2, 0, 0)
    assert (again.resealed, again.current) == (0, 2)
    async with database.transaction() as tx:
        opened = await sealed_secrets.open_job_secrets(
            tx, Vault.from_key_ring(fresh), job_with_secret.id
        )
    assert opened["KEY"].reveal() == CANARY


async def test_a_rotation_says_what_it_cannot_open(
    database: Database, job_with_secret: Job
) -> None:
    """The old key was taken out too early; it can still be put back."""
    fresh = f"2:{base64.b64encode(os.urandom(32)).decode()}"

    rotated = await rotate_keys(database, Vault.from_key_ring(fresh))

    assert (rotated.resealed, rotated.lost) == (0, 2)


async def test_a_new_key_under_an_old_name_is_found_out(
    database: Database, job_with_secret: Job
) -> None:
    """Whoever loses the file of the keys and makes another one names the new key 1 again."""
    same_name = Vault.from_key_ring(f"1:{base64.b64encode(os.urandom(32)).decode()}")

    rotated = await rotate_keys(database, same_name)

    assert await count_lost_rows(database, same_name) == 2
    assert (rotated.current, rotated.resealed, rotated.lost) == (0, 0, 2)


async def test_a_ring_that_opens_everything_has_lost_nothing(
    database: Database, vault_keys: str, job_with_secret: Job
) -> None:
    """An older key at the end of the ring is what it is for."""
    fresh = f"2:{base64.b64encode(os.urandom(32)).decode()}"

    assert await count_lost_rows(database, Vault.from_key_ring(vault_keys)) == 0
    assert await count_lost_rows(database, Vault.from_key_ring(f"{fresh},{vault_keys}")) == 0
    assert await count_lost_rows(database, Vault.from_key_ring(fresh)) == 2


async def test_a_key_is_missed_until_nothing_is_sealed_under_it(
    database: Database, vault_keys: str, job_with_secret: Job
) -> None:
    """The documented order: behind the first, in front, rotate, remove. No step opens all rows."""
    fresh = f"2:{base64.b64encode(os.urandom(32)).decode()}"

    async def find_missing(ring: str) -> list[str]:
        async with database.transaction() as tx:
            return await compare_vault_keys(tx, Vault.from_key_ring(ring))

    for ring in (vault_keys, f"{vault_keys},{fresh}", f"{fresh},{vault_keys}"):
        assert await find_missing(ring) == []
    assert await find_missing(fresh) == ["1"]
    await rotate_keys(database, Vault.from_key_ring(fresh))
    assert await find_missing(fresh) == ["1"]
    await rotate_keys(database, Vault.from_key_ring(f"{fresh},{vault_keys}"))
    assert await find_missing(fresh) == []
