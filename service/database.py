"""Database of the service: transactions as one subject, after a check of the revision.

Unless the database is at a revision that this release runs on, and its keys are ours, nothing is
read or written.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Final

import anyio
import structlog

from schema.accounts.row_security import act_as_subject
from schema.accounts.tables import Hold
from schema.accounts.vault import Vault
from schema.accounts.vault_keys import OtherVaultKey, compare_vault_keys, describe_missing_keys
from schema.common.errors import HoldfastError, Unavailable
from schema.db import revisions
from schema.db.database import CommitListener, Database, Transaction
from schema.db.revisions import WrongRevision

_CHECK_INTERVAL: Final = timedelta(seconds=10)
"""How long a process may go on after a revision that its release does not run on."""

log = structlog.stdlib.get_logger()


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
    """Opens transactions; each one checks revision and keys until this process may use both."""

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
            Unavailable: the database cannot be reached, or this release does not run on it.
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
            Unavailable: the database cannot be reached, or this release does not run on it.
        """
        async with self.transaction() as tx:
            yield tx, await act_as_subject(tx, subject_id)

    async def commit_statement(
        self, query: str, *args: object, on_commit: CommitListener | None = None
    ) -> Mapping[str, Any] | None:
        """Run and commit a statement that acts for a subject by itself; see `Database`.

        Raises:
            Unavailable: the database cannot be reached, or this release does not run on it.
            InDoubt: it went away meanwhile.
        """
        if not self._is_verified:
            async with self.transaction():
                pass  # it checks
        row: Mapping[str, Any] | None = None
        with anyio.CancelScope(shield=True):
            row = await self._database.commit_statement(query, *args, on_commit=on_commit)
        return row  # noqa: RET504  # to mypy, the scope may suppress what is raised

    async def read_revision(self) -> str:
        """Check the revision again, and return it.

        Raises:
            Unavailable: the database cannot be reached, or this release does not run on it.
        """
        async with self._database.transaction() as tx:
            return await self._verify(tx)

    async def check_revision_regularly(self) -> None:
        """Check the revision every few seconds: a later release may have taken something away."""
        while True:
            await anyio.sleep(_CHECK_INTERVAL.total_seconds())
            with suppress(Unavailable):
                async with self._database.transaction() as tx:
                    await self._require_usable_revision(tx)

    async def _require_usable_revision(self, tx: Transaction) -> str:
        try:
            return await revisions.require_usable_revision(tx)
        except WrongRevision as error:
            self._is_verified = False
            log.error("revision.mismatched", why=str(error))  # noqa: TRY400  # a sentence, no bug
            raise

    async def _verify(self, tx: Transaction) -> str:
        self._is_verified = False
        revision = await self._require_usable_revision(tx)
        if self._vault is not None:
            await self._compare_keys(tx, self._vault)
        self._is_verified = True
        return revision

    async def _compare_keys(self, tx: Transaction, vault: Vault) -> None:
        try:
            missing = await compare_vault_keys(tx, vault)
        except OtherVaultKey as error:
            log.error("vault.other_key", keys=error.key_ids, remedy=str(error))  # noqa: TRY400
            raise WrongVaultKey(error) from None
        if missing:
            log.error("vault.key_missing", keys=missing, remedy=describe_missing_keys(missing))
