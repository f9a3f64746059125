"""Writes that share a transaction, and what one of them may not do to the others."""

import asyncio
from collections.abc import Sequence

import anyio
import pytest
import structlog

from schema.common.errors import Unavailable
from schema.db.database import Database, Transaction
from schema.db.grouped_writes import GroupedWrites


class EntryWriter:
    """Writes names of subjects, and remembers which were written together."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.contexts: list[dict[str, object]] = []

    async def __call__(self, tx: Transaction, names: list[str]) -> list[str]:
        """Write the names; return what was written for each."""
        self.groups.append(names)
        self.contexts.append(structlog.contextvars.get_contextvars())
        await self.gate.wait()
        for name in names:
            await tx.execute("INSERT INTO subject (id, name) VALUES ($1, $1)", name)
        return [f"wrote {name}" for name in names]


async def submit_all(
    database: Database, write: EntryWriter, names: Sequence[str], *, writes: GroupedWrites
) -> list[str | BaseException]:
    return await asyncio.gather(
        *(writes.submit(database, "group", write, name) for name in names), return_exceptions=True
    )


async def list_subjects(database: Database) -> set[str]:
    async with database.transaction() as tx:
        return {row["id"] for row in await tx.fetch("SELECT id FROM subject")}


async def test_what_comes_during_a_write_shares_the_next_one(database: Database) -> None:
    """One alone is written at once; nobody waits for company."""
    write = EntryWriter()

    answers = await submit_all(database, write, ["a", "b", "c"], writes=GroupedWrites())

    assert answers == ["wrote a", "wrote b", "wrote c"]
    assert [name for group in write.groups for name in group] == ["a", "b", "c"]
    assert len(write.groups) < 3
    assert await list_subjects(database) == {"a", "b", "c"}


async def test_one_that_cannot_be_written_fails_alone(database: Database) -> None:
    """What is wrong with one row must not keep the others from the disk."""
    write = EntryWriter()

    one, bad, two = await submit_all(
        database, write, ["a", "not\x00text", "b"], writes=GroupedWrites()
    )

    assert (one, two) == ("wrote a", "wrote b")
    assert isinstance(bad, Exception)
    assert await list_subjects(database) == {"a", "b"}


async def test_a_database_that_is_away_fails_them_all(database: Database) -> None:
    """Each caller says when to ask again."""

    class Away(EntryWriter):
        async def __call__(self, tx: Transaction, names: list[str]) -> list[str]:
            await tx.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            return names

    answers = await submit_all(database, Away(), ["a", "b"], writes=GroupedWrites())

    assert [type(answer) for answer in answers] == [Unavailable, Unavailable]


async def test_who_is_cancelled_leaves_the_others_their_answers(database: Database) -> None:
    """The worker of a cancelled attempt hands it back; the rest of the group goes on."""
    write, writes = EntryWriter(), GroupedWrites()
    write.gate.clear()
    first = asyncio.create_task(writes.submit(database, "group", write, "a"))
    second = asyncio.create_task(writes.submit(database, "group", write, "b"))
    with anyio.fail_after(10):
        while not write.groups:
            await anyio.lowlevel.checkpoint()

    first.cancel()
    write.gate.set()

    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == "wrote b"
    assert await list_subjects(database) == {"a", "b"}


async def test_a_group_is_written_in_no_jobs_context(database: Database) -> None:
    """What is logged meanwhile is about others too."""
    write = EntryWriter()

    with structlog.contextvars.bound_contextvars(job="job_1"):
        await submit_all(database, write, ["a"], writes=GroupedWrites())

    assert write.contexts == [{}]
