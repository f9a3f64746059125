"""The audit log: what a subject did, or lent, that is not a transition of a job.

Entries are appended and never changed. The transitions of a job are in its own history,
`job_event`; both name the client program that was used.

A link to an export is sealed and stored nowhere; its entry says that it was made, and for how long.
So its owner sees which links still work, and there are only so many at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

from sqlalchemy import Identity, Index, text
from sqlmodel import Field

from schema.common.errors import TooManyLinks
from schema.db.base import BIGINT, JSON, TEXT, TIMESTAMP, Record, check_in_enum, with_server_default
from schema.db.database import Transaction
from schema.db.sql import parse_statement

_INSERT_ENTRY: Final = parse_statement("""
INSERT INTO audit_entry (subject_id, client, action, handle, facts)
VALUES (:subject_id, :client, :action, :handle, :facts)
""")

MAX_LIVE_LINKS: Final = 50
"""How many links to exports a subject may have at a time."""

# Two calls that make links at the same moment would else count the same ones.
_LOCK_LINKS: Final = "SELECT pg_advisory_xact_lock(hashtextextended('download_link:' || $1, 0))"
_LIST_LIVE_LINKS: Final = """
SELECT handle, facts ->> 'export' AS export, (facts ->> 'expires_at')::timestamptz AS expires_at
  FROM audit_entry
 WHERE subject_id = $1
   AND action = 'link_made'
   AND (facts ->> 'expires_at')::timestamptz > now()
 ORDER BY id
"""


class AuditAction(StrEnum):
    """What is recorded. A refused sign-in belongs to no subject, so it is not."""

    WORKSPACE_MADE = "workspace_made"
    WORKSPACE_UPDATED = "workspace_updated"
    """Its name or settings changed, or it is no longer archived; the facts are the new values."""
    WORKSPACE_ARCHIVED = "workspace_archived"
    SCHEDULE_MADE = "schedule_made"
    SCHEDULE_UPDATED = "schedule_updated"
    """Its times, rules or name changed, or it was paused, resumed, or told to fire now."""
    SCHEDULE_DELETED = "schedule_deleted"
    CREDENTIAL_LENT = "credential_lent"
    """A new version of a subject's token is stored for their jobs."""
    CREDENTIAL_REFUSED = "credential_refused"
    """The Hub no longer accepts that version."""
    ACCOUNT_CONNECTED = "account_connected"
    """A person connected this account with a sign-in at the authorization server in the facts."""
    ACCOUNT_DISCONNECTED = "account_disconnected"
    CONNECTION_REFUSED = "connection_refused"
    """The Hub refused to refresh the tokens of a connected account; they are deleted."""
    LINK_MADE = "link_made"
    """A link to an export of a job was made; the facts are which, and until when."""
    SUBJECT_LIMITED = "subject_limited"
    """The operator set how many of their jobs may run at a time."""
    SUBJECT_HELD = "subject_held"
    """The operator stopped all launches of theirs."""
    SUBJECT_RELEASED = "subject_released"
    SUBJECT_EXPORTED = "subject_exported"
    """The operator wrote all that is stored of them into a file."""
    SUBJECT_FORGOTTEN = "subject_forgotten"
    """The operator deleted somebody; the facts are sums, and no entry says who it was."""


class AuditEntry(Record):
    """One thing that was done."""

    id: int = Field(primary_key=True, sa_type=BIGINT, sa_column_args=[Identity(always=True)])
    at: datetime = Field(
        sa_type=TIMESTAMP, sa_column_kwargs=with_server_default("clock_timestamp()")
    )
    subject_id: str = Field(sa_type=TEXT)
    """Who did it; not a foreign key, because an entry outlives its subject."""
    client: str | None = Field(sa_type=TEXT)
    """The program that called, as it names itself; none for a worker."""
    action: AuditAction = Field(sa_type=TEXT)
    handle: str | None = Field(sa_type=TEXT)
    """What it was done to, as the handle that clients see."""
    facts: dict[str, Any] = Field(sa_type=JSON, sa_column_kwargs=with_server_default("'{}'"))


class AuditEntryTable(AuditEntry, table=True):
    """The rows; a trigger in the migration refuses to change one."""

    __table_args__ = (
        check_in_enum("action", AuditAction),
        Index("ix_audit_entry_subject", "subject_id", "id"),
        Index("ix_audit_entry_handle", "handle", postgresql_where=text("handle IS NOT NULL")),
        Index("ix_audit_entry_at", "at"),
    )


async def write_audit_entry(
    tx: Transaction,
    action: AuditAction,
    *,
    subject_id: str,
    client: str | None = None,
    handle: str | None = None,
    **facts: object,
) -> None:
    """Record what the caller's transaction does; the entry is committed with it, or not at all."""
    await tx.execute(
        *_INSERT_ENTRY.bind(
            subject_id=subject_id, client=client, action=action, handle=handle, facts=facts
        )
    )


@dataclass(frozen=True, slots=True)
class LiveLink:
    """A link that still works."""

    handle: str
    """Of its job."""
    export: str
    expires_at: datetime

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read a row."""
        return cls(**row)


async def record_link(  # each is a column or a fact
    tx: Transaction,
    subject_id: str,
    *,
    client: str | None,
    handle: str,
    export: str,
    expires_at: datetime,
) -> int:
    """Record a link that is being made, and return how many more there may be.

    Raises:
        TooManyLinks: there are as many as there may be.
    """
    await tx.execute(_LOCK_LINKS, subject_id)
    live = await list_live_links(tx, subject_id)
    if len(live) >= MAX_LIVE_LINKS:
        raise TooManyLinks(len(live), MAX_LIVE_LINKS, min(link.expires_at for link in live))
    await write_audit_entry(
        tx,
        AuditAction.LINK_MADE,
        subject_id=subject_id,
        client=client,
        handle=handle,
        export=export,
        expires_at=expires_at.isoformat(),
    )
    return MAX_LIVE_LINKS - len(live) - 1


async def list_live_links(tx: Transaction, subject_id: str) -> list[LiveLink]:
    """Return the links of a subject that still work, the oldest first."""
    return [LiveLink.from_row(row) for row in await tx.fetch(_LIST_LIVE_LINKS, subject_id)]
