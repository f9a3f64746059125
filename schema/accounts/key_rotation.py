"""Rotation of the key ring: what an older key sealed is sealed again under the first key.

A count of what the ring can open goes the same way, and changes nothing. A key's name proves
nothing, because another key may have the same name, so both open each row.

It goes through everything that is sealed, some rows at a time. Each row is compared and set, so a
row that changes meanwhile is left alone: it was sealed under the first key then.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from schema.accounts import connections, credentials
from schema.accounts import secrets as sealed_secrets
from schema.accounts.vault import Unsealable, Vault
from schema.accounts.vault_keys import compare_vault_keys, forget_other_vault_keys
from schema.db.database import Database, Transaction

_BATCH_ROWS: Final = 200


@dataclass(slots=True)
class RotationCounts:
    """How many sealed rows were found."""

    current: int = 0
    """Under the first key already."""
    resealed: int = 0
    lost: int = 0
    """Under a key that is not in the ring, so nobody can open them."""


@dataclass(frozen=True, slots=True)
class _SealedTable:
    table: str
    key_column: str
    lowest_key_sql: str
    owner_of: Callable[[Mapping[str, Any]], str]


_SEALED_TABLES: Final = (
    _SealedTable(
        "credential",
        "subject_id",
        "''",
        lambda row: credentials.credential_owner(row["subject_id"]),
    ),
    _SealedTable(
        "connected_account",
        "sign_in_id",
        "''",
        lambda row: connections.connection_owner(
            row["sign_in_id"], row["connection_id"], row["subject_id"]
        ),
    ),
    _SealedTable(
        "job_secret",
        "job_id",
        "'00000000-0000-0000-0000-000000000000'::uuid",
        lambda row: sealed_secrets.job_secrets_owner(row["subject_id"], row["job_id"]),
    ),
    _SealedTable(
        "schedule_secret",
        "schedule_id",
        "'00000000-0000-0000-0000-000000000000'::uuid",
        lambda row: sealed_secrets.schedule_secrets_owner(row["subject_id"], row["schedule_id"]),
    ),
    _SealedTable(
        "webhook_secret",
        "id",
        "'00000000-0000-0000-0000-000000000000'::uuid",
        lambda row: sealed_secrets.webhook_owner(row["subject_id"], row["target_id"]),
    ),
)


async def rotate_keys(database: Database, vault: Vault) -> RotationCounts:
    """Seal everything again that is not sealed under the first key of the ring.

    Raises:
        OtherVaultKey: an id of the ring stands for another key in this database.
    """
    async with database.transaction() as tx:
        await compare_vault_keys(tx, vault)
    counts = RotationCounts()
    for sealed_table in _SEALED_TABLES:
        last_key: Any = None
        while True:
            async with database.transaction() as tx:
                rows = await _fetch_rows(tx, sealed_table, last_key)
                for row in rows:
                    sealed = _reseal_row(vault, row, sealed_table, counts)
                    if sealed is not None:
                        await tx.execute(
                            f"UPDATE {sealed_table.table} SET sealed = $3"  # noqa: S608  # our names
                            f" WHERE {sealed_table.key_column} = $1 AND sealed = $2",
                            row[sealed_table.key_column],
                            row["sealed"],
                            sealed,
                        )
            if not rows:
                break
            last_key = rows[-1][sealed_table.key_column]
    if counts.lost == 0:
        async with database.transaction() as tx:
            await forget_other_vault_keys(tx, vault)
    return counts


async def count_lost_rows(database: Database, vault: Vault) -> int:
    """Count the sealed rows that no key of the ring opens."""
    lost = 0
    for sealed_table in _SEALED_TABLES:
        last_key: Any = None
        while True:
            async with database.transaction() as tx:
                rows = await _fetch_rows(tx, sealed_table, last_key)
            if not rows:
                break
            for row in rows:
                try:
                    vault.open(row["sealed"], owner=sealed_table.owner_of(row))
                except Unsealable:
                    lost += 1
            last_key = rows[-1][sealed_table.key_column]
    return lost


def describe_lost_rows(count: int) -> str:
    """Say what rows that no key opens mean, and what to do."""
    return (
        f"HOLDFAST_VAULT_KEYS does not open {count} of the stored tokens and secrets, sealed "
        f"under another key. Put that key back, behind the first one. Without it, jobs "
        f"whose secrets are lost fail, and the others wait until their owner calls again."
    )


async def _fetch_rows(
    tx: Transaction, sealed_table: _SealedTable, last_key: Any
) -> Sequence[Mapping[str, Any]]:
    return await tx.fetch(
        f"SELECT * FROM {sealed_table.table}"  # noqa: S608  # our names
        # An empty one stands for secrets that a restore has lost: there is nothing to open.
        f" WHERE octet_length(sealed) > 0"
        f"   AND {sealed_table.key_column} > coalesce($1, {sealed_table.lowest_key_sql})"
        f" ORDER BY {sealed_table.key_column} LIMIT $2",
        last_key,
        _BATCH_ROWS,
    )


def _reseal_row(
    vault: Vault, row: Mapping[str, Any], sealed_table: _SealedTable, counts: RotationCounts
) -> bytes | None:
    owner = sealed_table.owner_of(row)
    try:
        opened = vault.open(row["sealed"], owner=owner)
    except Unsealable:
        counts.lost += 1
        return None
    if vault.is_current(row["sealed"]):
        counts.current += 1
        return None
    counts.resealed += 1
    return vault.seal(opened, owner=owner)
