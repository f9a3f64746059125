"""Credentials that subjects lend to their jobs, and the hold on a subject whose token was refused.

A hold is on the subject, not on their jobs: one row, however many jobs wait. It ends with the next
valid token. What runs upstream goes on; we cannot see it until the subject's next authenticated
call.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

import structlog

from schema.accounts import audit
from schema.accounts.audit import AuditAction
from schema.accounts.vault import Secret, Unsealable, Vault
from schema.db.database import Transaction
from schema.db.sql import parse_statement

log = structlog.stdlib.get_logger()

# What can be looked at again with a token, once its subject is not held for want of one.
_RELEASE_RUNS: Final = """due AS MATERIALIZED (
    -- Before the subject is locked: whoever ends one of these runs counts the subject after it.
    -- In one order: another call may make them due too.
    SELECT id
      FROM remote_run
     WHERE subject_id = :subject_id
       AND (state = 'unknown' OR (state = 'bound' AND desired = 'dead'))
       AND EXISTS (SELECT FROM subject WHERE id = :subject_id AND hold = 'credentials')
     ORDER BY id
       FOR NO KEY UPDATE OF remote_run
), released AS (
    UPDATE remote_run
       SET due_at = now()
      FROM due
     WHERE remote_run.id = due.id
    RETURNING remote_run.id
)"""

_UPSERT_SUBJECT: Final = parse_statement(f"""
WITH {_RELEASE_RUNS}, caller AS (
    INSERT INTO subject (id, name)
    SELECT :subject_id, :name FROM (SELECT count(*) FROM released) AS earlier
    ON CONFLICT (id) DO UPDATE
       SET name = excluded.name
     WHERE subject.name <> excluded.name
), kept AS (
    -- The stored token stays if it is the same, allows more, or expires later.
    SELECT token_sha = :token_sha AS same
      FROM credential
     WHERE subject_id = :subject_id
       AND state = 'valid'
       AND coalesce(expires_at > now(), true)
       AND (token_sha = :token_sha
            OR NOT grants <@ :grants
            OR coalesce(expires_at, 'infinity')
               > coalesce(:expires_at::timestamptz, 'infinity'))
), noted AS (
    UPDATE credential
       SET seen_at = now(),
           grants = CASE WHEN same THEN :grants ELSE grants END
      FROM kept
     WHERE subject_id = :subject_id
       AND (seen_at < now() - interval '5 minutes' OR (same AND grants <> :grants))
)
SELECT EXISTS (SELECT FROM kept) AS is_kept,
       EXISTS (SELECT FROM subject WHERE id = :subject_id AND hold = 'credentials') AS is_held
""")  # noqa: S608  # our own words

# The statement before has locked the subject, and so does a disconnect, which deletes both rows.
_UPSERT_CREDENTIAL: Final = parse_statement("""
INSERT INTO credential AS lent (subject_id, sealed, token_sha, grants, expires_at)
SELECT :subject_id, :sealed::bytea, :token_sha::bytea, :grants::text[], :expires_at::timestamptz
 WHERE :connection_id::uuid IS NULL
    OR EXISTS (SELECT FROM connected_account
                WHERE subject_id = :subject_id
                  AND connection_id = :connection_id)
ON CONFLICT (subject_id) DO UPDATE
   SET sealed = :sealed,
       token_sha = :token_sha,
       grants = :grants,
       expires_at = :expires_at,  -- `excluded` would be read
       version = lent.version + 1,
       state = 'valid',
       updated_at = now(),
       seen_at = now()
RETURNING version
""")

_LOCK_SUBJECT: Final = parse_statement(f"""
WITH {_RELEASE_RUNS}
SELECT subject.id
  FROM subject, (SELECT count(*) FROM released) AS earlier
 WHERE subject.id = :subject_id
   FOR NO KEY UPDATE OF subject
""")  # noqa: S608  # our own words

# What comes after a token allows what that one did. Another token of the subject stays if it works.
_SUCCEED_CREDENTIAL: Final = parse_statement("""
INSERT INTO credential AS lent (subject_id, sealed, token_sha, grants, expires_at)
VALUES (:subject_id, :sealed, :token_sha, :grants, :expires_at)
ON CONFLICT (subject_id) DO UPDATE
   SET sealed = :sealed,
       token_sha = :token_sha,
       grants = CASE WHEN lent.token_sha = :previous_sha THEN lent.grants ELSE :grants END,
       expires_at = :expires_at,
       version = lent.version + 1,
       state = 'valid',
       updated_at = now()
 WHERE lent.token_sha = :previous_sha
    OR lent.state <> 'valid'
    OR lent.expires_at <= now()
RETURNING version
""")

# Separate statements: they see a hold that came while the first one waited for the subject.
_RELEASE_HOLD: Final = (
    """
    -- In one order: a worker may be writing that several of them are due again.
    WITH held AS MATERIALIZED (
        SELECT namespace
          FROM poll_group
         WHERE subject_id = $1
           AND due_at IS NOT NULL
           AND EXISTS (SELECT FROM subject WHERE id = $1 AND hold = 'credentials')
         ORDER BY namespace
           FOR NO KEY UPDATE OF poll_group
    )
    UPDATE poll_group
       SET due_at = now()
      FROM held
     WHERE poll_group.subject_id = $1
       AND poll_group.namespace = held.namespace
    """,
    """
    UPDATE subject
       SET hold = NULL,
           held_at = NULL
     WHERE id = $1
       AND hold = 'credentials'
    """,
)

# The subject is locked first, as by a call that brings a token.
_MARK_REFUSED: Final = """
WITH locked AS MATERIALIZED (
    SELECT id FROM subject WHERE id = $1 FOR NO KEY UPDATE
), refused AS (
    UPDATE credential
       SET state = 'refused',
           updated_at = now()
     WHERE subject_id = (SELECT id FROM locked)
       AND version = $2
       AND state = 'valid'
    RETURNING subject_id
), held AS (
    UPDATE subject
       SET hold = 'credentials',
           held_at = now()
      FROM refused
     WHERE subject.id = refused.subject_id
       AND subject.hold IS NULL
)
SELECT count(*) FROM refused
"""

# A call may have brought a token since the look at the credential: the locks show what it wrote.
_HOLD_SUBJECT: Final = """
WITH locked AS MATERIALIZED (
    SELECT id FROM subject WHERE id = $1 FOR NO KEY UPDATE
), lent AS MATERIALIZED (
    SELECT state = 'valid' AND coalesce(expires_at > now(), true) AS is_usable
      FROM credential
     WHERE subject_id = (SELECT id FROM locked)
       FOR UPDATE
)
UPDATE subject
   SET hold = 'credentials',
       held_at = now()
 WHERE id = $1
   AND hold IS NULL
   AND NOT EXISTS (SELECT FROM lent WHERE is_usable)
"""

_SELECT_CREDENTIAL: Final = """
SELECT sealed, version, coalesce(expires_at > now(), true) AS alive
  FROM credential
 WHERE subject_id = $1
   AND state = 'valid'
"""

_SELECT_VERSION: Final = """
SELECT version
  FROM credential
 WHERE subject_id = $1
   AND token_sha = $2
   AND state = 'valid'
"""

# The row stays: its version goes on with the next token.
_EMPTY_REFUSED: Final = """
UPDATE credential
   SET sealed = ''
 WHERE subject_id = $1
   AND version = $2
   AND state = 'refused'
"""

_DELETE_IDLE: Final = """
DELETE FROM credential
 WHERE seen_at < now() - $1::interval
   -- A schedule fires while nobody calls, as long as the token lives.
   AND NOT (state = 'valid'
            AND coalesce(expires_at > now(), true)
            AND EXISTS (
                    SELECT FROM schedule
                     WHERE schedule.subject_id = credential.subject_id
                       AND schedule.due_at IS NOT NULL))
   AND NOT EXISTS (
           SELECT FROM restored_subject AS restored
            WHERE restored.subject_id = credential.subject_id
              AND restored.reconciled_at IS NULL)
   AND NOT EXISTS (
           SELECT FROM job
            WHERE job.subject_id = credential.subject_id
              AND job.finished_at IS NULL)
   AND NOT EXISTS (
           SELECT FROM remote_run AS run
            WHERE run.subject_id = credential.subject_id
              AND run.state IN ('posting', 'unknown', 'bound'))
   AND NOT EXISTS (
           SELECT FROM poll_group AS polled
            WHERE polled.subject_id = credential.subject_id
              AND polled.due_at IS NOT NULL)
"""

_IDLE_AFTER: Final = timedelta(minutes=10)
"""How long a token that nothing needs is stored after its subject's last call."""


@dataclass(frozen=True, slots=True)
class DecryptedToken:
    """A subject's token, decrypted for one call, and the version that a refusal has to name."""

    token: Secret
    version: int


async def save_credential(
    tx: Transaction,
    vault: Vault,
    *,
    subject_id: str,
    name: str,
    token: Secret,
    expires_at: datetime | None,
    grants: Sequence[str] = (),
    client: str | None = None,
    connection_id: UUID | None = None,
) -> bool:
    """Save the token that a subject just proved to be valid, and release their hold.

    A stored token that is still valid stays if the new one allows less, or expires sooner.

    Args:
        connection_id: of the connected account that the token is of; None: they have sent it.

    Returns:
        Whether the token may be used; else they have disconnected the account meanwhile, and
        nothing was stored.
    """
    token_sha = _digest(token)
    stored = await tx.fetchrow(
        *_UPSERT_SUBJECT.bind(
            subject_id=subject_id,
            name=name,
            token_sha=token_sha,
            grants=list(grants),
            expires_at=expires_at,
        )
    )
    assert stored is not None  # noqa: S101  # each of its columns is a subquery
    if not stored["is_kept"]:
        version = await tx.fetchval(
            *_UPSERT_CREDENTIAL.bind(
                subject_id=subject_id,
                sealed=vault.seal(token, owner=credential_owner(subject_id)),
                token_sha=token_sha,
                grants=list(grants),
                expires_at=expires_at,
                connection_id=connection_id,
            )
        )
        if version is None:
            return False
        await audit.write_audit_entry(
            tx, AuditAction.CREDENTIAL_LENT, subject_id=subject_id, client=client, version=version
        )
    # Also with a token that was kept: a worker that has met none may have held them since.
    if stored["is_held"] or not stored["is_kept"]:
        for statement in _RELEASE_HOLD:
            await tx.execute(statement, subject_id)
    return True


async def lock_lender(tx: Transaction, subject_id: str) -> None:
    """Lock a subject before `succeed_token`; if they are held for want of a token, wake their runs.

    Before any row of theirs is locked that a disconnect locks after the subject.
    """
    await tx.execute(*_LOCK_SUBJECT.bind(subject_id=subject_id))


async def succeed_token(
    tx: Transaction,
    vault: Vault,
    *,
    subject_id: str,
    previous: Secret,
    token: Secret,
    expires_at: datetime | None,
    grants: Sequence[str],
) -> None:
    """Store what came after a token while nobody called, and release the hold of its subject.

    Another token of theirs stays if it is valid. `lock_lender` comes before.

    Args:
        previous: the token before.
        grants: what the next one allows, unless the one before is stored: then they are its own.
    """
    version = await tx.fetchval(
        *_SUCCEED_CREDENTIAL.bind(
            subject_id=subject_id,
            sealed=vault.seal(token, owner=credential_owner(subject_id)),
            token_sha=_digest(token),
            previous_sha=_digest(previous),
            grants=list(grants),
            expires_at=expires_at,
        )
    )
    if version is None:
        return
    await audit.write_audit_entry(
        tx, AuditAction.CREDENTIAL_LENT, subject_id=subject_id, client=None, version=version
    )
    for statement in _RELEASE_HOLD:
        await tx.execute(statement, subject_id)


def open_token(
    vault: Vault, subject_id: str, *, sealed: bytes, version: int
) -> DecryptedToken | None:
    """Decrypt a token that was read with a job; none if its key has left the ring."""
    try:
        return DecryptedToken(vault.open(sealed, owner=credential_owner(subject_id)), version)
    except Unsealable:
        return None


class TokenHolder(Protocol):
    """A row that was read together with the token of its subject, as claims and leases are."""

    @property
    def subject_id(self) -> str:
        """Whose token it is."""
        ...

    @property
    def sealed_token(self) -> bytes | None:
        """The token, encrypted; None: the subject had no usable one."""
        ...

    @property
    def token_version(self) -> int | None:
        """Its version."""
        ...


def open_held_token(vault: Vault, holder: TokenHolder) -> DecryptedToken | None:
    """Decrypt the token that was read with a row.

    Returns:
        None if there was none, or its key has left the ring: `load_token` then says what is wrong.
    """
    if holder.sealed_token is None or holder.token_version is None:
        return None
    return open_token(
        vault, holder.subject_id, sealed=holder.sealed_token, version=holder.token_version
    )


async def load_token(tx: Transaction, vault: Vault, subject_id: str) -> DecryptedToken | None:
    """Decrypt a subject's token for one call; without a usable one, hold their jobs."""
    row = await tx.fetchrow(_SELECT_CREDENTIAL, subject_id)
    if row is None:
        await tx.execute(_HOLD_SUBJECT, subject_id)
        return None
    if row["alive"]:
        token = open_token(vault, subject_id, sealed=row["sealed"], version=row["version"])
        if token is not None:
            return token
        log.error("credential.unsealable", subject=subject_id)
    await mark_credential_refused(tx, subject_id, version=row["version"])
    return None


async def mark_credential_refused(tx: Transaction, subject_id: str, *, version: int) -> None:
    """Hold a subject's jobs, because the Hub answered 401 to this version of their token.

    A late refusal of a token that was replaced since changes nothing.
    """
    if await tx.fetchval(_MARK_REFUSED, subject_id, version):
        await audit.write_audit_entry(
            tx, AuditAction.CREDENTIAL_REFUSED, subject_id=subject_id, version=version
        )


async def withdraw_token(tx: Transaction, subject_id: str, token: Secret) -> None:
    """Hold a subject's jobs, because the token that they use was withdrawn here.

    It is deleted. Another token of the subject, and what runs upstream, go on.
    """
    version = await tx.fetchval(_SELECT_VERSION, subject_id, _digest(token))
    if version is not None:
        await mark_credential_refused(tx, subject_id, version=version)
        await tx.execute(_EMPTY_REFUSED, subject_id, version)


async def delete_idle_credentials(tx: Transaction, *, clock_lead: timedelta = timedelta(0)) -> None:
    """Delete the tokens of subjects who have nothing open and have not called for a while.

    Args:
        clock_lead: by how much the clock may be ahead of the times of their last calls.
    """
    await tx.execute(_DELETE_IDLE, _IDLE_AFTER + clock_lead)


def credential_owner(subject_id: str) -> str:
    """Return what the sealed token of a subject is bound to."""
    return f"credential/{subject_id}"


def _digest(token: Secret) -> bytes:
    return hashlib.sha256(token.reveal().encode()).digest()
