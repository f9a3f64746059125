"""Which key each id of `HOLDFAST_VAULT_KEYS` stands for in this database.

The first process that seals with a key writes its mark beside its id, and every process compares
its own keys with these when it starts. So a new key under an old id is noticed before anything is
sealed with it or taken for lost, and without opening what is stored.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlmodel import Field

from schema.accounts.vault import Vault
from schema.common.errors import Conflict
from schema.db.base import DEFAULT_NOW, TEXT, TIMESTAMP, Record
from schema.db.database import Transaction

_REGISTER_KEY: Final = """
INSERT INTO vault_key (key_id, mark) VALUES ($1, $2) ON CONFLICT (key_id) DO NOTHING
"""

# A separate statement: it sees what another process has committed meanwhile.
_LIST_KEYS: Final = "SELECT key_id, mark FROM vault_key ORDER BY created_at, key_id"

_FORGET_OTHER_KEYS: Final = "DELETE FROM vault_key WHERE key_id <> $1"


class VaultKey(Record):
    """A key that has sealed something."""

    key_id: str = Field(primary_key=True, sa_type=TEXT)
    mark: str = Field(sa_type=TEXT)
    """Of the key itself; no key can be computed from it."""
    created_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)


class VaultKeyTable(VaultKey, table=True):
    """The rows, one for each id."""


class OtherVaultKey(Conflict):
    """An id of the ring stands for another key in this database."""

    def __init__(self, key_ids: Collection[str]) -> None:
        self.key_ids = sorted(key_ids)
        noun = "Key" if len(self.key_ids) == 1 else "Each of the keys"
        super().__init__(
            f"{noun} {', '.join(self.key_ids)} of HOLDFAST_VAULT_KEYS differs from what sealed the "
            f"stored tokens under that id, so nothing was done. Put the old key back, or give the "
            f"new key an id that no key has had, and put it in front."
        )


async def compare_vault_keys(tx: Transaction, vault: Vault) -> list[str]:
    """Compare a ring with the keys that the database knows, and register the one that seals.

    Returns:
        The ids of keys that have sealed something and are not in the ring.

    Raises:
        OtherVaultKey: an id stands for another key; the transaction must not commit.
    """
    sealing_id = vault.sealing_key_id
    await tx.execute(_REGISTER_KEY, sealing_id, vault.marks_by_id[sealing_id])
    known_marks = {row["key_id"]: row["mark"] for row in await tx.fetch(_LIST_KEYS)}
    others = [
        key_id
        for key_id, mark in vault.marks_by_id.items()
        if known_marks.get(key_id, mark) != mark
    ]
    if others:
        raise OtherVaultKey(others)
    return [key_id for key_id in known_marks if key_id not in vault.marks_by_id]


async def forget_other_vault_keys(tx: Transaction, vault: Vault) -> None:
    """Forget all keys but the one that seals: nothing is sealed under them any more."""
    await tx.execute(_FORGET_OTHER_KEYS, vault.sealing_key_id)


def describe_missing_keys(key_ids: Collection[str]) -> str:
    """Say what it means that keys are not in the ring, and what to do."""
    return (
        f"What key {', '.join(sorted(key_ids))} sealed cannot be opened, because "
        f"HOLDFAST_VAULT_KEYS does not have it. Put it back, behind the first key, until `holdfast "
        f"vault rotate` has sealed everything with the first. Without it, jobs whose secrets are "
        f"lost fail, and the others wait until their owner calls again."
    )
