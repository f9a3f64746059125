"""Who did what to which handle, from which client: written with it, and never changed."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from schema.accounts import audit, credentials
from schema.accounts.audit import AuditAction
from schema.accounts.row_security import DatabaseRole
from schema.accounts.vault import Secret, Vault
from schema.common import ids
from schema.common.ids import HandleKind
from schema.db.database import Database, Transaction
from schema.jobs import lifecycle
from schema.workspaces import store as workspace_store
from tests.support.database.row_security import tenant_transaction
from tests.support.factories import JobFactory
from tests.support.jobs.retention import prune_older_than
from tests.support.subjects import ADA_ID, EVE_ID

CLIENT_NAME = "claude-ai 1.2"


async def read_audit_entries(database: Database) -> list[tuple[Any, ...]]:
    async with database.transaction() as tx:
        rows = await tx.fetch(
            "SELECT action, client, handle, facts FROM audit_entry WHERE subject_id = $1"
            " ORDER BY id",
            ADA_ID,
        )
    return [tuple(row.values()) for row in rows]


async def lend_token(tx: Transaction, vault: Vault, token: str) -> None:
    await credentials.save_credential(
        tx,
        vault,
        subject_id=ADA_ID,
        name="ada",
        token=Secret(token),
        expires_at=None,
        client=CLIENT_NAME,
    )


async def test_a_launch_and_a_cancel_name_the_client_they_came_from(
    database: Database, ada_id: str, make_job: JobFactory
) -> None:
    """A subject has several assistants, and wants to know which one stopped the training."""
    job = await make_job(client=CLIENT_NAME)
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job.id, subject_id=ada_id, client="cursor 3")
        events = await tx.fetch("SELECT kind, facts FROM job_event ORDER BY version")

    assert [tuple(event.values()) for event in events] == [
        ("created", {"client": CLIENT_NAME}),
        ("cancelled", {"client": "cursor 3"}),
    ]


async def test_a_client_that_names_itself_nowhere_leaves_nothing(
    database: Database, make_job: JobFactory
) -> None:
    """A null would read as a client of that name."""
    await make_job()

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT facts FROM job_event") == {}


async def test_a_workspace_is_noted_once_with_its_handle(database: Database, ada_id: str) -> None:
    """Asking for the same name again makes nothing, so nothing is noted."""
    workspace_id = ids.new_id()
    async with database.transaction() as tx:
        await workspace_store.create_workspace(
            tx, ada_id, workspace_id, "llama", client=CLIENT_NAME
        )
        await workspace_store.create_workspace(
            tx, ada_id, ids.new_id(), "llama", client=CLIENT_NAME
        )

    handle = ids.format_handle(HandleKind.WORKSPACE, workspace_id)
    assert (await read_audit_entries(database))[1:] == [("workspace_made", CLIENT_NAME, handle, {})]


async def test_each_version_of_a_token_is_noted_when_it_is_lent_and_when_it_is_refused(
    database: Database, vault: Vault
) -> None:
    """Whoever asks since when a token was dead finds it; the token itself is nowhere."""
    async with database.transaction() as tx:
        await lend_token(tx, vault, "hf_one")
        await lend_token(tx, vault, "hf_one")
        await credentials.mark_credential_refused(tx, ADA_ID, version=1)
        await credentials.mark_credential_refused(tx, ADA_ID, version=1)
        await lend_token(tx, vault, "hf_two")

    assert await read_audit_entries(database) == [
        ("credential_lent", CLIENT_NAME, None, {"version": 1}),
        ("credential_refused", None, None, {"version": 1}),
        ("credential_lent", CLIENT_NAME, None, {"version": 2}),
    ]


async def test_what_is_taken_back_is_not_noted(database: Database, vault: Vault) -> None:
    """An entry about what never was would be a lie."""
    with suppress(ZeroDivisionError):
        async with database.transaction() as tx:
            await lend_token(tx, vault, "hf_one")
            raise ZeroDivisionError

    assert await read_audit_entries(database) == []


@pytest.mark.parametrize("table", ["audit_entry", "job_event"])
async def test_what_was_written_down_is_never_changed(
    database: Database, make_job: JobFactory, table: str
) -> None:
    """Not even by whoever owns the database, unless they take the guard out first."""
    await make_job()

    with pytest.raises(asyncpg.RaiseError, match="never changed"):
        async with database.transaction() as tx:
            await tx.execute(f"UPDATE {table} SET facts = '{{}}'")  # noqa: S608  # our names


@pytest.mark.parametrize("role", [DatabaseRole.TENANT, DatabaseRole.ANALYST])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET facts = '{{}}'"])
@pytest.mark.parametrize("table", ["audit_entry", "job_event"])
async def test_nobody_but_retention_takes_anything_away(
    database_url: str, ada_id: str, role: DatabaseRole, statement: str, table: str
) -> None:
    """A service that is taken over cannot cover its tracks."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with (
            Database(database_url, application_name="tests", role=role) as database,
            database.transaction() as tx,
        ):
            await tx.execute(statement.format(table))


@pytest.mark.parametrize("statement", ["DELETE FROM job_event", "UPDATE job_event SET actor = 'x'"])
async def test_a_worker_takes_no_event_out_of_a_history(
    database_url: str, make_job: JobFactory, statement: str
) -> None:
    """A history is forgotten with its job, and only whole."""
    await make_job()

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with (
            Database(database_url, application_name="tests", role=DatabaseRole.WORKER) as workers,
            workers.transaction() as tx,
        ):
            await tx.execute(statement)


async def test_entries_and_histories_are_forgotten_by_the_workers_when_jobs_are(
    database: Database, database_url: str, ada_id: str, make_job: JobFactory
) -> None:
    """Each when its own time is over."""
    job = await make_job()
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)

    async with Database(
        database_url, application_name="tests", role=DatabaseRole.WORKER
    ) as workers:
        left: list[tuple[int, int]] = []
        for age in (timedelta(days=1), timedelta(0)):
            async with workers.transaction() as tx:
                await prune_older_than(tx, age)
                left.append(
                    (
                        await tx.fetchval("SELECT count(*) FROM audit_entry"),
                        await tx.fetchval("SELECT count(*) FROM job_event"),
                    )
                )

    assert left == [(1, 2), (0, 0)]


async def test_old_entries_are_forgotten_until_none_is_left(database: Database) -> None:
    """Tokens are renewed every hour: there are more entries than one bite takes."""
    async with database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO audit_entry (at, subject_id, action)
            SELECT now() - interval '2 days', 's', 'credential_lent' FROM generate_series(1, 501)
            """
        )
        assert await prune_older_than(tx, timedelta(days=1))
        assert not await prune_older_than(tx, timedelta(days=1))
        assert await tx.fetchval("SELECT count(*) FROM audit_entry") == 0


async def test_nobody_notes_anything_in_somebody_elses_name(database_url: str, ada_id: str) -> None:
    """An entry is evidence; one that Eve could write for Ada is none."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with tenant_transaction(database_url, EVE_ID) as tx:
            await audit.write_audit_entry(tx, AuditAction.WORKSPACE_MADE, subject_id=ADA_ID)
