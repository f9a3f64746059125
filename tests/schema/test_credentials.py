"""The promises about lent tokens: kept sealed, held when refused, released by the next call."""

import os
from base64 import b64encode
from datetime import timedelta

from schema import credentials, launches, queries
from schema.database import Database
from schema.queries import JobStatus
from schema.subject import Hold
from schema.vault import Secret, Vault
from tests.conftest import ADA, JobFactory
from tests.schema.conftest import ClaimFactory


async def remember(database: Database, vault: Vault, token: str) -> None:
    async with database.transaction() as tx:
        await credentials.remember(
            tx, vault, subject_id=ADA, name="ada", token=Secret(token), expires_at=None
        )


async def status_of(database: Database, claim: launches.Claim) -> JobStatus:
    async with database.transaction() as tx:
        status = await queries.status(tx, ADA, claim.job_id)
    assert status is not None
    return status


async def test_a_token_is_lent_as_it_was_given_and_stored_as_it_was_not(
    database: Database, vault: Vault, ada: str
) -> None:
    """Whoever reads the table, or a dump of it, learns no token."""
    async with database.transaction() as tx:
        lent = await credentials.lend(tx, vault, ada)
        row = await tx.fetchrow("SELECT * FROM credential")

    assert lent is not None
    assert lent.token.reveal() == "hf_ada"
    assert row is not None
    assert all(b"hf_ada" not in str(value).encode() for value in row.values())


async def test_the_same_token_again_writes_nothing(
    database: Database, vault: Vault, ada: str
) -> None:
    """Every call proves the token; only a new one is news."""
    async with database.transaction() as tx:
        before = await tx.fetchval("SELECT xmin::text FROM credential")

    await remember(database, vault, "hf_ada")

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT xmin::text FROM credential") == before


async def test_a_refused_token_holds_the_subject_until_a_new_one_comes(
    database: Database, vault: Vault, make_job: JobFactory, claim: ClaimFactory
) -> None:
    """The jobs keep their place; nothing is launched with a token that is known to be dead."""
    await make_job()
    (one,) = await claim()
    async with database.transaction() as tx:
        await credentials.refused(tx, ADA, version=1)
        await launches.reject(tx, one.run_id, reason=None, message="401", worker="w1")
        assert await credentials.lend(tx, vault, ADA) is None
    assert (await status_of(database, one)).hold is Hold.CREDENTIALS
    assert await claim() == []

    await remember(database, vault, "hf_new")

    (again,) = await claim()
    assert again.job_id == one.job_id
    assert (await status_of(database, one)).hold is None


async def test_the_refused_token_itself_is_taken_again_once_it_is_proved(
    database: Database, vault: Vault, ada: str
) -> None:
    """A 401 that was the Hub's mistake must not lock a subject out for good."""
    async with database.transaction() as tx:
        await credentials.refused(tx, ada, version=1)

    await remember(database, vault, "hf_ada")

    async with database.transaction() as tx:
        assert await credentials.lend(tx, vault, ada) is not None


async def test_a_late_refusal_of_a_replaced_token_changes_nothing(
    database: Database, vault: Vault, ada: str
) -> None:
    """The call that failed may have carried the token before this one."""
    await remember(database, vault, "hf_new")

    async with database.transaction() as tx:
        await credentials.refused(tx, ada, version=1)
        lent = await credentials.lend(tx, vault, ada)

    assert lent is not None
    assert lent.token.reveal() == "hf_new"


async def test_an_operators_hold_is_not_the_subjects_to_lift(
    database: Database, vault: Vault, ada: str
) -> None:
    """Neither a refused token replaces it, nor a new one ends it."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE subject SET hold = 'operator', held_at = now()")
        await credentials.refused(tx, ada, version=1)
        refused = await tx.fetchval("SELECT hold FROM subject")

    await remember(database, vault, "hf_new")

    async with database.transaction() as tx:
        assert refused == await tx.fetchval("SELECT hold FROM subject") == "operator"


async def test_a_token_whose_key_left_the_ring_is_asked_for_again(
    database: Database, ada: str
) -> None:
    """Losing a key costs each subject one more call, not their jobs."""
    other = Vault.of(f"1:{b64encode(os.urandom(32)).decode()}")

    async with database.transaction() as tx:
        assert await credentials.lend(tx, other, ada) is None
        assert await tx.fetchval("SELECT hold FROM subject") == "credentials"

    await remember(database, other, "hf_ada")
    async with database.transaction() as tx:
        assert await credentials.lend(tx, other, ada) is not None


async def test_release_makes_what_waits_for_a_token_due_at_once(
    database: Database, vault: Vault, make_job: JobFactory, claim: ClaimFactory
) -> None:
    """Kills and open questions were put off while there was no token to settle them with."""
    await make_job()
    (one,) = await claim()
    async with database.transaction() as tx:
        await launches.doubt(
            tx, one.run_id, why="timeout", worker="w1", look_after=timedelta(hours=1)
        )
        await credentials.refused(tx, ADA, version=1)

    await remember(database, vault, "hf_new")

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT due_at <= now() FROM remote_run")
