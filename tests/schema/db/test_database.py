"""The promises of a transaction, also when the server goes away."""

import pytest

from schema.common.errors import InDoubt, Unavailable
from schema.db.database import Database
from service.local.ports import find_free_port
from tests.support.factories import FailFirstCommit


async def fail_after_writing(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ('x', 'x')")
        raise ZeroDivisionError


async def test_an_error_leaves_nothing_written(database: Database) -> None:
    """Half of a move would be worse than none."""
    with pytest.raises(ZeroDivisionError):
        await fail_after_writing(database)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM subject") == 0


async def test_a_server_that_is_not_there_is_said_to_be_unavailable() -> None:
    """The caller is told to come back, not shown a traceback."""
    url = f"postgresql://u:p@127.0.0.1:{find_free_port()}/d"
    async with Database(url, application_name="tests") as nowhere:
        with pytest.raises(Unavailable):
            async with nowhere.transaction() as tx:
                await tx.execute("SELECT 1")


async def terminate_ourselves(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("SELECT pg_terminate_backend(pg_backend_pid())")


async def test_a_connection_that_is_lost_costs_one_transaction(database: Database) -> None:
    """A failover must not need a restart of ours."""
    with pytest.raises(Unavailable):
        await terminate_ourselves(database)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT 1") == 1


@pytest.mark.parametrize(
    "trouble",
    [
        "SELECT set_config('statement_timeout', '1', true), pg_sleep(5)",
        "SET TRANSACTION READ ONLY; INSERT INTO subject (id, name) VALUES ('x', 'x')",
        "DO $$ BEGIN RAISE SQLSTATE '57P03' USING MESSAGE = 'is starting up'; END $$",
        "DO $$ BEGIN RAISE SQLSTATE '55P03' USING MESSAGE = 'lock timeout'; END $$",
        "DO $$ BEGIN RAISE SQLSTATE '53300' USING MESSAGE = 'too many clients'; END $$",
        "DO $$ BEGIN RAISE SQLSTATE '58030' USING MESSAGE = 'input/output error'; END $$",
    ],
)
async def test_a_server_in_trouble_is_said_to_be_unavailable_and_nothing_was_done(
    database: Database, trouble: str
) -> None:
    """The caller may repeat the call: it was not carried out."""

    async def run() -> None:
        async with database.transaction() as tx:
            await tx.execute("SET LOCAL statement_timeout = '50ms'")
            await tx.execute(trouble)

    with pytest.raises(Unavailable, match="nothing was done") as raised:
        await run()

    assert not isinstance(raised.value, InDoubt)


async def test_a_pool_without_a_free_connection_is_unavailable(database_url: str) -> None:
    """Too many callers are turned away in time, not kept waiting for ever."""
    async with Database(database_url, application_name="tests", max_connections=1) as narrow:

        async def ask_for_another() -> None:
            async with narrow.transaction():
                pass

        async with narrow.transaction():
            with pytest.raises(Unavailable):
                await ask_for_another()


async def test_a_server_that_goes_away_in_the_commit_leaves_it_in_doubt(
    database: Database, fail_first_commit: FailFirstCommit
) -> None:
    """Nobody can say that nothing was done, and so nobody does."""

    await fail_first_commit("workspace")

    async def write() -> None:
        async with database.transaction() as tx:
            await tx.execute("INSERT INTO subject (id, name) VALUES ('x', 'x')")
            await tx.execute(
                "INSERT INTO workspace (id, subject_id, name) VALUES (gen_random_uuid(), 'x', 'x')"
            )

    with pytest.raises(InDoubt, match="is not known"):
        await write()
