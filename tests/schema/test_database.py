"""The promises of a transaction, also when the server goes away."""

import pytest

from schema.database import Database
from schema.errors import Unavailable
from service.local.ports import free_port


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
    url = f"postgresql://u:p@127.0.0.1:{free_port()}/d"
    async with Database(url, application="tests") as nowhere:
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
