"""Secrets of jobs and of schedules: sealed when they arrive, opened for a launch and for a log.

Nobody can read them back. A job's are looked for in what the job prints before that is stored, so
they stay sealed for as long as it may print; triggers delete them with the transition after which
the job is final and none of its runs is open. A schedule's are sealed anew for each job it starts,
and are deleted with the schedule.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from schema.accounts.vault import Secret, Vault
from schema.db.database import Transaction

_INSERT_JOB_SECRETS: Final = """
INSERT INTO job_secret (job_id, subject_id, sealed)
VALUES ($1, $2, $3)
ON CONFLICT (job_id) DO NOTHING
"""

# Only while the run is posting: after that, no transition may follow that deletes them.
_SAVE_RUN_SECRETS: Final = """
WITH locked AS MATERIALIZED (
    SELECT id FROM job WHERE id = $1 FOR KEY SHARE
), posting AS MATERIALIZED (
    SELECT run.id
      FROM remote_run AS run
      JOIN locked ON locked.id = run.job_id
     WHERE run.id = $2
       AND run.state = 'posting'
       FOR SHARE OF run
)
INSERT INTO job_secret (job_id, subject_id, sealed)
SELECT $1, $3, $4 FROM posting
ON CONFLICT (job_id) DO UPDATE
   SET sealed = excluded.sealed
"""

_SELECT_JOB_SECRETS: Final = "SELECT subject_id, sealed FROM job_secret WHERE job_id = $1"

_INSERT_SCHEDULE_SECRETS: Final = """
INSERT INTO schedule_secret (schedule_id, subject_id, sealed) VALUES ($1, $2, $3)
"""

_SELECT_SCHEDULE_SECRETS: Final = """
SELECT subject_id, sealed FROM schedule_secret WHERE schedule_id = $1
"""


@dataclass(frozen=True, slots=True)
class SecretValues:
    """The values of the secrets of a request, to be compared with those of an earlier one."""

    vault: Vault
    secrets: Mapping[str, Secret]
    owner: str
    """What the digest is bound to: no two requests have the same, unless one repeats the other."""

    def digest(self) -> str | None:
        """Return a digest, which may be stored; None without secrets."""
        return self.vault.digest(self._as_text(), owner=self.owner) if self.secrets else None

    def differ_from(self, earlier_digest: str | None) -> bool:
        """Say whether the values differ from those of an earlier request with the same names."""
        if earlier_digest is None or not self.secrets:
            return False
        return not self.vault.may_have_digest(earlier_digest, self._as_text(), owner=self.owner)

    def _as_text(self) -> Secret:
        values = {name: secret.reveal() for name, secret in self.secrets.items()}
        return Secret(json.dumps(values, sort_keys=True))


def job_secrets_owner(subject_id: str, job_id: UUID) -> str:
    """Return what the sealed secrets of a job are bound to; they open for nothing else."""
    return f"job/{subject_id}/{job_id}"


def schedule_secrets_owner(subject_id: str, schedule_id: UUID) -> str:
    """Return what the sealed secrets of a schedule are bound to; they open for nothing else."""
    return f"schedule/{subject_id}/{schedule_id}"


def webhook_owner(subject_id: str, target_id: UUID) -> str:
    """Return what the sealed secrets of a webhook are bound to; they open for nothing else."""
    return f"webhook/{subject_id}/{target_id}"


async def save_job_secrets(
    tx: Transaction, vault: Vault, job_id: UUID, subject_id: str, secrets: Mapping[str, Secret]
) -> None:
    """Seal the secrets of a job that is being submitted."""
    if secrets:
        sealed = _seal_job_secrets(vault, secrets, owner=job_secrets_owner(subject_id, job_id))
        await tx.execute(_INSERT_JOB_SECRETS, job_id, subject_id, sealed)


async def save_run_secrets(
    tx: Transaction,
    vault: Vault,
    job_id: UUID,
    run_id: UUID,
    subject_id: str,
    secrets: Mapping[str, Secret],
) -> None:
    """Seal what a run is about to be given, the token that is passed to it included."""
    sealed = _seal_job_secrets(vault, secrets, owner=job_secrets_owner(subject_id, job_id))
    await tx.execute(_SAVE_RUN_SECRETS, job_id, run_id, subject_id, sealed)


async def save_schedule_secrets(
    tx: Transaction, vault: Vault, schedule_id: UUID, subject_id: str, secrets: Mapping[str, Secret]
) -> None:
    """Seal the secrets of a schedule that is being created."""
    if secrets:
        sealed = _seal_job_secrets(
            vault, secrets, owner=schedule_secrets_owner(subject_id, schedule_id)
        )
        await tx.execute(_INSERT_SCHEDULE_SECRETS, schedule_id, subject_id, sealed)


async def open_job_secrets(tx: Transaction, vault: Vault, job_id: UUID) -> dict[str, Secret]:
    """Open the secrets of a job, for its launch, and to look for them in its log.

    Raises:
        Unsealable: their key has left the ring.
    """
    row = await tx.fetchrow(_SELECT_JOB_SECRETS, job_id)
    if row is None:
        return {}
    return open_sealed_job_secrets(vault, job_id, row["subject_id"], row["sealed"])


def open_sealed_job_secrets(
    vault: Vault, job_id: UUID, subject_id: str, sealed: bytes
) -> dict[str, Secret]:
    """Open the secrets of a job that were read with it.

    Raises:
        Unsealable: their key has left the ring.
    """
    return _open(vault, sealed, owner=job_secrets_owner(subject_id, job_id))


async def open_schedule_secrets(
    tx: Transaction, vault: Vault, schedule_id: UUID
) -> dict[str, Secret]:
    """Open the secrets of a schedule, to seal them for a job that it starts.

    Raises:
        Unsealable: their key has left the ring.
    """
    row = await tx.fetchrow(_SELECT_SCHEDULE_SECRETS, schedule_id)
    if row is None:
        return {}
    return _open(vault, row["sealed"], owner=schedule_secrets_owner(row["subject_id"], schedule_id))


def _seal_job_secrets(vault: Vault, secrets: Mapping[str, Secret], *, owner: str) -> bytes:
    text = json.dumps({name: secret.reveal() for name, secret in secrets.items()})
    return vault.seal(Secret(text), owner=owner)


def _open(vault: Vault, sealed: bytes, *, owner: str) -> dict[str, Secret]:
    text = vault.open(sealed, owner=owner).reveal()
    return {name: Secret(value) for name, value in json.loads(text).items()}
