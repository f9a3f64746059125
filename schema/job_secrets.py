"""The secrets of a job: sealed when it is submitted, opened for its launch, and then wiped.

Nobody can read them back. A trigger deletes them with the move that takes a job out of the queue
and the launch, whichever it is; a job that is queued again still has them.
"""

import json
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from schema.database import Transaction
from schema.vault import Secret, Vault

_KEEP: Final = """
INSERT INTO job_secret (job_id, subject_id, sealed) VALUES ($1, $2, $3)
ON CONFLICT (job_id) DO NOTHING
"""

_SEALED: Final = "SELECT subject_id, sealed FROM job_secret WHERE job_id = $1"


async def keep(
    tx: Transaction, vault: Vault, job_id: UUID, subject_id: str, secrets: Mapping[str, Secret]
) -> None:
    """Seal the secrets of a job that is being submitted."""
    if not secrets:
        return
    written = json.dumps({name: secret.reveal() for name, secret in secrets.items()})
    sealed = vault.seal(Secret(written), owner=bound_to(subject_id, job_id))
    await tx.execute(_KEEP, job_id, subject_id, sealed)


async def reveal(tx: Transaction, vault: Vault, job_id: UUID) -> dict[str, Secret]:
    """Open the secrets of a job, for its launch.

    Raises:
        Unsealable: their key has left the ring.
    """
    row = await tx.fetchrow(_SEALED, job_id)
    if row is None:
        return {}
    written = vault.open(row["sealed"], owner=bound_to(row["subject_id"], job_id))
    return {name: Secret(text) for name, text in json.loads(written.reveal()).items()}


def bound_to(subject_id: str, job_id: UUID) -> str:
    """Say what the sealed secrets of a job are bound to."""
    return f"job/{subject_id}/{job_id}"
