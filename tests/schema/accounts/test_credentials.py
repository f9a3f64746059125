"""The promises about lent tokens: kept sealed, held when refused, released by the next call."""

import os
from base64 import b64encode
from datetime import datetime, timedelta

import anyio
import pytest

from schema.accounts import credentials
from schema.accounts.tables import Hold
from schema.accounts.vault import Secret, Vault
from schema.db.database import Database
from schema.jobs import queries as job_queries
from schema.jobs import run_launch
from schema.jobs.queries import JobStatus
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.polling import eventually
from tests.support.subjects import ADA_ID


async def lend_token(
    database: Database,
    vault: Vault,
    token: str,
    *grants: str,
    lifetime: timedelta | None = None,
) -> None:
    async with database.transaction() as tx:
        now: datetime = await tx.fetchval("SELECT now()")
        await credentials.save_credential(
            tx,
            vault,
            subject_id=ADA_ID,
            name="ada",
            token=Secret(token),
            grants=grants,
            expires_at=None if lifetime is None else now + lifetime,
        )


async def read_lent_token(database: Database, vault: Vault) -> str | None:
    """Return what a worker would act with."""
    async with database.transaction() as tx:
        credential = await credentials.load_token(tx, vault, ADA_ID)
    return None if credential is None else credential.token.reveal()


async def read_status(database: Database, claim: run_launch.ClaimedJob) -> JobStatus:
    async with database.transaction() as tx:
        status = await job_queries.get_job_status(tx, ADA_ID, claim.job_id)
    assert status is not None
    return status


async def test_a_token_is_lent_as_it_was_given_and_stored_as_it_was_not(
    database: Database, vault: Vault, ada_id: str
) -> None:
    """Whoever reads the table, or a dump of it, learns no token."""
    async with database.transaction() as tx:
        lent = await credentials.load_token(tx, vault, ada_id)
        row = await tx.fetchrow("SELECT * FROM credential")

    assert lent is not None
    assert lent.token.reveal() == "hf_ada"
    assert row is not None
    assert all(b"hf_ada" not in str(value).encode() for value in row.values())


async def test_the_same_token_again_writes_nothing(
    database: Database, vault: Vault, ada_id: str
) -> None:
    """Every call proves the token; only a new one is news."""
    async with database.transaction() as tx:
        before = await tx.fetchval("SELECT xmin::text FROM credential")

    await lend_token(database, vault, "hf_ada")

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT xmin::text FROM credential") == before


async def test_a_refused_token_holds_the_subject_until_a_new_one_comes(
    database: Database, vault: Vault, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The jobs keep their place; nothing is launched with a token that is known to be dead."""
    await make_job()
    (one,) = await claim_jobs()
    async with database.transaction() as tx:
        await credentials.mark_credential_refused(tx, ADA_ID, version=1)
        await run_launch.mark_not_created(tx, one.run_id, reason=None, message="401", worker="w1")
        assert await credentials.load_token(tx, vault, ADA_ID) is None
    assert (await read_status(database, one)).hold is Hold.CREDENTIALS
    assert await claim_jobs() == []

    await lend_token(database, vault, "hf_new")

    (again,) = await claim_jobs()
    assert again.job_id == one.job_id
    assert (await read_status(database, one)).hold is None


async def test_the_refused_token_itself_is_taken_again_once_it_is_proved(
    database: Database, vault: Vault, ada_id: str
) -> None:
    """A 401 that was the Hub's mistake must not lock a subject out for good."""
    async with database.transaction() as tx:
        await credentials.mark_credential_refused(tx, ada_id, version=1)

    await lend_token(database, vault, "hf_ada")

    async with database.transaction() as tx:
        assert await credentials.load_token(tx, vault, ada_id) is not None


async def read_hold(database: Database) -> Hold | None:
    async with database.transaction() as tx:
        hold: Hold | None = await tx.fetchval("SELECT hold FROM subject WHERE id = $1", ADA_ID)
    return hold


async def test_a_worker_that_met_no_token_does_not_hold_whoever_brings_one_meanwhile(
    database: Database, vault: Vault, ada_id: str
) -> None:
    """Between its look and its hold a call has lent one, and nothing would end that hold."""
    async with database.transaction() as tx:
        await credentials.mark_credential_refused(tx, ada_id, version=1)

    async def is_waiting() -> bool:
        async with database.transaction() as tx:
            return bool(
                await tx.fetchval(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
            )

    async with anyio.create_task_group() as group, database.transaction() as tx:
        await credentials.save_credential(
            tx, vault, subject_id=ada_id, name="ada", token=Secret("hf_ada"), expires_at=None
        )
        group.start_soon(read_lent_token, database, vault)
        await eventually(is_waiting, bool)

    assert await read_hold(database) is None
    assert await read_lent_token(database, vault) == "hf_ada"


async def test_a_token_that_is_kept_releases_a_hold_for_want_of_one(
    database: Database, vault: Vault, ada_id: str
) -> None:
    """Whatever has held them: the token that their jobs have is one that their call has proved."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE subject SET hold = 'credentials', held_at = now()")

    await lend_token(database, vault, "hf_ada")

    assert await read_hold(database) is None


async def test_a_late_refusal_of_a_replaced_token_changes_nothing(
    database: Database, vault: Vault, ada_id: str
) -> None:
    """The call that failed may have carried the token before this one."""
    await lend_token(database, vault, "hf_new")

    async with database.transaction() as tx:
        await credentials.mark_credential_refused(tx, ada_id, version=1)
        lent = await credentials.load_token(tx, vault, ada_id)

    assert lent is not None
    assert lent.token.reveal() == "hf_new"


async def test_an_operators_hold_is_not_the_subjects_to_lift(
    database: Database, vault: Vault, ada_id: str
) -> None:
    """Neither a refused token replaces it, nor a new one ends it."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE subject SET hold = 'operator', held_at = now()")
        await credentials.mark_credential_refused(tx, ada_id, version=1)
        refused = await tx.fetchval("SELECT hold FROM subject")

    await lend_token(database, vault, "hf_new")

    async with database.transaction() as tx:
        assert refused == await tx.fetchval("SELECT hold FROM subject") == "operator"


async def test_a_token_whose_key_left_the_ring_is_asked_for_again(
    database: Database, ada_id: str
) -> None:
    """Losing a key costs each subject one more call, not their jobs."""
    other = Vault.from_key_ring(f"1:{b64encode(os.urandom(32)).decode()}")

    async with database.transaction() as tx:
        assert await credentials.load_token(tx, other, ada_id) is None
        assert await tx.fetchval("SELECT hold FROM subject") == "credentials"

    await lend_token(database, other, "hf_ada")
    async with database.transaction() as tx:
        assert await credentials.load_token(tx, other, ada_id) is not None


async def test_release_makes_what_waits_for_a_token_due_at_once(
    database: Database, vault: Vault, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Kills and open questions were put off while there was no token to settle them with."""
    await make_job()
    (one,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.mark_unconfirmed(
            tx, one.run_id, cause="timeout", worker="w1", recheck_after=timedelta(hours=1)
        )
        await credentials.mark_credential_refused(tx, ADA_ID, version=1)

    await lend_token(database, vault, "hf_new")

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT due_at <= now() FROM remote_run")


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("stored", "brought", "lends"),
    [
        pytest.param((["jobs"], HOUR), (["jobs"], 2 * HOUR), "new", id="it lives longer"),
        pytest.param((["jobs"], 2 * HOUR), (["jobs"], HOUR), "old", id="it lives shorter"),
        pytest.param((["jobs"], HOUR), (["jobs"], None), "new", id="it does not expire"),
        pytest.param((["jobs"], None), (["jobs"], None), "new", id="it is as good, and newer"),
        pytest.param((["jobs"], HOUR), (["inference-api"], None), "old", id="it allows less"),
        pytest.param((["jobs"], HOUR), (["jobs", "org:acme"], HOUR), "new", id="it allows more"),
    ],
)
async def test_the_better_of_two_tokens_is_lent(
    database: Database,
    vault: Vault,
    stored: tuple[list[str], timedelta | None],
    brought: tuple[list[str], timedelta | None],
    lends: str,
) -> None:
    """A call from a client that may do less must not take from the jobs what they run on."""
    await lend_token(database, vault, "old", *stored[0], lifetime=stored[1])

    await lend_token(database, vault, "new", *brought[0], lifetime=brought[1])

    assert await read_lent_token(database, vault) == lends


async def test_a_token_that_allows_less_is_better_than_one_that_was_refused(
    database: Database, vault: Vault
) -> None:
    """Whatever it lacks, it is alive."""
    await lend_token(database, vault, "old", "jobs", "inference-api")
    async with database.transaction() as tx:
        await credentials.mark_credential_refused(tx, ADA_ID, version=1)

    await lend_token(database, vault, "new", "jobs", lifetime=HOUR)

    assert await read_lent_token(database, vault) == "new"


async def test_an_expired_token_is_not_lent_and_holds_its_subject(
    database: Database, vault: Vault
) -> None:
    """Nobody asks the Hub what is known beforehand; the jobs wait for the next sign-in."""
    await lend_token(database, vault, "old", lifetime=HOUR)
    async with database.transaction() as tx:
        await tx.execute("UPDATE credential SET expires_at = now()")

    assert await read_lent_token(database, vault) is None
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT hold FROM subject") == Hold.CREDENTIALS


async def test_without_any_token_a_subject_is_held_and_not_tried_for_ever(
    database: Database, vault: Vault, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A job that is queued again at once would be claimed again at once."""
    await make_job()
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM credential")

    assert await read_lent_token(database, vault) is None
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT hold FROM subject") == Hold.CREDENTIALS


async def test_a_token_is_forgotten_when_nothing_of_its_subject_is_open(
    database: Database, vault: Vault, ada_id: str
) -> None:
    """What is not kept cannot be stolen; the next call brings it again."""
    async with database.transaction() as tx:
        await credentials.delete_idle_credentials(tx)
        assert await tx.fetchval("SELECT count(*) FROM credential") == 1
        await tx.execute("UPDATE credential SET seen_at = now() - interval '11 minutes'")
        await credentials.delete_idle_credentials(tx)
        assert await tx.fetchval("SELECT count(*) FROM credential") == 0


async def test_a_token_that_something_open_may_need_is_not_forgotten(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A queued job, a run that may exist, and a namespace that is watched each need it."""
    await make_job()
    async with database.transaction() as tx:
        await tx.execute("UPDATE credential SET seen_at = now() - interval '1 year'")
        await credentials.delete_idle_credentials(tx)
        assert await tx.fetchval("SELECT count(*) FROM credential") == 1
        await tx.execute("INSERT INTO poll_group VALUES ($1, 'ada', 0, now(), 0, now())", ADA_ID)
        await tx.execute(
            "UPDATE job SET state = 'cancelled', cancel_requested_at = now(), due_at = NULL,"
            " finished_at = now(), version = version + 1"
        )
        await credentials.delete_idle_credentials(tx)
        assert await tx.fetchval("SELECT count(*) FROM credential") == 1
        await tx.execute("UPDATE poll_group SET due_at = NULL")
        await credentials.delete_idle_credentials(tx)
        assert await tx.fetchval("SELECT count(*) FROM credential") == 0
        await tx.execute("INSERT INTO job_event SELECT id, 2, 'cancelled', state, 't' FROM job")
        await tx.execute("UPDATE subject SET queued = 0")


async def test_a_caller_who_stays_is_noted_now_and_then(
    database: Database, vault: Vault, ada_id: str
) -> None:
    """A token is not forgotten between two calls of somebody who is about to launch."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE credential SET seen_at = now() - interval '6 minutes'")

    await lend_token(database, vault, "hf_ada")

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT now() - seen_at < '1 minute' FROM credential")
