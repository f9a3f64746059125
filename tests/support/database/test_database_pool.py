"""A test never meets what an earlier one has left in a database."""

from collections.abc import Generator

import asyncpg
import pytest

from tests.support.database.database_pool import DatabasePool


async def change(pool: DatabasePool, *statements: str) -> str:
    """Change a database of the pool as a test may do, and return its URL."""
    async with pool.lend() as url:
        connection: asyncpg.Connection = await asyncpg.connect(url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()
    return url


@pytest.fixture
def pool(postgres_url: str) -> Generator[DatabasePool]:
    """A pool that has lent nothing yet."""
    with DatabasePool(postgres_url) as new:
        yield new


async def test_rows_and_numbers_of_an_earlier_test_are_gone(pool: DatabasePool) -> None:
    """Also those that nobody may delete."""
    first = await change(
        pool,
        "INSERT INTO subject (id, name) VALUES ('ada', 'ada')",
        "INSERT INTO audit_entry (action, subject_id) VALUES ('subject_held', 'ada')",
    )

    async with pool.lend() as url:
        connection: asyncpg.Connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT count(*) FROM subject") == 0
        assert await connection.fetchval("SELECT count(*) FROM audit_entry") == 0
        assert await connection.fetchval("SELECT nextval('audit_entry_id_seq')") == 1
        await connection.close()
    assert url == first


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE job ADD COLUMN other int",
        "CREATE TABLE other (id int)",
        "ALTER TABLE job DISABLE TRIGGER USER",
        "DROP VIEW v_unowned CASCADE; CREATE VIEW v_unowned AS SELECT 1 WHERE false",
        "GRANT DELETE ON job TO holdfast_tenant",
        "INSERT INTO subject (id, name) VALUES ('ada', 'ada'); ANALYZE subject",
        "UPDATE deployment SET id = gen_random_uuid()",
        """DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''1MB''',
                                     current_database()); END $$""",
        "INSERT INTO subject (id, name) SELECT 'u' || n, 'u' FROM generate_series(1, 3000) AS n",
    ],
)
async def test_a_database_that_is_not_as_new_is_not_lent_again(
    pool: DatabasePool, statement: str
) -> None:
    """Whatever a test does to it, beyond its rows."""
    changed = await change(pool, statement)

    async with pool.lend() as url:
        assert url != changed


async def test_a_test_may_end_every_session(pool: DatabasePool) -> None:
    """Also the one that cleans the database: as a restart of the server does."""
    first = await change(
        pool,
        "INSERT INTO subject (id, name) VALUES ('ada', 'ada')",
        """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()""",
    )

    async with pool.lend() as url:
        connection: asyncpg.Connection = await asyncpg.connect(url)
        assert await connection.fetchval("SELECT count(*) FROM subject") == 0
        await connection.close()
    assert url == first
