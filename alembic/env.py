"""Run migrations against the database the caller names, or HOLDFAST_DATABASE_URL."""

import asyncio
import os
from typing import Literal

from alembic import context
from sqlalchemy import Connection, NullPool
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import AutoString

from schema.tables import METADATA

# A transaction for each revision: one that fails or is killed leaves nothing behind, so it can be
# repeated, and the revisions before it stay.
COMMON = {"target_metadata": METADATA, "transaction_per_migration": True}


def render(kind: str, item: object, _: object) -> str | Literal[False]:
    """Write SQLModel's own types as SQLAlchemy's, so that old migrations outlive it."""
    if kind == "type" and isinstance(item, AutoString):
        return "sa.String()"
    return False


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, render_item=render, **COMMON)
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    url = context.config.attributes.get("url") or os.environ["HOLDFAST_DATABASE_URL"]
    _, _, address = url.partition("://")
    # Without a pool the connection is closed with its block, also when a migration fails.
    engine = create_async_engine(f"postgresql+asyncpg://{address}", poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, **COMMON)
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(main())
