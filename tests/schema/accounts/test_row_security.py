"""Nobody sees another's rows, whatever a statement forgets to ask: Postgres sees to it (I5)."""

from urllib.parse import urlsplit

import asyncpg
import pytest
from anyio import to_thread

from schema.accounts.row_security import DatabaseRole, act_as_subject
from schema.common.errors import RoleRefused
from schema.db import revisions
from schema.db.database import Database, Transaction
from tests.support.database.row_security import create_login, tenant_transaction
from tests.support.subjects import ADA_ID, EVE_ID

# What the Hub asks for its hardware is nobody's, and the same to everybody.
SUBJECT_TABLES = """
SELECT relname FROM pg_class
 WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
   AND relname NOT IN ('alembic_version', 'deployment', 'price_list', 'vault_key',
                       'worker_heartbeat')
 ORDER BY relname
"""

REVOKE_WAIT = """
DO $$
DECLARE
    signature regprocedure;
BEGIN
    FOR signature IN SELECT oid FROM pg_proc WHERE proname = 'pg_logical_emit_message' LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', signature);
    END LOOP;
END $$
"""


async def list_tables(tx: Transaction) -> list[str]:
    return [row["relname"] for row in await tx.fetch(SUBJECT_TABLES)]


async def readable_column(tx: Transaction, table: str) -> str:
    """Name what of a table the tenant may read at all."""
    return "subject_id" if table in {"credential", "job_secret", "webhook_secret"} else "*"


async def test_there_is_something_to_see_in_every_table(
    database: Database, row_in_every_table: None
) -> None:
    """Or the tests below would find nothing because there is nothing."""
    async with database.transaction() as tx:
        counts = {
            table: await tx.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608
            for table in await list_tables(tx)
        }

    assert [table for table, count in counts.items() if count == 0] == []


async def test_a_subject_sees_their_rows_and_nobody_elses(
    database_url: str, row_in_every_table: None
) -> None:
    """A statement without any WHERE shows what is the caller's own, and no more."""
    async with tenant_transaction(database_url, ADA_ID) as tx:
        hers = [
            await tx.fetchval(f"SELECT count({await readable_column(tx, table)}) FROM {table}")  # noqa: S608
            for table in await list_tables(tx)
        ]
    async with tenant_transaction(database_url, EVE_ID) as tx:
        seen = {
            table: await tx.fetchval(
                f"SELECT count({await readable_column(tx, table)}) FROM {table}"  # noqa: S608
            )
            for table in await list_tables(tx)
        }

    assert all(hers)
    assert [table for table, count in seen.items() if count] == []


async def test_who_acts_for_nobody_sees_nothing(
    database_url: str, row_in_every_table: None
) -> None:
    """Forgetting to say for whom does not go around row-level security."""
    async with tenant_transaction(database_url, None) as tx:
        seen = {
            table: await tx.fetchval(
                f"SELECT count({await readable_column(tx, table)}) FROM {table}"  # noqa: S608
            )
            for table in await list_tables(tx)
        }

    assert [table for table, count in seen.items() if count] == []


async def test_a_subject_does_not_outlast_its_transaction(
    database_url: str, row_in_every_table: None
) -> None:
    """The next to use a pooled connection starts as nobody."""
    async with Database(
        database_url, application_name="tests", role=DatabaseRole.TENANT, max_connections=1
    ) as database:
        async with database.transaction() as tx:
            await act_as_subject(tx, ADA_ID)
            first = await tx.fetchrow("SELECT pg_backend_pid(), count(*) AS jobs FROM job")
        async with database.transaction() as tx:
            second = await tx.fetchrow("SELECT pg_backend_pid(), count(*) AS jobs FROM job")

    assert first is not None
    assert second is not None
    assert first["pg_backend_pid"] == second["pg_backend_pid"]
    assert (first["jobs"], second["jobs"]) == (2, 0)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE job SET version = version + 1",
        "UPDATE remote_run SET due_at = now()",
        "UPDATE subject SET name = 'eve'",
        "UPDATE credential SET version = version + 1",
        "UPDATE workspace SET name = name || '!'",
        "UPDATE poll_group SET due_at = now()",
        "DELETE FROM job_secret",
        "UPDATE webhook_target SET disabled_at = now()",
        "UPDATE webhook_secret SET expires_at = now()",
        "UPDATE webhook_delivery SET due_at = due_at",
        "UPDATE unseen_job SET page = gen_random_uuid()",
        "DELETE FROM unseen_job",
        "UPDATE job_cost SET held_micro_usd = 0",
        "UPDATE spending SET held_micro_usd = 0",
    ],
)
async def test_nothing_of_anybody_elses_is_changed(
    database_url: str, row_in_every_table: None, statement: str
) -> None:
    """A cancel that forgets whose job it is cancels nothing."""
    async with tenant_transaction(database_url, EVE_ID) as tx:
        done = await tx.execute(statement)

    assert done.split()[-1] == "0"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO workspace (id, subject_id, name) VALUES (gen_random_uuid(), $1, 'hers')",
        (
            "INSERT INTO job (id, subject_id, kind, namespace, title)"
            " VALUES (gen_random_uuid(), $1, 'hub_job', 'ada', 't')"
        ),
        "INSERT INTO idempotency_key SELECT $1, 'k', gen_random_uuid(), now()",
        "INSERT INTO credential (subject_id, sealed, token_sha) VALUES ($1, 'x', 'x')",
        "INSERT INTO job_secret (job_id, subject_id, sealed) VALUES (gen_random_uuid(), $1, 'x')",
        (
            "INSERT INTO webhook_target (id, subject_id, url_sha, host)"
            " VALUES (gen_random_uuid(), $1, 'x', 'example.com')"
        ),
        (
            "INSERT INTO webhook_secret (id, target_id, subject_id, sealed)"
            " VALUES (gen_random_uuid(), gen_random_uuid(), $1, 'x')"
        ),
        (
            "INSERT INTO webhook_delivery (job_id, subject_id, target_id)"
            " VALUES (gen_random_uuid(), $1, gen_random_uuid())"
        ),
        "INSERT INTO unseen_job (job_id, subject_id) VALUES (gen_random_uuid(), $1)",
        "INSERT INTO call_window (window_start, subject_id, calls) VALUES (now(), $1, 1)",
    ],
)
async def test_nothing_is_written_in_somebody_elses_name(
    database_url: str, row_in_every_table: None, statement: str
) -> None:
    """A row of somebody's could be made to speak for them."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with tenant_transaction(database_url, EVE_ID) as tx:
            await tx.execute(statement, ADA_ID)


async def test_a_job_is_not_put_into_somebody_elses_workspace(
    database: Database, row_in_every_table: None
) -> None:
    """A foreign key sees every row, so it has to ask whose the workspace is."""
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'eve')", EVE_ID)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        async with database.transaction() as tx:
            await tx.execute(
                "INSERT INTO job (id, subject_id, workspace_id, kind, namespace, title)"
                " SELECT gen_random_uuid(), $1, id, 'hub_job', 'eve', 't' FROM workspace LIMIT 1",
                EVE_ID,
            )


async def test_nobody_hears_of_the_end_of_somebody_elses_job(
    database: Database, database_url: str, row_in_every_table: None
) -> None:
    """A foreign key sees every row, so the policy asks whose the job is."""
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'eve')", EVE_ID)
        await tx.execute(
            "INSERT INTO webhook_target (id, subject_id, url_sha, host)"
            " VALUES (gen_random_uuid(), $1, 'x', 'eve.example.com')",
            EVE_ID,
        )
        job_id = await tx.fetchval(
            "SELECT id FROM job WHERE id NOT IN (SELECT job_id FROM webhook_delivery)"
        )
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with tenant_transaction(database_url, EVE_ID) as tx:
            await tx.execute(
                "INSERT INTO webhook_delivery (job_id, subject_id, target_id)"
                " SELECT $1, subject_id, id FROM webhook_target",
                job_id,
            )


@pytest.mark.parametrize("table", ["credential", "job_secret", "webhook_secret"])
async def test_the_service_cannot_read_what_is_sealed(
    database_url: str, row_in_every_table: None, table: str
) -> None:
    """It seals and throws away; only a worker opens."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=table):
        async with tenant_transaction(database_url, ADA_ID) as tx:
            await tx.fetch(f"SELECT sealed FROM {table}")  # noqa: S608


async def test_analysts_see_every_subject_but_no_secret_and_no_request(
    database_url: str, row_in_every_table: None
) -> None:
    """Whoever answers for cost reads what ran; what is in a request is not for them."""
    async with Database(
        database_url, application_name="tests", role=DatabaseRole.ANALYST
    ) as database:
        async with database.transaction() as tx:
            assert await tx.fetchval("SELECT count(*) FROM job") == 2
        hidden = ("credential", "job_secret", "job_payload", "log_chunk", "idempotency_key")
        for table in (
            *hidden,
            "webhook_target",
            "webhook_secret",
            "webhook_delivery",
            "unseen_job",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with database.transaction() as tx:
                    await tx.fetch(f"SELECT * FROM {table}")  # noqa: S608
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.transaction() as tx:
                await tx.execute("UPDATE job SET title = 'x'")


async def test_analysts_read_no_progress_of_a_job(database: Database) -> None:
    """It repeats what a call has yielded, and results are not for them either."""
    async with database.transaction() as tx:
        hidden = await tx.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'job'::regclass AND attnum > 0"
            " AND NOT attisdropped"
            " AND NOT has_column_privilege('holdfast_analyst', attrelid, attname, 'SELECT')"
        )

    assert [row["attname"] for row in hidden] == ["progress"]


async def test_workers_see_the_rows_of_every_table(
    database_url: str, row_in_every_table: None
) -> None:
    """What a worker does not see is never carried out."""
    async with (
        Database(database_url, application_name="tests", role=DatabaseRole.WORKER) as database,
        database.transaction() as tx,
    ):
        counts = {
            table: await tx.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608
            for table in await list_tables(tx)
        }

    assert [table for table, count in counts.items() if count == 0] == []


async def test_every_table_forces_row_security(database: Database) -> None:
    """A table that is added without one would be the leak."""
    async with database.transaction() as tx:
        open_tables = await tx.fetch(
            "SELECT relname FROM pg_class WHERE relname = ANY($1)"
            " AND NOT (relrowsecurity AND relforcerowsecurity)",
            await list_tables(tx),
        )

    assert [row["relname"] for row in open_tables] == []


async def test_a_plain_owner_migrates_and_is_under_row_security_as_well(
    postgres_url: str, database_url: str
) -> None:
    """Managed Postgres gives no superuser: an owner who was granted the roles has to do."""
    async with create_login(postgres_url) as url:
        name = urlsplit(url).username
        admin: asyncpg.Connection = await asyncpg.connect(postgres_url)
        for role in DatabaseRole:
            await admin.execute(f"GRANT {role} TO {name} WITH INHERIT FALSE, SET TRUE")
        await admin.close()
        await to_thread.run_sync(revisions.upgrade_to_revision, url)
        async with (
            Database(url, application_name="tests", role=DatabaseRole.WORKER) as database,
            database.transaction() as tx,
        ):
            await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'ada')", ADA_ID)
        seen: list[int] = []
        for taken_on in (None, DatabaseRole.TENANT, DatabaseRole.WORKER):
            async with (
                Database(url, application_name="tests", role=taken_on) as database,
                database.transaction() as tx,
            ):
                seen.append(await tx.fetchval("SELECT count(*) FROM subject"))
        async with tenant_transaction(url, ADA_ID) as tx:
            seen.append(await tx.fetchval("SELECT count(*) FROM subject"))

    assert seen == [0, 0, 1, 1]


async def test_a_login_that_may_not_take_on_its_role_says_so(postgres_url: str) -> None:
    """It is the operator's to mend, and until then nothing is done."""
    async with create_login(postgres_url) as url:
        with pytest.raises(RoleRefused, match=DatabaseRole.TENANT):
            async with tenant_transaction(url, None):
                pass


@pytest.mark.parametrize("role", [DatabaseRole.TENANT, DatabaseRole.WORKER])
async def test_a_role_that_may_not_wait_for_the_disk_says_what_to_grant(
    database_url: str, role: DatabaseRole
) -> None:
    """Or calls would fail now and then, when what they saw is not on the disk yet (ADR 24)."""
    admin: asyncpg.Connection = await asyncpg.connect(database_url)
    try:
        await admin.execute(REVOKE_WAIT)
    finally:
        await admin.close()

    async with Database(database_url, application_name="tests", role=role) as database:
        with pytest.raises(RoleRefused, match=r"pg_logical_emit_message.* grant EXECUTE"):
            async with database.transaction() as tx:
                await tx.execute("SELECT 1")
