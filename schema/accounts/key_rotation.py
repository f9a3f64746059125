"""The rotation of the key ring: what is sealed under an older key is sealed anew under the first.

It goes through all that is sealed, some rows at a time; each is compared and set, so what changes
meanwhile is left alone: it has been sealed under the first key already.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from schema.accounts import credentials
from schema.accounts import secrets as sealed_secrets
from schema.accounts.vault import Unsealable, Vault
from schema.db.database import Database

_BITE: Final = 200


@dataclass(slots=True)
class Rotated:
    """How many sealed rows there were."""

    current: int = 0
    """Sealed under the first key already."""
    resealed: int = 0
    lost: int = 0
    """Sealed under a key that is not in the ring, and of no use to anybody."""


@dataclass(frozen=True, slots=True)
class _Shelf:
    table: str
    key: str
    first: str
    bound_to: Callable[[Mapping[str, Any]], str]


_SHELVES: Final = (
    _Shelf(
        "credential",
        "subject_id",
        "''",
        lambda row: credentials.bound_to(row["subject_id"]),
    ),
    _Shelf(
        "job_secret",
        "job_id",
        "'00000000-0000-0000-0000-000000000000'::uuid",
        lambda row: sealed_secrets.job_secrets_owner(row["subject_id"], row["job_id"]),
    ),
    _Shelf(
        "schedule_secret",
        "schedule_id",
        "'00000000-0000-0000-0000-000000000000'::uuid",
        lambda row: sealed_secrets.schedule_secrets_owner(row["subject_id"], row["schedule_id"]),
    ),
)


async def rotate(database: Database, vault: Vault) -> Rotated:
    """Seal everything anew that is not sealed under the first key of the ring."""
    rotated = Rotated()
    for shelf in _SHELVES:
        after: Any = None
        while True:
            async with database.transaction() as tx:
                rows = await tx.fetch(
                    f"SELECT * FROM {shelf.table} WHERE {shelf.key} > coalesce($1, {shelf.first})"  # noqa: S608  # our names
                    f" ORDER BY {shelf.key} LIMIT $2",
                    after,
                    _BITE,
                )
                for row in rows:
                    sealed = _resealed(vault, row, shelf, rotated)
                    if sealed is not None:
                        await tx.execute(
                            f"UPDATE {shelf.table} SET sealed = $3"  # noqa: S608  # as above
                            f" WHERE {shelf.key} = $1 AND sealed = $2",
                            row[shelf.key],
                            row["sealed"],
                            sealed,
                        )
            if not rows:
                break
            after = rows[-1][shelf.key]
    return rotated


def _resealed(
    vault: Vault, row: Mapping[str, Any], shelf: _Shelf, rotated: Rotated
) -> bytes | None:
    if vault.is_current(row["sealed"]):
        rotated.current += 1
        return None
    owner = shelf.bound_to(row)
    try:
        opened = vault.open(row["sealed"], owner=owner)
    except Unsealable:
        rotated.lost += 1
        return None
    rotated.resealed += 1
    return vault.seal(opened, owner=owner)
