"""Subjects whose rows came from a backup, until the Hub's listings have been compared with them.

    restored ──compare──▶ restored ──compare──▶ … ──▶ reconciled
                          (due again)               the settle window is over, three times compared

Rows of a backup are older than the world: what was queued may have been launched since. So nothing
of such a subject is claimed, fired, or failed for its age. A create request that was under way when
the database was lost may show late in the listings, hence the window, as for a run in doubt.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlmodel import Field

from schema.db.base import DEFAULT_NOW, JSON, TEXT, TIMESTAMP, Record, with_server_default
from schema.db.database import Transaction
from schema.db.sql import parse_statement

MIN_LISTINGS: Final = 3
"""Complete comparisons before a subject may be reconciled, as for a run that is not listed."""

_MARK_RESTORED: Final = """
INSERT INTO restored_subject (subject_id, backup_at)
SELECT id, $1 FROM subject
ON CONFLICT (subject_id) DO UPDATE
   SET backup_at = excluded.backup_at,
       restored_at = now(),
       due_at = now(),
       listings = 0,
       reconciled_at = NULL
"""

_LEASE_RESTORED: Final = parse_statement("""
WITH due AS MATERIALIZED (
    SELECT subject_id
      FROM restored_subject
     WHERE reconciled_at IS NULL
       AND (:is_forced::boolean OR due_at <= now())
       AND EXISTS (
               SELECT FROM credential
                WHERE credential.subject_id = restored_subject.subject_id
                  AND credential.state = 'valid'
                  AND coalesce(credential.expires_at > now(), true))
     ORDER BY due_at
     LIMIT :limit
       FOR UPDATE SKIP LOCKED
)
UPDATE restored_subject AS restored
   SET due_at = CASE WHEN :is_dry_run::boolean THEN restored.due_at ELSE now() + :lease END
  FROM due
  JOIN subject ON subject.id = due.subject_id
 WHERE restored.subject_id = due.subject_id
RETURNING restored.subject_id, subject.name, restored.backup_at, restored.restored_at,
          now() AS leased_at, restored.due_at AS lapses_at
""")

_IS_UNCOMPARED: Final = """
SELECT true FROM restored_subject WHERE subject_id = $1 AND reconciled_at IS NULL
"""

_RECORD_COMPARISON: Final = parse_statement("""
UPDATE restored_subject
   SET listings = listings + 1,
       due_at = now() + :recheck_after,
       reconciled_at = CASE WHEN listings + 1 >= :min_listings
                                 AND :listed_from >= restored_at + :settle_window THEN now() END
 WHERE subject_id = :subject_id
   AND due_at = :lapses_at
   AND reconciled_at IS NULL
RETURNING reconciled_at IS NOT NULL AS is_over,
          greatest(restored_at + :settle_window - now(), interval '0') AS window_left
""")

_POSTPONE: Final = """
UPDATE restored_subject
   SET due_at = now() + $3
 WHERE subject_id = $1
   AND due_at = $2
   AND reconciled_at IS NULL
"""

_COUNT_UNRECONCILED: Final = "SELECT count(*) FROM restored_subject WHERE reconciled_at IS NULL"


class Deployment(Record):
    """The name of this deployment, on a label of all its jobs at the Hub, and the default limits.

    A backup includes it.
    """

    only_one: bool = Field(primary_key=True, sa_column_kwargs=with_server_default("true"))
    id: UUID = Field(sa_column_kwargs=with_server_default("gen_random_uuid()"))
    max_active: int = Field(default=100, sa_column_kwargs=with_server_default("100"))
    """How many jobs of a subject may run at a time, unless they have a limit of their own."""
    max_active_by_kind: dict[str, int] = Field(
        default_factory=dict, sa_type=JSON, sa_column_kwargs=with_server_default("'{}'")
    )
    """The same of kinds of job; a kind without an entry has no limit of its own."""


class DeploymentTable(Deployment, table=True):
    """The one row."""

    __table_args__ = (CheckConstraint("only_one", name="only_one"),)


class RestoredSubject(Record):
    """What a restore left to do for one subject."""

    subject_id: str = Field(primary_key=True, foreign_key="subject.id", sa_type=TEXT)
    backup_at: datetime = Field(sa_type=TIMESTAMP)
    """The moment that the rows are from, by the clock of the database that was backed up."""
    restored_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    due_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    """When to compare next; while a worker compares, when its lease lapses."""
    listings: int = Field(default=0, sa_column_kwargs=with_server_default("0"))
    """Complete comparisons with the Hub."""
    reconciled_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)
    """Since when the subject's jobs are launched again."""


class RestoredSubjectTable(RestoredSubject, table=True):
    """The rows, one for each subject of the last restore."""

    __table_args__ = (
        Index("ix_restored_subject_due", "due_at", postgresql_where=text("reconciled_at IS NULL")),
    )


@dataclass(frozen=True, slots=True)
class RestoreLease:
    """The right to compare one subject, until its lease lapses."""

    subject_id: str
    name: str
    backup_at: datetime
    restored_at: datetime
    leased_at: datetime
    lapses_at: datetime
    """Which lease it is: whoever takes the subject over sets another time."""

    @property
    def rows_until(self) -> datetime:
        """No row of the backup is later; the clock of the lost database may have been ahead."""
        return max(self.backup_at, self.restored_at)

    @classmethod
    def from_row(cls, row: Any) -> Self:
        """Read a row."""
        return cls(**row)


async def is_uncompared(tx: Transaction, subject_id: str) -> bool:
    """Return whether rows of a subject are from a backup, and not yet compared with the Hub."""
    return await tx.fetchval(_IS_UNCOMPARED, subject_id) is not None


async def mark_restored(tx: Transaction, *, backup_at: datetime) -> None:
    """Mark all subjects: their rows are as they were at that moment."""
    await tx.execute(_MARK_RESTORED, backup_at)


async def lease_restored_subjects(
    tx: Transaction,
    *,
    limit: int,
    lease: timedelta,
    is_forced: bool = False,
    is_dry_run: bool = False,
) -> list[RestoreLease]:
    """Lease subjects that are not reconciled; whose token is not usable must call again first.

    Args:
        is_forced: also those that are not due yet, or that another worker compares.
        is_dry_run: return them as they are; whoever has leased them keeps them.
    """
    statement = _LEASE_RESTORED.bind(
        limit=limit, lease=lease, is_forced=is_forced, is_dry_run=is_dry_run
    )
    return [RestoreLease.from_row(row) for row in await tx.fetch(*statement)]


async def record_comparison(
    tx: Transaction, lease: RestoreLease, *, settle_window: timedelta, recheck_after: timedelta
) -> timedelta | None:
    """Count a complete comparison; after enough of them the subject's jobs are launched again.

    Args:
        settle_window: how long after the restore a listing does not prove anything.

    Returns:
        None if the subject is reconciled by this; otherwise how much of the window is left. Another
        comparison that has begun since is the one that counts, so this one reconciles nobody.
    """
    row = await tx.fetchrow(
        *_RECORD_COMPARISON.bind(
            subject_id=lease.subject_id,
            lapses_at=lease.lapses_at,
            listed_from=lease.leased_at,
            min_listings=MIN_LISTINGS,
            settle_window=settle_window,
            recheck_after=recheck_after,
        )
    )
    if row is None:
        return timedelta(0)
    if row["is_over"]:
        return None
    window_left: timedelta = row["window_left"]
    return window_left


async def postpone_comparison(
    tx: Transaction, lease: RestoreLease, *, recheck_after: timedelta
) -> None:
    """Release a subject that could not be compared."""
    await tx.execute(_POSTPONE, lease.subject_id, lease.lapses_at, recheck_after)


async def read_deployment_id(tx: Transaction) -> UUID:
    """Return the name of this deployment."""
    deployment_id: UUID = await tx.fetchval("SELECT id FROM deployment")
    return deployment_id


async def count_unreconciled_subjects(tx: Transaction) -> int:
    """Count the subjects of whom nothing is launched because of a restore."""
    count: int = await tx.fetchval(_COUNT_UNRECONCILED)
    return count
