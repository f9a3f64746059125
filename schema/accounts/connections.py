"""Connected accounts: accounts of the Hub that belong to sign-ins at an authorization server.

    connected ──refreshed──▶ connected (next version)
        └─────refused──────▶ refused (no tokens)          connect again: a new connection

A person connects once, in a browser; afterwards a call with their sign-in acts with these tokens.
The Hub's refresh token is for one use: whoever uses it has to store the next one. So one process at
a time refreshes, under a lease, and what it got is stored by connection and version. A connection
has an id of its own, because a row that was deleted and made again begins with version 1 again.

Each function runs in a transaction that acts for the sign-in; those that write rows act for the
subject as well (`row_security`).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from pydantic import BaseModel

from schema.accounts import audit, credentials
from schema.accounts.audit import AuditAction
from schema.accounts.tables import ConnectionState
from schema.accounts.vault import Secret, Unsealable, Vault
from schema.common import ids
from schema.db.database import Transaction
from schema.db.sql import parse_statement

log = structlog.stdlib.get_logger()

REFRESH_LEASE: Final = timedelta(seconds=30)
"""Longer than a request for tokens may take."""
_EXPIRES_SOON: Final = timedelta(minutes=1)
"""A token that lives no longer than this is refreshed before it is used."""
_REFRESH_AHEAD: Final = timedelta(minutes=5)
"""How long before its end a worker refreshes a token, at most: an outage of the Hub may pass."""
_REFRESH_PAUSE: Final = timedelta(seconds=15)
"""How long workers leave a connection alone after an attempt that failed, all of them together."""
_FRESH: Final = timedelta(minutes=1)
_USE_RESOLUTION: Final = timedelta(hours=1)
"""How exactly the last use is known: a call does not write a row each time."""

_UPSERT_SUBJECT: Final = """
INSERT INTO subject (id, name) VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE
   SET name = excluded.name
 WHERE subject.name <> excluded.name
"""

_UPSERT_CONNECTION: Final = parse_statement("""
INSERT INTO connected_account (
    sign_in_id, connection_id, issuer, subject_id, sealed, grants, expires_at)
VALUES (:sign_in_id, :connection_id, :issuer, :subject_id, :sealed, :grants,
        now() + :expires_in::interval)
ON CONFLICT (sign_in_id) DO UPDATE
   SET connection_id = excluded.connection_id,
       issuer = excluded.issuer,
       subject_id = excluded.subject_id,
       sealed = excluded.sealed,
       grants = excluded.grants,
       expires_at = excluded.expires_at,
       version = 1,
       state = 'connected',
       leased_until = NULL,
       connected_at = now(),
       updated_at = now(),
       used_at = now()
""")

_SELECT_CONNECTION: Final = """
SELECT sign_in_id, connection_id, subject_id, sealed, version, state,
       coalesce(expires_at < now() + $2::interval, false) AS expires_soon,
       coalesce(leased_until > now(), false) AS is_leased,
       used_at < now() - $3::interval AS is_use_due,
       updated_at > now() - $4::interval AS is_fresh
  FROM connected_account
 WHERE sign_in_id = $1
"""

_RECORD_USE: Final = "UPDATE connected_account SET used_at = now() WHERE sign_in_id = $1"

_LEASE_REFRESH: Final = parse_statement("""
UPDATE connected_account
   SET leased_until = now() + :lease::interval
 WHERE sign_in_id = :sign_in_id
   AND connection_id = :connection_id
   AND version = :version
   AND state = 'connected'
   -- A lease that ends later than any was given: the clock has been set back.
   AND (leased_until IS NULL OR leased_until NOT BETWEEN now() AND now() + :lease::interval)
RETURNING version
""")

# Neither the lease nor the state is compared: these tokens are the only ones that still count.
_STORE_REFRESHED: Final = parse_statement("""
UPDATE connected_account
   SET sealed = :sealed,
       grants = coalesce(:grants::text[], grants),
       expires_at = now() + :expires_in::interval,
       version = version + 1,
       state = 'connected',
       leased_until = NULL,
       updated_at = now()
 WHERE sign_in_id = :sign_in_id
   AND connection_id = :connection_id
   AND version = :version
RETURNING version
""")

# It lapses instead of going: workers try what was tried longest ago first.
_RELEASE_REFRESH: Final = """
UPDATE connected_account
   SET leased_until = now()
 WHERE sign_in_id = $1
   AND connection_id = $2
   AND version = $3
"""

# Where jobs or a schedule of the account may need a token, and have none that goes on.
_LEASE_DUE: Final = parse_statement("""
WITH due AS MATERIALIZED (
    SELECT sign_in_id
      FROM connected_account AS connected
     WHERE state = 'connected'
       AND expires_at < now() + :ahead::interval
       -- A token that is short-lived is used for most of its life.
       AND expires_at < now() + (expires_at - updated_at) / 4
       -- As of a call; and after an attempt that failed, workers wait.
       AND (leased_until IS NULL
            OR leased_until NOT BETWEEN now() - :pause::interval AND now() + :lease::interval)
       AND (EXISTS (SELECT FROM credential WHERE subject_id = connected.subject_id)
            OR EXISTS (SELECT FROM schedule
                        WHERE subject_id = connected.subject_id
                          AND due_at IS NOT NULL))
       AND NOT EXISTS (
               SELECT FROM credential AS lent
                WHERE lent.subject_id = connected.subject_id
                  AND lent.state = 'valid'
                  AND coalesce(lent.expires_at, 'infinity') > now() + :ahead::interval)
     ORDER BY leased_until NULLS FIRST, expires_at
     LIMIT :limit
       FOR NO KEY UPDATE OF connected SKIP LOCKED
)
UPDATE connected_account AS connected
   SET leased_until = now() + :lease::interval
  FROM due
 WHERE connected.sign_in_id = due.sign_in_id
RETURNING connected.sign_in_id, connection_id, subject_id, sealed, version, state,
          true AS expires_soon, true AS is_leased, false AS is_use_due, false AS is_fresh
""")

_SELECT_LIFE: Final = """
SELECT expires_at, grants
  FROM connected_account
 WHERE sign_in_id = $1
   AND connection_id = $2
"""

_MARK_REFUSED: Final = """
UPDATE connected_account
   SET state = 'refused',
       sealed = '',
       expires_at = NULL,
       leased_until = NULL,
       updated_at = now()
 WHERE sign_in_id = $1
   AND connection_id = $2
   AND version = $3
   AND state = 'connected'
RETURNING version
"""

# Before the row, as whoever connects: in one order.
_LOCK_SUBJECT: Final = """
SELECT id
  FROM subject
 WHERE id = (SELECT subject_id
               FROM connected_account
              WHERE sign_in_id = $1
                AND connection_id = $2)
   FOR NO KEY UPDATE
"""

_DELETE_CONNECTION: Final = """
DELETE FROM connected_account
 WHERE sign_in_id = $1
   AND connection_id = $2
RETURNING sign_in_id, connection_id, subject_id, sealed
"""

_DELETE_SESSION: Final = "DELETE FROM connected_account WHERE sign_in_id = $1 RETURNING subject_id"

_DELETE_UNUSED: Final = """
DELETE FROM connected_account
 WHERE sign_in_id IN (
           SELECT sign_in_id FROM connected_account WHERE used_at < now() - $1::interval LIMIT $2)
   -- A call may have used it while this waited for its row.
   AND used_at < now() - $1::interval
"""


@dataclass(frozen=True, slots=True)
class HubTokens:
    """What the Hub gave for one consent."""

    access: Secret
    refresh: Secret


@dataclass(frozen=True, slots=True)
class DeletedConnection:
    """A connection that was deleted."""

    tokens: HubTokens | None
    """None if the Hub refused them before, or no key of the ring opens them."""


@dataclass(frozen=True, slots=True)
class AccountConnection:
    """A connected account as one transaction has seen it."""

    sign_in_id: str
    connection_id: UUID
    subject_id: str
    """The account at the Hub."""
    version: int
    state: ConnectionState
    expires_soon: bool
    is_leased: bool
    """Whether some process refreshes the tokens right now."""
    is_fresh: bool
    """Whether the tokens were stored within the last minute."""
    is_use_due: bool
    """Whether `record_use` has something to do."""
    tokens: HubTokens | None
    """None if the Hub refused them, or no key of the ring opens them."""


class _SealedTokens(BaseModel):
    access: str
    refresh: str


def hash_sign_in(issuer: str, subject: str) -> str:
    """Return the key of a sign-in: who it is at which authorization server, and not readable."""
    return hashlib.sha256(json.dumps([issuer, subject]).encode()).hexdigest()


def connection_owner(sign_in_id: str, connection_id: UUID, subject_id: str) -> str:
    """Return what the sealed tokens of a connection are bound to."""
    return f"connected_account/{sign_in_id}/{connection_id}/{subject_id}"


async def connect_account(
    tx: Transaction,
    vault: Vault,
    *,
    sign_in_id: str,
    issuer: str,
    subject_id: str,
    name: str,
    tokens: HubTokens,
    expires_in: timedelta | None,
    grants: Sequence[str] = (),
) -> None:
    """Store the account that a person has confirmed, instead of the one before.

    Args:
        issuer: the authorization server of the sign-in.
        subject_id: the account at the Hub.
        name: of that account.
        expires_in: how long the access token lives; None: the Hub did not say.
        grants: the scopes that the Hub gave.
    """
    connection_id = ids.new_id()
    await tx.execute(_UPSERT_SUBJECT, subject_id, name)
    await tx.execute(
        *_UPSERT_CONNECTION.bind(
            sign_in_id=sign_in_id,
            connection_id=connection_id,
            issuer=issuer,
            subject_id=subject_id,
            sealed=_seal(vault, tokens, connection_owner(sign_in_id, connection_id, subject_id)),
            grants=list(grants),
            expires_in=expires_in,
        )
    )
    await audit.write_audit_entry(
        tx, AuditAction.ACCOUNT_CONNECTED, subject_id=subject_id, issuer=issuer
    )


async def load_connection(
    tx: Transaction, vault: Vault, sign_in_id: str
) -> AccountConnection | None:
    """Return the account of a sign-in; None if there is none."""
    row = await tx.fetchrow(_SELECT_CONNECTION, sign_in_id, _EXPIRES_SOON, _USE_RESOLUTION, _FRESH)
    return None if row is None else _read_connection(vault, row)


async def lease_due_refreshes(
    tx: Transaction, vault: Vault, *, limit: int
) -> list[AccountConnection]:
    """Take the right to refresh tokens that expire, where jobs or schedules need them.

    A subject whose own token goes on needs none of it.

    Args:
        limit: how many, at most.
    """
    statement = _LEASE_DUE.bind(
        ahead=_REFRESH_AHEAD, pause=_REFRESH_PAUSE, lease=REFRESH_LEASE, limit=limit
    )
    return [_read_connection(vault, row) for row in await tx.fetch(*statement)]


def _read_connection(vault: Vault, row: Any) -> AccountConnection:
    return AccountConnection(
        sign_in_id=row["sign_in_id"],
        connection_id=row["connection_id"],
        subject_id=row["subject_id"],
        version=row["version"],
        state=ConnectionState(row["state"]),
        expires_soon=row["expires_soon"],
        is_leased=row["is_leased"],
        is_use_due=row["is_use_due"],
        is_fresh=row["is_fresh"],
        tokens=_open_tokens(vault, row),
    )


async def record_use(tx: Transaction, sign_in_id: str) -> None:
    """Record that a connection was used: one that is not is deleted in the end."""
    await tx.execute(_RECORD_USE, sign_in_id)


async def lease_refresh(tx: Transaction, connection: AccountConnection) -> bool:
    """Take the right to use the refresh token of this version, for `REFRESH_LEASE`.

    Returns:
        Whether it was given; else another process has it, or the version is no longer the latest.
    """
    statement = _LEASE_REFRESH.bind(
        lease=REFRESH_LEASE,
        sign_in_id=connection.sign_in_id,
        connection_id=connection.connection_id,
        version=connection.version,
    )
    return await tx.fetchval(*statement) is not None


async def store_refreshed_tokens(
    tx: Transaction,
    vault: Vault,
    connection: AccountConnection,
    tokens: HubTokens,
    *,
    expires_in: timedelta | None,
    grants: Sequence[str] | None = None,
) -> bool:
    """Store what the Hub gave for the refresh token of this version.

    Args:
        connection: whose refresh token was used.
        tokens: what came for it.
        expires_in: how long the access token lives; None: the Hub did not say.
        grants: its scopes; None: the Hub did not say, so they are those of before.

    Returns:
        Whether it is stored; else the person has disconnected, or connected again.
    """
    owner = connection_owner(connection.sign_in_id, connection.connection_id, connection.subject_id)
    statement = _STORE_REFRESHED.bind(
        sealed=_seal(vault, tokens, owner),
        grants=None if grants is None else list(grants),
        expires_in=expires_in,
        sign_in_id=connection.sign_in_id,
        connection_id=connection.connection_id,
        version=connection.version,
    )
    return await tx.fetchval(*statement) is not None


async def lend_refreshed_token(
    tx: Transaction, vault: Vault, connection: AccountConnection, tokens: HubTokens
) -> None:
    """Give the jobs of the account the access token that was just stored.

    Args:
        connection: before it was refreshed.
        tokens: after that.
    """
    row = await tx.fetchrow(_SELECT_LIFE, connection.sign_in_id, connection.connection_id)
    if row is not None and connection.tokens is not None:
        await credentials.succeed_token(
            tx,
            vault,
            subject_id=connection.subject_id,
            previous=connection.tokens.access,
            token=tokens.access,
            expires_at=row["expires_at"],
            grants=row["grants"],
        )


async def release_refresh(tx: Transaction, connection: AccountConnection) -> None:
    """Give the lease back: the Hub did not answer, and the next call may try again.

    A worker tries it after a pause.
    """
    await tx.execute(
        _RELEASE_REFRESH, connection.sign_in_id, connection.connection_id, connection.version
    )


async def mark_connection_refused(tx: Transaction, connection: AccountConnection) -> None:
    """Delete the tokens of this version, which the Hub has refused; its person connects again."""
    if await tx.fetchval(
        _MARK_REFUSED, connection.sign_in_id, connection.connection_id, connection.version
    ):
        await audit.write_audit_entry(
            tx, AuditAction.CONNECTION_REFUSED, subject_id=connection.subject_id
        )


async def disconnect_account(
    tx: Transaction, vault: Vault, *, sign_in_id: str, connection_id: UUID
) -> DeletedConnection | None:
    """Delete a connection that a person has seen, and withdraw its token from their jobs.

    Returns:
        Its tokens, to revoke them; None: it is no longer there, so nothing was deleted.
    """
    await tx.execute(_LOCK_SUBJECT, sign_in_id, connection_id)
    row = await tx.fetchrow(_DELETE_CONNECTION, sign_in_id, connection_id)
    if row is None:
        return None
    await audit.write_audit_entry(
        tx, AuditAction.ACCOUNT_DISCONNECTED, subject_id=row["subject_id"]
    )
    tokens = _open_tokens(vault, row)
    if tokens is not None:
        await credentials.withdraw_token(tx, row["subject_id"], tokens.access)
    return DeletedConnection(tokens)


async def end_session(tx: Transaction, sign_in_id: str) -> None:
    """Delete the tokens of a session in a browser; jobs go on with the token lent to them."""
    subject_id = await tx.fetchval(_DELETE_SESSION, sign_in_id)
    if subject_id is not None:
        await audit.write_audit_entry(tx, AuditAction.ACCOUNT_DISCONNECTED, subject_id=subject_id)


async def delete_unused_connections(tx: Transaction, *, period: timedelta, limit: int) -> str:
    """Delete connections that no call has used for a period; return the status of the command."""
    return await tx.execute(_DELETE_UNUSED, period + _USE_RESOLUTION, limit)


def _seal(vault: Vault, tokens: HubTokens, owner: str) -> bytes:
    content = _SealedTokens(access=tokens.access.reveal(), refresh=tokens.refresh.reveal())
    return vault.seal(Secret(content.model_dump_json()), owner=owner)


def _open_tokens(vault: Vault, row: Any) -> HubTokens | None:
    if not row["sealed"]:
        return None
    owner = connection_owner(row["sign_in_id"], row["connection_id"], row["subject_id"])
    try:
        content = _SealedTokens.model_validate_json(vault.open(row["sealed"], owner=owner).reveal())
    except Unsealable:
        log.error("connection.unsealable", subject=row["subject_id"])  # noqa: TRY400  # a key is missing
        return None
    return HubTokens(Secret(content.access), Secret(content.refresh))
