"""Is the database the one this code was written for? Until it is, nothing is read or written."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import structlog

from schema.accounts.row_security import act_for
from schema.accounts.tables import Hold
from schema.common.errors import HoldfastError, Unavailable
from schema.db import revisions
from schema.db.database import Database, Transaction

log = structlog.stdlib.get_logger()


class WrongRevision(Unavailable):
    """The database has to be migrated before anything can be done."""

    def __init__(self, found: str | None, wanted: str) -> None:
        self.retry_after = timedelta(seconds=30)
        HoldfastError.__init__(
            self,
            f"The database is at revision {found or 'none'} and this service needs {wanted}, so "
            f"nothing was done. Its operator has to run `holdfast migrate`.",
        )

    @property
    def code(self) -> str:
        """The same to a client as any other outage."""
        return Unavailable.__name__


class Ground:
    """The database; its revision is looked at until it is seen to be right, and then trusted."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._wanted = revisions.head()
        self._seen_right = False

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """Yield a transaction that a client who goes away does not cut in half; it sees no rows.

        Raises:
            Unavailable: the database cannot be reached, or is not the one we know.
        """
        # Over SSE the SDK cancels a tool when its client disconnects (mcp 2.3.0).
        with anyio.CancelScope(shield=True):
            async with self._database.transaction() as tx:
                if not self._seen_right:
                    await self._look(tx)
                yield tx

    @asynccontextmanager
    async def acting_for(self, subject_id: str) -> AsyncGenerator[tuple[Transaction, Hold | None]]:
        """Yield a transaction that sees one subject's rows, and whether their jobs are held.

        Raises:
            Unavailable: the database cannot be reached, or is not the one we know.
        """
        async with self.transaction() as tx:
            yield tx, await act_for(tx, subject_id)

    async def revision(self) -> str:
        """Return the revision, looked at now.

        Raises:
            Unavailable: the database cannot be reached, or is not the one we know.
        """
        async with self._database.transaction() as tx:
            await self._look(tx)
        return self._wanted

    async def _look(self, tx: Transaction) -> None:
        self._seen_right = False
        if (found := await revisions.current(tx)) != self._wanted:
            log.error("revision.mismatched", found=found, wanted=self._wanted)
            raise WrongRevision(found, self._wanted)
        self._seen_right = True
