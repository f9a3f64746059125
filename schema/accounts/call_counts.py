"""How often did a subject call lately? The count Postgres keeps while Valkey is away.

Two windows that lie side by side stand for one that slides: of the calls of the window before, the
part counts that a window ending now would still cover. Time is Postgres time.
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
    """Whose; not a foreign key, for a count may outlive who was counted."""
    calls: int


class CallWindowTable(CallWindow, table=True):
    """The rows; a crash may forget them all, which costs one window at most."""

    __table_args__ = ({"prefixes": ["UNLOGGED"]},)


@dataclass(frozen=True, slots=True)
class CallCount:
    """What was counted when one more call was asked for."""

    is_allowed: bool
    """Whether that call was within the limit, and is counted."""
    calls: int
    """Of the window that is open, that call included if it was granted."""
    previous_calls: int
    """Of the window before."""
    elapsed_fraction: float
    """Which part of the window that is open has passed."""


async def count_call(
    tx: Transaction, subject_id: str, *, limit: int, window: timedelta
) -> CallCount:
    """Count one more call of a subject, if it is within the limit."""
    [row] = await tx.fetch(_COUNT_CALL, subject_id, window, limit)
    return CallCount(row["granted"], row["calls"], row["before"], row["past"])
