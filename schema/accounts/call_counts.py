"""Counts of calls by subject, for the rate limit while Valkey is unavailable.

Two adjacent windows stand for one that slides: of the calls in the earlier window, that part counts
which a window ending now would still cover. Time is the database's.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlmodel import Field

from schema.db.base import TEXT, TIMESTAMP, Record
from schema.db.database import Transaction

_COUNT_CALL: Final = """
WITH opened AS MATERIALIZED (
    SELECT date_bin($2, now(), 'epoch') AS at
), seen AS MATERIALIZED (
    SELECT at,
           extract(epoch FROM now() - at) / extract(epoch FROM $2::interval) AS past,
           coalesce((SELECT calls
                       FROM call_window
                      WHERE window_start = at - $2::interval
                        AND subject_id = $1), 0) AS before
      FROM opened
), taken AS (
    INSERT INTO call_window AS kept (window_start, subject_id, calls)
    SELECT at, $1, 1
      FROM seen
     WHERE 1 + before * (1 - past) <= $3::int
    ON CONFLICT (window_start, subject_id) DO UPDATE
       SET calls = kept.calls + 1
     WHERE kept.calls + 1 + (SELECT before * (1 - past) FROM seen) <= $3::int
    RETURNING calls
)
SELECT EXISTS (SELECT FROM taken) AS granted, before, past::float8,
       coalesce((SELECT calls FROM taken),
                (SELECT calls FROM call_window WHERE window_start = at AND subject_id = $1),
                0) AS calls
  FROM seen
"""


class CallWindow(Record):
    """The calls of one subject in one window of time."""

    # The time goes first: one index finds a count, and what is old.
    window_start: datetime = Field(primary_key=True, sa_type=TIMESTAMP)
    subject_id: str = Field(primary_key=True, sa_type=TEXT)
    """Who called; not a foreign key, because a count may outlive its subject."""
    calls: int


class CallWindowTable(CallWindow, table=True):
    """The rows; a crash may lose them all, which costs one window of counts at most."""

    __table_args__ = ({"prefixes": ["UNLOGGED"]},)


@dataclass(frozen=True, slots=True)
class CallCount:
    """The counts after one more call."""

    is_allowed: bool
    """Whether that call is within the limit, and is counted."""
    calls: int
    """In the current window, with that call if it is allowed."""
    previous_calls: int
    """In the window before."""
    elapsed_fraction: float
    """Which part of the current window has passed, from 0 to 1."""


async def count_call(
    tx: Transaction, subject_id: str, *, limit: int, window: timedelta
) -> CallCount:
    """Count one more call of a subject, if it is within the limit."""
    [row] = await tx.fetch(_COUNT_CALL, subject_id, window, limit)
    return CallCount(row["granted"], row["calls"], row["before"], row["past"])
