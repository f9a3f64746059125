"""The secrets of a schedule: sealed when it is made, copied into each job that it makes.

Nobody can read them back, and they go with the schedule. A job has its own copy, bound to it, which
is wiped as any job's is.
"""

import json
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from schema.database import Transaction
from schema.vault import Secret, Vault

_KEEP: Final = """
INSERT INTO schedule_secret (schedule_id, subject_id, sealed) VALUES ($1, $2, $3)
"""

_SEALED: Final = "SELECT subject_id, sealed FROM schedule_secret WHERE schedule_id = $1"


async def keep(
    tx: Transaction, vault: Vault, schedule_id: UUID, subject_id: str, secrets: Mapping[str, Secret]
) -> None:
    """Seal the secrets of a schedule that is being made."""
    if secrets:
        written = json.dumps({name: secret.reveal() for name, secret in secrets.items()})
        sealed = vault.seal(Secret(written), owner=bound_to(subject_id, schedule_id))
        await tx.execute(_KEEP, schedule_id, subject_id, sealed)


async def reveal(tx: Transaction, vault: Vault, schedule_id: UUID) -> dict[str, Secret]:
    """Open the secrets of a schedule, to seal them for a job of its.

    Raises:
        Unsealable: their key has left the ring.
    """
    row = await tx.fetchrow(_SEALED, schedule_id)
    if row is None:
        return {}
    written = vault.open(row["sealed"], owner=bound_to(row["subject_id"], schedule_id))
    return {name: Secret(text) for name, text in json.loads(written.reveal()).items()}


def bound_to(subject_id: str, schedule_id: UUID) -> str:
    """Say what the sealed secrets of a schedule are bound to."""
    return f"schedule/{subject_id}/{schedule_id}"
