"""Is the database the one this code was written for? Until it is, nothing is read or written."""

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
            "so "
            f"nothing was done. Its operator has to run `holdfast migrate`.",
        )

    @property
    def code(self) -> str:
        """The same to a client as any other outage."""
        return Unavailable.__name__


class TenantDatabase:
    """The database; its revision is looked at until it is seen to be right, and then trusted."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._expected_revision = revisions.head_revision()
        self._revision_verified = False

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """Yield a transaction that a client who goes away does not cut in half; it sees no rows.

        Raises:
            Unavailable: the database cannot be reached, or is not the one we know.
        """
        # Over SSE the SDK cancels a tool when its client disconnects (mcp 2.3.0).
        with anyio.CancelScope(shield=True):
            async with self._database.transaction() as tx:
                if not self._revision_verified:
                    await self._require_revision(tx)
                yield tx

    @asynccontextmanager
    async def as_subject(self, subject_id: str) -> AsyncGenerator[tuple[Transaction, Hold | None]]:
        """Yield a transaction that sees one subject's rows, and whether their jobs are held.

        Raises:
            Unavailable: the database cannot be reached, or is not the one we know.
        """
        async with self.transaction() as tx:
            yield tx, await act_as_subject(tx, subject_id)

    async def read_revision(self) -> str:
        """Return the revision, looked at now.

        Raises:
            Unavailable: the database cannot be reached, or is not the one we know.
        """
        async with self._database.transaction() as tx:
            await self._require_revision(tx)
        return self._expected_revision

    async def _require_revision(self, tx: Transaction) -> None:
        self._revision_verified = False
        if (found := await revisions.read_current_revision(tx)) != self._expected_revision:
            log.error("revision.mismatched", found=found, wanted=self._expected_revision)
            raise WrongRevision(found, self._expected_revision)
        self._revision_verified = True
