"""Database of the service: transactions as one subject, after a check of the revision.

Until the database is at the revision that this code is written for, and its keys are ours, nothing
is read or written.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import structlog

from schema.accounts.row_security import act_as_subject
from schema.accounts.tables import Hold
from schema.accounts.vault import Vault
from schema.accounts.vault_keys import OtherVaultKey, compare_vault_keys, describe_missing_keys
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


class WrongVaultKey(Unavailable):
    """A key of this process is another than the one that sealed what is stored."""

    def __init__(self, cause: OtherVaultKey) -> None:
        self.retry_after = timedelta(seconds=30)
        HoldfastError.__init__(self, str(cause))

    @property
    def code(self) -> str:
        """To a client it is the same as any other outage."""
        return Unavailable.__name__


class TenantDatabase:
    """Opens transactions; each one checks revision and keys until they were right once."""

    def __init__(self, database: Database, vault: Vault | None = None) -> None:
        """Prepare the checks.

        Args:
            vault: whose keys are compared with those that the database knows; None: seals nothing.
        """
        self._database = database
        self._vault = vault
        self._is_verified = False

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """Yield a transaction that sees no rows of subjects; a disconnect does not cut it in half.

        Raises:
            Unavailable: the database cannot be reached, or is at another revision.
        """
        # Over SSE the SDK cancels a tool when its client disconnects (mcp 2.3.0).
        with anyio.CancelScope(shield=True):
            async with self._database.transaction() as tx:
                if not self._is_verified:
                    await self._verify(tx)
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
            return await self._verify(tx)

    async def _verify(self, tx: Transaction) -> str:
        self._is_verified = False
        revision = await revisions.read_revision_status(tx)
        if not revision.is_expected:
            log.error("revision.mismatched", found=revision.current, wanted=revision.expected)
            raise WrongRevision(revision.current, revision.expected)
        if self._vault is not None:
            await self._compare_keys(tx, self._vault)
        self._is_verified = True
        return revision.expected

    async def _compare_keys(self, tx: Transaction, vault: Vault) -> None:
        try:
            missing = await compare_vault_keys(tx, vault)
        except OtherVaultKey as error:
            log.error("vault.other_key", keys=error.key_ids, remedy=str(error))  # noqa: TRY400
            raise WrongVaultKey(error) from None
        if missing:
            log.error("vault.key_missing", keys=missing, remedy=describe_missing_keys(missing))
