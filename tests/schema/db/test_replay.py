"""A transaction goes on when a migration alters a table beneath it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from schema.common.errors import Unavailable
from schema.db.database import Database, Transaction
from schema.jobs import lifecycle

STATEMENT: Final = "SELECT * FROM workspace"


async def add_column(database_url: str) -> None:
    """Migrate as a later release does."""
    async with (
        Database(database_url, application_name="tests") as migration,
        migration.transaction() as tx,
    ):
        await tx.execute("ALTER TABLE workspace ADD COLUMN of_next_release integer")


@asynccontextmanager
async def open_with_prepared_statement(
    database_url: str, **options: Any
) -> AsyncGenerator[Database]:
    """Open a database whose only connection has a statement that a migration then breaks."""
    async with Database(
        database_url, application_name="tests", max_connections=1, **options
    ) as database:
        async with database.transaction() as tx:
            assert await tx.fetch(STATEMENT) == []
        await add_column(database_url)
        yield database


async def insert_subject(tx: Transaction, name: str) -> None:
    """Write a row, with a constant answer."""
    await tx.fetchrow("INSERT INTO subject (id, name) VALUES ($1, $1) RETURNING id", name)


async def write_after_reading_the_clock(database: Database) -> None:
    """Let the last statement fail, after one that answers otherwise each time."""
    async with database.transaction() as tx:
        await insert_subject(tx, "ada")
        await tx.fetchval("SELECT clock_timestamp()")
        await tx.fetch(STATEMENT)


async def test_a_statement_whose_table_was_altered_is_asked_again(database_url: str) -> None:
    """What the transaction had done before is done again, and once."""
    async with open_with_prepared_statement(database_url) as old_release:
        async with old_release.transaction() as tx:
            await insert_subject(tx, "ada")
            await tx.execute("SET LOCAL holdfast.mark = 'kept'")
            assert await tx.fetch(STATEMENT) == []
            assert await tx.fetchval("SELECT current_setting('holdfast.mark')") == "kept"
            await insert_subject(tx, "bob")
        async with old_release.transaction() as tx:
            names = await tx.fetch("SELECT name FROM subject ORDER BY name")

    assert [row["name"] for row in names] == ["ada", "bob"]


async def test_a_change_is_reported_once_although_its_statement_ran_twice(
    database_url: str, make_job: Callable[..., Any]
) -> None:
    """Whoever counts transitions or waits for a change hears what was committed."""
    job = await make_job()
    heard: list[Any] = []

    async with (
        open_with_prepared_statement(database_url, on_transitions=heard.extend) as old_release,
        old_release.transaction() as tx,
    ):
        assert await lifecycle.cancel_job(tx, job.id, subject_id=job.subject_id)
        await tx.fetch(STATEMENT)

    assert len(heard) == 1


async def test_nothing_is_repeated_where_an_earlier_answer_was_another_one(
    database_url: str,
) -> None:
    """The caller has acted on what it read: a call that fails is better than a wrong one."""
    async with open_with_prepared_statement(database_url) as old_release:
        with pytest.raises(Unavailable, match="nothing was done"):
            await write_after_reading_the_clock(old_release)
        async with old_release.transaction() as tx:
            assert await tx.fetchval("SELECT count(*) FROM subject") == 0
