"""Postgres as the service sees it: in the role of a tenant, for one subject or for nobody."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from schema.accounts.row_security import DatabaseRole, act_as_subject
from schema.db.database import Database, Transaction


@asynccontextmanager
async def tenant_transaction(url: str, subject_id: str | None) -> AsyncGenerator[Transaction]:
    """Open a transaction as the service does, for a subject or for nobody."""
    async with (
        Database(
            url, application_name="tests", role=DatabaseRole.TENANT, max_connections=1
        ) as database,
        database.transaction() as tx,
    ):
        if subject_id is not None:
            await act_as_subject(tx, subject_id)
        yield tx


@asynccontextmanager
async def create_login(admin_url: str, *options: str) -> AsyncGenerator[str]:
    """Make a login and a database it owns; yield the URL it connects with."""
    name = f"plain_{uuid4().hex}"
    admin: asyncpg.Connection = await asyncpg.connect(admin_url)
    try:
        await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'plain' {' '.join(options)}")
        await admin.execute(f"CREATE DATABASE {name} OWNER {name}")
        place = urlsplit(admin_url)
        yield urlunsplit(
            place._replace(netloc=f"{name}:plain@{place.hostname}:{place.port}", path=f"/{name}")
        )
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.execute(f"DROP ROLE {name}")
    finally:
        await admin.close()
