"""The database as the tools stand on it."""

import base64
import os

import anyio
import pytest

from schema.accounts.vault import Vault
from schema.db.database import Database
from schema.db.revisions import ReleaseTooOld
from service.database import TenantDatabase, WrongVaultKey


async def test_a_client_who_goes_away_does_not_cut_a_transaction_in_half(
    database: Database,
) -> None:
    """Over SSE a disconnect cancels the tool; what it began to write is written."""
    with anyio.CancelScope() as scope:
        async with TenantDatabase(database).transaction() as tx:
            scope.cancel()
            await tx.execute("INSERT INTO subject (id, name) VALUES ('a', 'ada')")

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT name FROM subject") == "ada"


async def test_the_revision_is_trusted_once_it_was_right(database: Database) -> None:
    """A call does not pay for a question whose answer only a migration changes."""
    tenant_database = TenantDatabase(database)
    async with tenant_database.transaction():
        pass
    async with database.transaction() as tx:
        await tx.execute("UPDATE alembic_version SET version_num = 'future', compatible_from = 'x'")

    async with tenant_database.transaction() as tx:
        assert await tx.fetchval("SELECT 1") == 1
    with pytest.raises(ReleaseTooOld, match="the database is at future"):
        await tenant_database.read_revision()


async def test_a_service_with_a_new_key_under_an_old_id_does_nothing(
    database: Database, vault: Vault
) -> None:
    """What it sealed, no worker could open; so no call is served until the key is put back."""
    same_id = Vault.from_key_ring(f"1:{base64.b64encode(os.urandom(32)).decode()}")
    async with TenantDatabase(database, vault).transaction():
        pass

    mistaken = TenantDatabase(database, same_id)
    for _ in range(2):
        with pytest.raises(WrongVaultKey, match="Key 1 of HOLDFAST_VAULT_KEYS differs"):
            async with mistaken.transaction():
                pass
    with pytest.raises(WrongVaultKey):  # what /health/ready reads
        await mistaken.read_revision()
    async with TenantDatabase(database, vault).transaction():
        pass
