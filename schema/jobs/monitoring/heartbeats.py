"""Heartbeats of the workers: who is there, with which release and keys, and who looks for work.

Each worker writes its row every few seconds, and deletes those that are a day old. A row decides
nothing about jobs: leases do. `seen_at` and `swept_at` are times of the database.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlmodel import Field

from schema.db.base import DEFAULT_NOW, TEXT, TEXT_ARRAY, TIMESTAMP, Record
from schema.db.database import Transaction
from schema.db.sql import parse_statement

HEARTBEAT_INTERVAL: Final = timedelta(seconds=10)
HEARTBEAT_TIMEOUT: Final = timedelta(seconds=60)
"""A worker that is silent for longer is taken for dead, and one that has not swept for stuck."""

_RECORD_HEARTBEAT: Final = parse_statement("""
WITH forgotten AS (
    DELETE FROM worker_heartbeat WHERE seen_at < now() - interval '1 day' AND name <> :name
)
INSERT INTO worker_heartbeat AS kept
       (name, version, key_marks, attempts, swept_at, last_error, last_error_at)
VALUES (:name, :version, :key_marks, :attempts, now() - :since_sweep::interval, :last_error,
        now() - :since_error::interval)
ON CONFLICT (name) DO UPDATE
   SET version = excluded.version,
       key_marks = excluded.key_marks,
       attempts = excluded.attempts,
       started_at = CASE WHEN :is_first::boolean THEN now() ELSE kept.started_at END,
       seen_at = now(),
       swept_at = excluded.swept_at,
       last_error = excluded.last_error,
       last_error_at = excluded.last_error_at
""")

_LIST_WORKERS: Final = """
SELECT version, key_marks, now() - seen_at AS silent_for, now() - swept_at AS idle_for
  FROM worker_heartbeat
 WHERE seen_at > now() - $1::interval
 ORDER BY seen_at
"""

_LIST_HEARTBEATS: Final = """
SELECT *, now() - seen_at AS silent_for, now() - swept_at AS idle_for
  FROM worker_heartbeat
 WHERE name LIKE $1
 ORDER BY seen_at DESC
 LIMIT 200
"""


class WorkerHeartbeat(Record):
    """What a worker last said of itself."""

    name: str = Field(primary_key=True, sa_type=TEXT)
    """Host and process."""
    version: str = Field(sa_type=TEXT)
    key_marks: list[str] = Field(sa_type=TEXT_ARRAY)
    """Marks of the keys of its vault, from which no key can be computed; the first seals."""
    attempts: int
    """Attempts under way."""
    started_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    seen_at: datetime = Field(sa_type=TIMESTAMP, sa_column_kwargs=DEFAULT_NOW)
    swept_at: datetime = Field(sa_type=TIMESTAMP)
    """When it last looked through all queues, or began."""
    last_error: str | None = Field(default=None, sa_type=TEXT)
    """The cause of the newest failure of what it depends on."""
    last_error_at: datetime | None = Field(default=None, sa_type=TIMESTAMP)


class WorkerHeartbeatTable(WorkerHeartbeat, table=True):
    """The rows, one for each process."""


@dataclass(frozen=True, slots=True)
class WorkerPresence:
    """A worker that was heard of a moment ago, as everybody may know it."""

    version: str
    key_marks: Sequence[str]
    silent_for: timedelta
    idle_for: timedelta
    """Since its last sweep."""

    @property
    def is_working(self) -> bool:
        """Whether it looks for work."""
        return self.idle_for < HEARTBEAT_TIMEOUT


class HeartbeatAge(WorkerHeartbeat):
    """A heartbeat, and its age by the clock of the database."""

    silent_for: timedelta
    idle_for: timedelta


async def record_heartbeat(
    tx: Transaction,
    *,
    name: str,
    version: str,
    key_marks: Sequence[str],
    attempts: int,
    since_sweep: timedelta,
    last_error: tuple[str, timedelta] | None,
    is_first: bool,
) -> None:
    """Write the heartbeat of a worker.

    Args:
        since_sweep: how long ago it looked through all queues, or began.
        last_error: the newest cause of a failure, and how long ago that was.
        is_first: whether the process has just begun.
    """
    text, since_error = last_error or (None, None)
    await tx.execute(
        *_RECORD_HEARTBEAT.bind(
            name=name,
            version=version,
            key_marks=list(key_marks),
            attempts=attempts,
            since_sweep=since_sweep,
            last_error=text,
            since_error=since_error,
            is_first=is_first,
        )
    )


async def list_workers(tx: Transaction) -> list[WorkerPresence]:
    """Return the workers that were heard of within the time-out, without their names."""
    return [WorkerPresence(**row) for row in await tx.fetch(_LIST_WORKERS, HEARTBEAT_TIMEOUT)]


async def list_heartbeats(tx: Transaction, *, host: str | None = None) -> list[HeartbeatAge]:
    """Return all heartbeats, or those of one host, the newest first."""
    pattern = "%" if host is None else f"{_escape_pattern(host)}:%"
    return [HeartbeatAge.from_row(row) for row in await tx.fetch(_LIST_HEARTBEATS, pattern)]


def _escape_pattern(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
