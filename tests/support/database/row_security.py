"""Postgres as the service sees it: in the role of a tenant, for one subject or for nobody."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

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
