"""The secrets of a job: sealed when it is submitted, opened for its launch and for its log.

Nobody can read them back. They are looked for in what the job prints before that is kept, so they
stay sealed as long as it may print; triggers delete them with the move after which the job is
final and none of its runs is open, whichever it is.
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

# Only while the run is being posted: later, nobody might come by to wipe them.
_HAND_OVER: Final = """
WITH locked AS MATERIALIZED (
    SELECT id FROM job WHERE id = $1 FOR KEY SHARE
), posting AS MATERIALIZED (
    SELECT run.id FROM remote_run AS run JOIN locked ON locked.id = run.job_id
     WHERE run.id = $2 AND run.state = 'posting' FOR SHARE OF run
)
INSERT INTO job_secret (job_id, subject_id, sealed) SELECT $1, $3, $4 FROM posting
ON CONFLICT (job_id) DO UPDATE SET sealed = excluded.sealed
"""

_SEALED: Final = "SELECT subject_id, sealed FROM job_secret WHERE job_id = $1"


async def keep(
    tx: Transaction, vault: Vault, job_id: UUID, subject_id: str, secrets: Mapping[str, Secret]
) -> None:
    """Seal the secrets of a job that is being submitted."""
    if secrets:
        sealed = _seal(vault, job_id, subject_id, secrets)
        await tx.execute(_KEEP, job_id, subject_id, sealed)


async def hand_over(
    tx: Transaction,
    vault: Vault,
    job_id: UUID,
    run_id: UUID,
    subject_id: str,
    secrets: Mapping[str, Secret],
) -> None:
    """Seal what a run is about to be given, the token it is trusted with included."""
    sealed = _seal(vault, job_id, subject_id, secrets)
    await tx.execute(_HAND_OVER, job_id, run_id, subject_id, sealed)


async def reveal(tx: Transaction, vault: Vault, job_id: UUID) -> dict[str, Secret]:
    """Open the secrets of a job, for its launch, and to look for them in its log.

    Raises:
        Unsealable: their key has left the ring.
    """
    row = await tx.fetchrow(_SEALED, job_id)
    if row is None:
        return {}
    written = vault.open(row["sealed"], owner=bound_to(row["subject_id"], job_id))
    return {name: Secret(text) for name, text in json.loads(written.reveal()).items()}


def _seal(vault: Vault, job_id: UUID, subject_id: str, secrets: Mapping[str, Secret]) -> bytes:
    written = json.dumps({name: secret.reveal() for name, secret in secrets.items()})
    return vault.seal(Secret(written), owner=bound_to(subject_id, job_id))


def bound_to(subject_id: str, job_id: UUID) -> str:
    """Say what the sealed secrets of a job are bound to."""
    return f"job/{subject_id}/{job_id}"
