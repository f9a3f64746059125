"""The firing of due schedules, exactly once for each time.

    due ──lease──▶ leased ──lock──▶ submit a job, or skip ──record──▶ due again at its next time

A worker leases what is due. The outcome of a firing, its job and the next time are written in one
transaction, which compares the time that the firing is for: a worker that comes second, or comes
back from a crash, finds another time there and writes nothing. The loop is in
`workers.loops.fire_schedules`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from schema.db.database import Transaction
from schema.db.sql import parse_statement
from schema.schedules.tables import FiringOutcome, Schedule, ScheduleSnapshot

MISSED_AFTER: Final = timedelta(minutes=5)
"""A firing that is later than this counts as missed."""

_LEASE_DUE_SCHEDULES: Final = """
WITH due AS MATERIALIZED (
    SELECT id
      FROM schedule
     WHERE due_at <= now()
       AND NOT EXISTS (
               SELECT FROM restored_subject AS restored
                WHERE restored.subject_id = schedule.subject_id
                  AND restored.reconciled_at IS NULL)
     ORDER BY due_at
     LIMIT $1
       FOR UPDATE SKIP LOCKED
)
UPDATE schedule
   SET due_at = now() + $2
  FROM due
 WHERE schedule.id = due.id
RETURNING schedule.*, now() AS read_at
"""

_LIST_PAST_FIRINGS: Final = """
SELECT schedule.*, now() AS read_at
  FROM schedule
 WHERE subject_id = $1
   AND (next_at <= $2 OR asked_at <= $2)
 ORDER BY id
   FOR UPDATE
"""

# The lock keeps what it compares; later statements see what its holder before has committed.
_LOCK_FIRING: Final = """
SELECT true
  FROM schedule
 WHERE id = $1
   AND CASE WHEN $3 THEN asked_at ELSE next_at END = $2
   FOR UPDATE
"""

_FIND_UNFINISHED_JOB: Final = """
SELECT id
  FROM job
 WHERE schedule_id = $1
   AND finished_at IS NULL
 ORDER BY id DESC
 LIMIT 1
"""

_GET_CONFIRM_THRESHOLD: Final = "SELECT confirm_above_micro_usd FROM workspace WHERE id = $1"

_RECORD_FIRING: Final = parse_statement("""
WITH advanced AS (
    UPDATE schedule
       SET asked_at = CASE WHEN NOT :is_requested THEN asked_at END,
           next_at = CASE WHEN :is_requested THEN next_at ELSE :next_at END,
           due_at = CASE WHEN :is_requested THEN next_at ELSE least(:next_at, asked_at) END
     WHERE id = :schedule_id
       AND CASE WHEN :is_requested THEN asked_at ELSE next_at END = :fire_at
    RETURNING id, subject_id
)
INSERT INTO schedule_firing (schedule_id, fire_at, subject_id, asked, became, job_id, code, message)
SELECT id, :fire_at, subject_id, :is_requested, :outcome, :job_id, :code, :message FROM advanced
""")


@dataclass(frozen=True, slots=True)
class DueFiring:
    """A firing that is due, and the schedule as it was when it was leased."""

    schedule: Schedule
    fire_at: datetime
    is_requested: bool
    """Whether the subject requested it, besides the times of the schedule."""
    next_at: datetime | None
    """When the schedule fires next; none leaves that time as it is."""
    is_late: bool
    """Whether it counts as missed: no worker was there."""

    @classmethod
    def from_schedule(cls, schedule: ScheduleSnapshot) -> "DueFiring":
        """Choose the firing that is due: a requested one goes first."""
        if schedule.asked_at is not None:
            return cls(schedule, schedule.asked_at, is_requested=True, next_at=None, is_late=False)
        assert schedule.next_at is not None  # noqa: S101  # or it would not be due
        return cls(
            schedule,
            schedule.next_at,
            is_requested=False,
            next_at=schedule.trigger.next_after(schedule.read_at),
            is_late=schedule.read_at - schedule.next_at > MISSED_AFTER,
        )


async def lease_due_schedules(
    tx: Transaction, *, limit: int, lease: timedelta
) -> list[ScheduleSnapshot]:
    """Lease schedules that are due; one whose lease lapses is due again."""
    rows = await tx.fetch(_LEASE_DUE_SCHEDULES, limit, lease)
    return [ScheduleSnapshot.from_row(row) for row in rows]


async def miss_past_firings(tx: Transaction, subject_id: str, *, until: datetime) -> int:
    """Record the firings of a subject up to a moment as missed; return how many.

    After a restore: they may have been made since the backup.
    """
    missed = 0
    while rows := await tx.fetch(_LIST_PAST_FIRINGS, subject_id, until):
        for row in rows:
            due_firing = DueFiring.from_schedule(ScheduleSnapshot.from_row(row))
            await record_firing(tx, due_firing, FiringOutcome.MISSED)
            missed += 1
    return missed


async def lock_firing(tx: Transaction, due_firing: DueFiring) -> bool:
    """Lock a firing; false if it was made already, or its time has changed."""
    return (
        await tx.fetchval(
            _LOCK_FIRING, due_firing.schedule.id, due_firing.fire_at, due_firing.is_requested
        )
        is not None
    )


async def find_unfinished_job(tx: Transaction, schedule_id: UUID) -> UUID | None:
    """Return the newest job of a schedule that is not final; none if all are."""
    job_id: UUID | None = await tx.fetchval(_FIND_UNFINISHED_JOB, schedule_id)
    return job_id


async def get_confirm_threshold(tx: Transaction, workspace_id: UUID) -> int | None:
    """Return from which worst case on, in millionths of a dollar, a launch needs confirmation."""
    threshold: int | None = await tx.fetchval(_GET_CONFIRM_THRESHOLD, workspace_id)
    return threshold


async def record_firing(
    tx: Transaction,
    due_firing: DueFiring,
    outcome: FiringOutcome,
    *,
    job_id: UUID | None = None,
    code: str | None = None,
    message: str | None = None,
) -> None:
    """Record the outcome of a firing, and set the next time; both or neither."""
    await tx.execute(
        *_RECORD_FIRING.bind(
            schedule_id=due_firing.schedule.id,
            fire_at=due_firing.fire_at,
            is_requested=due_firing.is_requested,
            next_at=due_firing.next_at,
            outcome=outcome,
            job_id=job_id,
            code=code,
            message=message,
        )
    )
