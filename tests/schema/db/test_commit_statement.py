"""The promises of a statement that commits itself: `Database.commit_statement`."""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from urllib.parse import urlsplit

import asyncpg
import pytest

from schema.accounts import credentials
from schema.accounts.row_security import DatabaseRole, act_as_subject
from schema.accounts.vault import Secret, Vault
from schema.common.errors import InDoubt, Unavailable
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.lifecycle import Submission, SubmittedJob
from schema.jobs.tables import JobKind
from tests.support.factories import FailFirstCommit
from tests.support.polling import SHORT_INTERVAL, eventually
from tests.support.relay import relay_to
from tests.support.subjects import ADA_ID, EVE_ID

INSERT_SUBJECT = "INSERT INTO subject (id, name) VALUES ('x', 'x') RETURNING id"
SUBMISSION: Submission = {
    "subject_id": ADA_ID,
    "kind": JobKind.HUB_JOB,
    "namespace": "ada",
    "title": "a job",
    "spec": {"command": ["true"]},
    "labels": {},
    "max_open_jobs": 10,
}


@pytest.fixture
async def tenants(database_url: str, ada_id: str) -> AsyncGenerator[Database]:
    """The database as the service sees it, with one connection."""
    async with Database(
        database_url, application_name="tests", role=DatabaseRole.TENANT, max_connections=1
    ) as opened:
        yield opened


async def count_subjects(database: Database) -> int:
    async with database.transaction() as tx:
        count: int = await tx.fetchval("SELECT count(*) FROM subject")
    return count


async def test_a_statement_is_committed_and_answered(database: Database) -> None:
    """It is a transaction of its own."""
    commits: list[str] = []

    row = await database.commit_statement(INSERT_SUBJECT, on_commit=partial(commits.append, "x"))

    assert row is not None
    assert dict(row) == {"id": "x"}
    assert commits == ["x"]
    assert await count_subjects(database) == 1


async def test_a_statement_that_undoes_itself_leaves_nothing(database: Database) -> None:
    """What it has written is over a limit, and nobody but the statement knows."""
    undone = (
        "WITH made AS (INSERT INTO subject (id, name) VALUES ('x', 'x') RETURNING id) "
        "SELECT id FROM made WHERE undo_statement()"
    )

    commits: list[str] = []

    assert await database.commit_statement(undone, on_commit=partial(commits.append, "x")) is None
    assert await count_subjects(database) == 0
    assert commits == []


@pytest.mark.parametrize("sqlstate", ["57P03", "55P03", "40P01", "53300", "58030"])
async def test_an_error_of_the_server_says_that_nothing_was_done(
    database: Database, sqlstate: str
) -> None:
    """It rolls back before it says so, and the caller may repeat the call."""
    async with database.transaction() as tx:
        await tx.execute(
            "CREATE FUNCTION fail() RETURNS text LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE SQLSTATE '{sqlstate}' USING MESSAGE = 'in trouble'; END $$"
        )

    with pytest.raises(Unavailable, match="nothing was done") as raised:
        await database.commit_statement(
            "INSERT INTO subject (id, name) VALUES ('x', fail()) RETURNING id"
        )

    assert not isinstance(raised.value, InDoubt)
    assert await count_subjects(database) == 0


async def test_a_server_that_goes_away_leaves_it_in_doubt(
    database: Database, fail_first_commit: FailFirstCommit
) -> None:
    """It may have been committed: nobody says that nothing was done."""
    await fail_first_commit("subject")

    with pytest.raises(InDoubt, match="is not known"):
        await database.commit_statement(INSERT_SUBJECT)


async def test_a_wait_for_the_disk_that_fails_leaves_it_in_doubt(
    database_url: str, database: Database
) -> None:
    """It is committed by then, and a crash may still take it back. A listener hears of it first."""
    commits: list[str] = []
    async with database.transaction() as tx:
        await tx.execute(
            "CREATE SCHEMA ours; CREATE FUNCTION ours.pg_current_wal_insert_lsn() "
            "RETURNS pg_lsn LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE SQLSTATE '57014' USING MESSAGE = 'timed out'; END $$"
        )

    async with Database(database_url, application_name="tests", max_connections=1) as other:
        with pytest.raises(InDoubt):
            await other.commit_statement(
                "INSERT INTO subject (id, name) "
                "SELECT 'x', set_config('search_path', 'ours, pg_catalog, public', false) "
                "RETURNING id",
                on_commit=partial(commits.append, "x"),
            )

    assert await count_subjects(database) == 1
    assert commits == ["x"]


async def test_its_locks_wait_for_no_answer(database_url: str, database: Database) -> None:
    """All submissions of a person take turns at a row: none may wait for the process of another."""
    answers = asyncio.Event()
    answers.set()
    address = urlsplit(database_url)
    async with relay_to(address.port or 0, host="127.0.0.1", answers=answers) as port:
        slow_url = address._replace(netloc=f"postgres:{address.password or ''}@127.0.0.1:{port}")
        async with Database(slow_url.geturl(), application_name="tests", max_connections=1) as slow:
            await slow.commit_statement(INSERT_SUBJECT)
            update = "UPDATE subject SET name = name || 'x' WHERE id = 'x'"
            await slow.commit_statement(update)  # prepares it

            answers.clear()
            held_back = asyncio.create_task(slow.commit_statement(update))

            async def read_name() -> str:
                async with database.transaction() as tx:
                    name: str = await tx.fetchval("SELECT name FROM subject WHERE id = 'x'")
                return name

            await eventually(read_name, lambda name: name == "xxx", interval=SHORT_INTERVAL)
            async with database.transaction() as tx:
                await tx.execute("SELECT FROM subject WHERE id = 'x' FOR UPDATE NOWAIT")
            assert not held_back.done()
            answers.set()
            await held_back


async def test_a_submission_acts_for_its_subject_and_afterwards_for_nobody(
    tenants: Database,
) -> None:
    """The next caller has the same connection."""
    job = await lifecycle.commit_job(tenants, ADA_ID, **SUBMISSION)

    async with tenants.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 0
        await act_as_subject(tx, ADA_ID)
        rows = await tx.fetch("SELECT id FROM job")
    assert job is not None
    assert [row["id"] for row in rows] == [job.id]


@pytest.mark.parametrize("plan", ["force_generic_plan", "force_custom_plan"])
@pytest.mark.parametrize("acting_subject_id", [EVE_ID, ""])
async def test_nobody_submits_for_another(
    tenants: Database, database: Database, vault: Vault, acting_subject_id: str, plan: str
) -> None:
    """Row-level security compares the subject of the job with the one that the call acts for."""
    async with database.transaction() as tx:
        await credentials.save_credential(
            tx, vault, subject_id=EVE_ID, name="eve", token=Secret("hf_eve"), expires_at=None
        )
    await tenants.commit_statement("SELECT set_config('plan_cache_mode', $1, false)", plan)

    for key in (None, "k"):
        submission: Submission = {**SUBMISSION, "idempotency_key": key}
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await lifecycle.commit_job(tenants, acting_subject_id, **submission)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 0
        assert await tx.fetchval("SELECT count(*) FROM idempotency_key") == 0
        assert await tx.fetchval("SELECT sum(queued) FROM subject") == 0
    assert await lifecycle.commit_job(tenants, ADA_ID, **SUBMISSION)


async def test_a_subject_whose_token_is_of_no_use_is_not_served_in_one_statement(
    tenants: Database, database: Database
) -> None:
    """The token of the call is stored first, or their job would wait for one."""
    async with database.transaction() as tx:
        await tx.execute(
            "UPDATE subject SET hold = 'credentials', held_at = now() WHERE id = $1", ADA_ID
        )

    assert await lifecycle.commit_job(tenants, ADA_ID, **SUBMISSION) is None
    of_a_stranger: Submission = {**SUBMISSION, "subject_id": EVE_ID}
    assert await lifecycle.commit_job(tenants, EVE_ID, **of_a_stranger) is None


async def test_of_many_submissions_at_once_only_those_in_the_limit_are_made(
    database: Database, ada_id: str
) -> None:
    """Each refused one undoes itself, whatever the others do meanwhile; its key too."""

    async def submit(number: int) -> SubmittedJob | None:
        submission: Submission = {**SUBMISSION, "idempotency_key": f"k{number}"}
        return await lifecycle.commit_job(database, ada_id, **submission)

    jobs = await asyncio.gather(*(submit(number) for number in range(60)))

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 10
        assert await tx.fetchval("SELECT count(*) FROM idempotency_key") == 10
        assert await tx.fetchval("SELECT queued FROM subject WHERE id = $1", ada_id) == 10
    assert len([job for job in jobs if job is not None]) == 10
