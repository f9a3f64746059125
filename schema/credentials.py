"""The lending of credentials: remember, lend, hold when the Hub refuses one, release with the next.

A hold stands on the subject, not on their jobs: one row, however many jobs wait. What runs upstream
goes on; only our sight of it is gone until the subject's next authenticated call.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from schema.database import Transaction
from schema.vault import Secret, Unsealable, Vault

log = structlog.stdlib.get_logger()

_REMEMBER: Final = """
WITH caller AS (
    INSERT INTO subject (id, name) VALUES ($1, $2)
    ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE subject.name <> excluded.name
)
SELECT token_sha = $3 AND state = 'valid' FROM credential WHERE subject_id = $1
"""

_LEND: Final = """
INSERT INTO credential AS lent (subject_id, sealed, token_sha, expires_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (subject_id) DO UPDATE
   SET sealed = excluded.sealed, token_sha = excluded.token_sha, expires_at = excluded.expires_at,
       version = lent.version + 1, state = 'valid', updated_at = now()
"""

# Statements of their own, in the order of locks: run, subject, poll group.
_RELEASE: Final = (
    """
    UPDATE remote_run SET due_at = now()
     WHERE subject_id = $1 AND (state = 'unknown' OR (state = 'bound' AND desired = 'dead'))
       AND EXISTS (SELECT FROM subject WHERE id = $1 AND hold = 'credentials')
    """,
    """
    UPDATE poll_group SET due_at = now()
     WHERE subject_id = $1 AND due_at IS NOT NULL
       AND EXISTS (SELECT FROM subject WHERE id = $1 AND hold = 'credentials')
    """,
    """
    UPDATE subject SET hold = NULL, held_at = NULL WHERE id = $1 AND hold = 'credentials'
    """,
)

_REFUSED: Final = """
WITH refused AS (
    UPDATE credential SET state = 'refused', updated_at = now()
     WHERE subject_id = $1 AND version = $2 AND state = 'valid'
    RETURNING subject_id
)
UPDATE subject SET hold = 'credentials', held_at = now()
  FROM refused WHERE subject.id = refused.subject_id AND subject.hold IS NULL
"""

_LENT: Final = """
SELECT sealed, version FROM credential WHERE subject_id = $1 AND state = 'valid'
"""


@dataclass(frozen=True, slots=True)
class Lent:
    """A subject's token, opened for one call, and the version a refusal of it is about."""

    token: Secret
    version: int


async def remember(
    tx: Transaction,
    vault: Vault,
    *,
    subject_id: str,
    name: str,
    token: Secret,
    expires_at: datetime | None,
) -> None:
    """Keep the token a subject just proved to be valid, and let go of what waited for one."""
    sha = hashlib.sha256(token.reveal().encode()).digest()
    if await tx.fetchval(_REMEMBER, subject_id, name, sha):
        return
    sealed = vault.seal(token, owner=subject_id)
    await tx.execute(_LEND, subject_id, sealed, sha, expires_at)
    for statement in _RELEASE:
        await tx.execute(statement, subject_id)


async def lend(tx: Transaction, vault: Vault, subject_id: str) -> Lent | None:
    """Open a subject's token for one call; none if it was refused, or its key has left the ring."""
    row = await tx.fetchrow(_LENT, subject_id)
    if row is None:
        return None
    try:
        return Lent(vault.open(row["sealed"], owner=subject_id), row["version"])
    except Unsealable:
        log.exception("credential.unsealable", subject=subject_id)
        await refused(tx, subject_id, version=row["version"])
        return None


async def refused(tx: Transaction, subject_id: str, *, version: int) -> None:
    """Hold a subject's jobs: the Hub answered 401 to this version of their token.

    A late refusal of a token that has been replaced since changes nothing.
    """
    await tx.execute(_REFUSED, subject_id, version)
