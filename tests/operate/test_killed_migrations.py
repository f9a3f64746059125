"""`holdfast migrate` can always be repeated: killed, or started twice, it ends with the schema."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from typing import Final

import anyio
import asyncpg
import pytest
from anyio import to_thread

from schema.db import revisions
from schema.db.revisions import MigrationFailed
from tests.support.database.migration_forks import MigrationForks, run_migration_forks
from tests.support.database.schema_shape import read_shape_with
from tests.support.paths import REPOSITORY
from tests.support.polling import eventually

SEEDS: Final = range(8)
KILLS: Final = 25
"""For each seed: 200 in all."""

HOLD_LOCK: Final = "BEGIN; SELECT pg_advisory_xact_lock(1752132708, {})"
COUNT_WAITING: Final = """
SELECT count(*) FROM pg_locks
 WHERE locktype = 'advisory' AND NOT granted
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


CLEAR: Final = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"


@pytest.fixture
async def watcher(database_url: str) -> AsyncGenerator[asyncpg.Connection]:
    """A connection to the test's database that does not migrate."""
    connection: asyncpg.Connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
def migration_forks() -> Generator[MigrationForks]:
    """A starter of processes that migrate."""
    with run_migration_forks() as forks:
        yield forks


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_migration_killed_at_a_random_moment_is_completed_by_the_next(
    database_url: str, watcher: asyncpg.Connection, migration_forks: MigrationForks, seed: int
) -> None:
    """A timeout kills it, or the kernel, or who cannot wait: once, or several times in a row."""
    moments = random.Random(seed)  # noqa: S311  # of kills, which can be repeated
    whole = await read_shape_with(watcher)

    await watcher.execute(CLEAR)
    started = time.monotonic()
    migration_forks.start(database_url)
    assert await to_thread.run_sync(migration_forks.wait) == 0
    duration = time.monotonic() - started

    codes: list[int] = []
    while len(codes) < KILLS:
        await watcher.execute(CLEAR)
        for _ in range(min(moments.randint(1, 3), KILLS - len(codes))):
            process_id = migration_forks.start(database_url)
            await anyio.sleep(moments.uniform(0, duration))  # the moment itself
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
            codes.append(await to_thread.run_sync(migration_forks.wait))
            duration *= 1.1 if codes[-1] else 0.8  # the machine has become slower or quicker
        await to_thread.run_sync(revisions.upgrade_to_revision, database_url)
        assert await read_shape_with(watcher) == whole

    assert codes.count(-signal.SIGKILL) > KILLS // 4, "most had ended before they were killed"


async def test_migrations_at_once_wait_for_each_other(
    database_url: str, watcher: asyncpg.Connection
) -> None:
    """Every replica of a deployment may run `migrate` when it starts."""
    whole = await read_shape_with(watcher)
    await watcher.execute(CLEAR)
    program = (
        "import sys; from schema.db import revisions; revisions.upgrade_to_revision(sys.argv[1])"
    )

    processes = [
        subprocess.Popen(  # noqa: ASYNC220  # started at once
            [sys.executable, "-c", program, database_url],
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    ends = [await to_thread.run_sync(process.communicate) for process in processes]

    assert [process.returncode for process in processes] == [0, 0, 0], ends
    assert await read_shape_with(watcher) == whole


@pytest.mark.parametrize("lock", [1, 2], ids=["turn", "transaction"])
async def test_a_second_migration_waits_and_finds_nothing_to_do(
    database_url: str, watcher: asyncpg.Connection, lock: int
) -> None:
    """It waits for one that runs, and for the last statement of one that was killed."""
    whole = await read_shape_with(watcher)
    await watcher.execute(CLEAR)
    first: asyncpg.Connection = await asyncpg.connect(database_url)
    await first.execute(HOLD_LOCK.format(lock))
    untouched: set[tuple[str, ...]] | None = None

    async def migrate() -> None:
        await to_thread.run_sync(revisions.upgrade_to_revision, database_url)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(migrate)
        await eventually(lambda: watcher.fetchval(COUNT_WAITING), lambda waiting: waiting == 1)
        untouched = await read_shape_with(watcher)
        await first.close()

    assert untouched == set()
    assert await read_shape_with(watcher) == whole


async def test_a_refused_statement_is_one_sentence(
    database_url: str, watcher: asyncpg.Connection
) -> None:
    """An operator sees what the database says, and that the same command is the way on."""
    await watcher.execute(f"{CLEAR}; CREATE TABLE job (id int)")

    with pytest.raises(MigrationFailed) as refusal:
        await to_thread.run_sync(revisions.upgrade_to_revision, database_url)
    await watcher.execute("DROP TABLE job")
    await to_thread.run_sync(revisions.upgrade_to_revision, database_url)

    assert str(refusal.value) == (
        'The database refused a statement (DuplicateTableError: relation "job" already exists). '
        "Nothing of that revision was kept. Mend the cause, then run `holdfast migrate` again."
    )
