"""The shape of a database: its constraints, indexes and columns."""

from typing import Final

import asyncpg

READ_SHAPE: Final = """
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


async def read_shape(url: str) -> set[tuple[str, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return await read_shape_with(connection)
    finally:
        await connection.close()


async def read_shape_with(connection: asyncpg.Connection) -> set[tuple[str, ...]]:
    """Read it on a connection that is open already."""
    rows = await connection.fetch(READ_SHAPE)
    return {tuple(row) for row in rows if row[0] != "alembic_version"}
