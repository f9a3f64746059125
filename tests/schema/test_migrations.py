"""The migrations and the tables say the same thing, down to the constraints."""

import asyncio
import importlib
import pkgutil
from typing import Any, Final

import asyncpg
from alembic import command
from sqlalchemy.ext.asyncio import create_async_engine

import schema
from schema.db import revisions
from schema.db.database import Database
from schema.tables import METADATA, TABLES

SHAPE: Final = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
  FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL
SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL
SELECT table_name, column_name, concat_ws(' ', data_type, is_nullable, column_default)
  FROM information_schema.columns
 WHERE table_schema = 'public' AND table_name NOT LIKE 'v\\_%'
UNION ALL
SELECT relname, 'persistence', relpersistence::text
  FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""

UNCOVERED: Final = """
SELECT con.conrelid::regclass::text || ' ' || con.conname
  FROM pg_constraint AS con
 WHERE con.contype = 'f' AND con.connamespace = 'public'::regnamespace
   AND NOT EXISTS (SELECT FROM pg_index AS ix
                    WHERE ix.indrelid = con.conrelid AND ix.indkey[0] = con.conkey[1])
"""


async def shape(url: str) -> set[tuple[str, ...]]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(SHAPE)
    finally:
        await connection.close()
    return {tuple(row) for row in rows if row[0] != "alembic_version"}


async def rebuild_from_metadata(url: str) -> None:
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as connection:
        await connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        await connection.exec_driver_sql("CREATE SCHEMA public")
        await connection.run_sync(METADATA.create_all)
        # So that the fixture can look at it when the test is over.
        await connection.exec_driver_sql("CREATE VIEW v_unowned AS SELECT 1 WHERE false")
    await engine.dispose()


def test_every_table_is_registered() -> None:
    """A table that the registry does not name is one that Alembic proposes to drop."""
    for module in pkgutil.walk_packages(schema.__path__, "schema."):
        importlib.import_module(module.name)

    classes: Any = TABLES
    assert {each.__tablename__ for each in classes} == set(METADATA.tables)


async def test_migrating_gives_exactly_the_declared_tables(database_url: str) -> None:
    """Alembic's own check is blind to CHECK constraints; this compares them too."""
    migrated = await shape(database_url)

    await rebuild_from_metadata(database_url)

    assert migrated
    assert await shape(database_url) == migrated


async def test_every_migration_can_be_taken_back_and_made_again(database_url: str) -> None:
    """A release that has to be rolled back must not need a restore."""
    before = await shape(database_url)
    config = revisions.config(database_url)

    await asyncio.to_thread(command.downgrade, config, "base")
    empty = await shape(database_url)
    await asyncio.to_thread(revisions.upgrade, database_url)

    assert empty == set()
    assert await shape(database_url) == before


async def test_the_revision_is_known_before_and_after(
    database: Database, database_url: str
) -> None:
    """A process that finds another revision than its own refuses to work."""
    async with database.transaction() as tx:
        assert await revisions.current(tx) == revisions.head()

    await asyncio.to_thread(command.downgrade, revisions.config(database_url), "base")
    async with database.transaction() as tx:
        assert await revisions.current(tx) is None
    await asyncio.to_thread(revisions.upgrade, database_url)


async def test_what_a_foreign_key_points_from_is_indexed(database: Database) -> None:
    """Without an index a retention delete reads the whole table for each row it deletes."""
    async with database.transaction() as tx:
        found = await tx.fetch(UNCOVERED)

    assert [list(row.values()) for row in found] == []
