"""What was answered is on disk, though the locks of a commit are released before it is."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from itertools import count
from pathlib import Path

import asyncpg
import psutil
import pytest

from schema.common.errors import NotFound, Unavailable
from schema.db.database import COMMIT_WITHOUT_DISK_SQL, Database
from service.local.servers.postgres import Postgres

WRITERS, READERS = 8, 2
CRASHES = 3
WRITE_AT_ONCE = f"""
WITH here AS MATERIALIZED (SELECT {COMMIT_WITHOUT_DISK_SQL}),
     entered AS (INSERT INTO entry SELECT $1::int FROM here)
UPDATE total SET entries = entries + 1
"""  # noqa: S608  # our own words


@pytest.fixture
def postgres(tmp_path: Path) -> Generator[Postgres]:
    """Run a server that outlives a power cut: that of the other tests does not."""
    server = Postgres(tmp_path / "postgres", durable=True)
    try:
        yield server
    finally:
        server.stop()


def kill_server(database: Path) -> None:
    """Kill every process of a server at once, with what they have not handed to the disk."""
    postmaster = psutil.Process(int(next(database.rglob("postmaster.pid")).read_text().split()[0]))
    for process in [postmaster, *postmaster.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)


async def create_tables(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("CREATE TABLE IF NOT EXISTS entry (id int PRIMARY KEY)")
        await tx.execute("CREATE TABLE IF NOT EXISTS total (entries int)")
        await tx.execute("INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT FROM total)")


async def test_a_crash_of_the_server_takes_nothing_that_anybody_was_shown(
    postgres: Postgres,
) -> None:
    """Neither what a writer was answered, nor what a reader has seen."""
    numbers, shown = count(), set[int]()

    async def write(database: Database) -> None:
        with suppress(Unavailable):
            while True:
                number = next(numbers)
                async with database.transaction() as tx:
                    await tx.execute("INSERT INTO entry VALUES ($1)", number)
                    await tx.execute("UPDATE total SET entries = entries + 1")  # all lock this row
                shown.add(number)

    async def write_at_once(database: Database) -> None:
        with suppress(Unavailable):
            while True:
                number = next(numbers)
                await database.commit_statement(WRITE_AT_ONCE, number)
                shown.add(number)

    async def read(database: Database) -> None:
        with suppress(Unavailable):
            while True:
                async with database.transaction() as tx:
                    rows = await tx.fetch("SELECT id FROM entry ORDER BY id DESC LIMIT 20")
                shown.update(row["id"] for row in rows)

    for _ in range(CRASHES):
        url = await asyncio.to_thread(postgres.start)
        async with Database(url, application_name="tests") as database:
            await create_tables(database)
            before = len(shown)
            calls = [
                *(asyncio.create_task(write(database)) for _ in range(WRITERS // 2)),
                *(asyncio.create_task(write_at_once(database)) for _ in range(WRITERS // 2)),
                *(asyncio.create_task(read(database)) for _ in range(READERS)),
            ]
            while len(shown) < before + 200:  # noqa: ASYNC110  # other tasks write it
                await asyncio.sleep(0.01)  # until the load is on
            kill_server(postgres.folder)
            await asyncio.gather(*calls)

    url = await asyncio.to_thread(postgres.start)
    async with Database(url, application_name="tests") as database, database.transaction() as tx:
        stored = {row["id"] for row in await tx.fetch("SELECT id FROM entry")}
        assert shown <= stored
        assert await tx.fetchval("SELECT entries FROM total") == len(stored)


async def look(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("SELECT 1")


async def look_and_refuse(database: Database) -> None:
    with pytest.raises(NotFound):
        async with database.transaction():
            raise NotFound("job", "job_1")


async def look_at_once(database: Database) -> None:
    await database.commit_statement("SELECT 1")


@pytest.mark.parametrize("end", [look, look_and_refuse, look_at_once])
async def test_whoever_sees_rows_waits_until_they_are_on_disk(
    postgres: Postgres, end: Callable[[Database], Awaitable[None]]
) -> None:
    """A refusal names rows too: the handle that a key has made already, for example."""
    url = await asyncio.to_thread(postgres.start)
    writer = await asyncio.wait_for(asyncpg.connect(url), timeout=20)
    try:
        await writer.execute("CREATE TABLE entry (id int)")
        async with Database(url, application_name="tests") as database:
            await end(database)  # so that its connection writes nothing below
            # No commit of the writer, and no page that is full: nobody else takes this to the disk.
            await writer.execute("BEGIN; INSERT INTO entry VALUES (1)")
            written = await writer.fetchval("SELECT pg_current_wal_insert_lsn()")
            on_disk = "SELECT pg_current_wal_flush_lsn() >= $1::pg_lsn"
            assert not await writer.fetchval(on_disk, written)

            await end(database)

            assert await writer.fetchval(on_disk, written)
    finally:
        await writer.close()
