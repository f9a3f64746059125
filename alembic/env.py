"""Run migrations against the database the caller names, or HOLDFAST_DATABASE_URL."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any, Literal

import asyncpg
import structlog
from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from sqlalchemy import Connection, NullPool, String, bindparam, event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import AutoString

from schema.common.urls.postgres import parse_postgres_url
from schema.tables import METADATA


def write_compatibility(*, ctx: MigrationContext, step: MigrationInfo, **_: object) -> None:
    """Write which releases run on the revision that a step has come to, in its transaction."""
    statement = text("UPDATE alembic_version SET compatible_from = :oldest")
    for revision in step.destination_revisions:  # none after the first one was taken back
        ctx.execute(
            statement.bindparams(bindparam("oldest", revision.module.compatible_from, String))
        )


# A transaction for each revision: one that fails or is killed leaves nothing behind, so it can be
# repeated, and the revisions before it stay.
COMMON = {
    "target_metadata": METADATA,
    "transaction_per_migration": True,
    "on_version_apply": write_compatibility,
}

# Advisory locks of the database. A migration holds TURN from its beginning to its end, so a second
# one waits, and then finds nothing to do. Each of its transactions holds TRANSACTION as well: a
# server notices only between two statements that a client was killed, and the turn is free by then.
TURN = "(1752132708, 1)"
TRANSACTION = "(1752132708, 2)"

log = structlog.stdlib.get_logger()


def render(kind: str, item: object, _: object) -> str | Literal[False]:
    """Write SQLModel's own types as SQLAlchemy's, so that old migrations outlive it."""
    if kind == "type" and isinstance(item, AutoString):
        return "sa.String()"
    return False


def migrate(connection: Connection) -> None:
    event.listen(connection, "begin", take_transaction)
    context.configure(connection=connection, render_item=render, **COMMON)
    with context.begin_transaction():
        context.run_migrations()


def take_transaction(connection: Connection) -> None:
    # In `public`, where the statements of every process look, whatever the login has set.
    connection.exec_driver_sql("SET LOCAL search_path = public")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock{TRANSACTION}")


async def connect(url: str, **options: Any) -> asyncpg.Connection:
    # By ourselves: SQLAlchemy knows few of the parameters that a URL of Postgres may have.
    return await parse_postgres_url(url).connect(
        timeout=timedelta(seconds=30),
        server_settings={"application_name": "holdfast-migrate"},
        **options,
    )


@asynccontextmanager
async def hold_turn(url: str) -> AsyncGenerator[None]:
    # In a transaction: a pooler then keeps the connection for us, and the lock ends with both.
    connection = await connect(url, statement_cache_size=0)
    try:
        await connection.execute("BEGIN")
        for timeout in ("idle_in_transaction_session", "lock", "statement"):
            await connection.execute(f"SET LOCAL {timeout}_timeout = 0")
        if not await connection.fetchval(f"SELECT pg_try_advisory_xact_lock{TURN}"):
            log.info("migration.waiting", reason="another one is at work in this database")
            await connection.execute(f"SELECT pg_advisory_xact_lock{TURN}")
        yield
    finally:
        await connection.close(timeout=5)


async def main() -> None:
    url = context.config.attributes.get("url") or os.environ["HOLDFAST_DATABASE_URL"]
    # Without a pool the connection is closed with its block, also when a migration fails.
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=partial(connect, url), poolclass=NullPool
    )
    async with hold_turn(url), engine.connect() as connection:
        await connection.run_sync(migrate)


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, **COMMON)
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(main())
