"""Database of the service: transactions as one subject, after a check of the revision.

Until the database is at the revision that this code is written for, nothing is read or written.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import structlog

from schema.accounts.row_security import act_as_subject
from schema.accounts.tables import Hold
from schema.common.errors import HoldfastError, Unavailable
from schema.db import revisions
from schema.db.database import Database, Transaction

log = structlog.stdlib.get_logger()


class WrongRevision(Unavailable):
    """The database has to be migrated before anything can be done."""

    def __init__(self, current: str | None, expected: str) -> None:
        self.retry_after = timedelta(seconds=30)
        HoldfastError.__init__(
            self,
            f"The database is at revision {current or 'none'} and this service needs {expected}, "
            f"so nothing was done. Its operator has to run `holdfast migrate`.",
        )

    @property
    def code(self) -> str:
        """To a client it is the same as any other outage."""
        return Unavailable.__name__


class TenantDatabase:
    """Opens transactions; each one checks the revision until it was right once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._revision_verified = False

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """Yield a transaction that sees no rows of subjects; a disconnect does not cut it in half.

        Raises:
            Unavailable: the database cannot be reached, or is at another revision.
        """
        # Over SSE the SDK cancels a tool when its client disconnects (mcp 2.3.0).
        with anyio.CancelScope(shield=True):
            async with self._database.transaction() as tx:
                if not self._revision_verified:
                    await self._require_revision(tx)
                yield tx

    @asynccontextmanager
    async def as_subject(self, subject_id: str) -> AsyncGenerator[tuple[Transaction, Hold | None]]:
        """Yield a transaction that sees the rows of one subject, and the hold on their jobs.

        Raises:
            Unavailable: the database cannot be reached, or is at another revision.
        """
        async with self.transaction() as tx:
            yield tx, await act_as_subject(tx, subject_id)

    async def read_revision(self) -> str:
        """Check the revision again, and return it.

        Raises:
            Unavailable: the database cannot be reached, or is at another revision.
        """
        async with self._database.transaction() as tx:
            return await self._require_revision(tx)

    async def _require_revision(self, tx: Transaction) -> str:
        self._revision_verified = False
        revision = await revisions.read_revision_status(tx)
        if not revision.is_expected:
            log.error("revision.mismatched", found=revision.current, wanted=revision.expected)
            raise WrongRevision(revision.current, revision.expected)
        self._revision_verified = True
        return revision.expected
