"""Schedules for their subject: create, read, update, request a firing, delete.

Each transition is one statement, after one that locks what it compares. The caller computes times
from the database's time, in the same transaction. The secrets of a schedule are sealed when it is
created, copied into each job that it starts, and deleted with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from schema.accounts import secrets as sealed_secrets
from schema.accounts.idempotency import check_same_request
from schema.accounts.vault import Secret, Vault
from schema.common import ids
from schema.common.errors import TooManySchedules
from schema.db.database import Transaction
from schema.db.sql import parse_statement
from schema.db.storable import refuse_oversized_spec
from schema.schedules.tables import (
    MissedPolicy,
    OverlapPolicy,
    Schedule,
    ScheduleFiring,
    ScheduleSnapshot,
)

MAX_SCHEDULES: Final = 100
"""How many schedules a subject may have."""
MAX_SHOWN_FIRINGS: Final = 5
"""How many firings of a schedule are shown."""
_SPEC_SIZE_CONSTRAINT: Final = "ck_schedule_spec_size"

_NOW: Final = "SELECT now()"

# A call that creates another schedule at the same time waits, and then counts this one.
_LOCK_SUBJECT: Final = "SELECT FROM subject WHERE id = $1 FOR UPDATE"

_FIND_BY_KEY: Final = "SELECT * FROM schedule WHERE subject_id = $1 AND idempotency_key = $2"

_COUNT_SCHEDULES: Final = "SELECT count(*) FROM schedule WHERE subject_id = $1"

_CREATE_SCHEDULE: Final = parse_statement("""
WITH made AS (
    INSERT INTO schedule (id, subject_id, name, cron, timezone, overlap, missed, workspace_id, kind,
                          namespace, title, spec, labels, most_micro_usd, ceiling_micro_usd,
                          idempotency_key, secrets_digest, next_at, due_at)
    VALUES (:schedule_id, :subject_id, :name, :cron, :timezone, :overlap, :missed, :workspace_id,
            :kind, :namespace, :title, :spec, :labels, :most_micro_usd, :ceiling_micro_usd,
            :idempotency_key, :secrets_digest, :next_at, :next_at)
    RETURNING *
)
INSERT INTO audit_entry (subject_id, client, action, handle, facts)
SELECT subject_id, :client, 'schedule_made', :handle,
       jsonb_build_object('name', name, 'cron', cron, 'timezone', timezone)
  FROM made
""")

_STATUS_SELECT: Final = f"""
SELECT schedule.*, now() AS read_at, coalesce(latest.firings, '[]') AS firings
  FROM schedule
  LEFT JOIN LATERAL (
      SELECT jsonb_agg(to_jsonb(firing) ORDER BY fire_at DESC) AS firings
        FROM (SELECT *
                FROM schedule_firing
               WHERE schedule_id = schedule.id
               ORDER BY fire_at DESC
               LIMIT {MAX_SHOWN_FIRINGS}) AS firing
  ) AS latest ON true
 WHERE schedule.subject_id = $1
"""  # noqa: S608  # our own number

_GET_SCHEDULE: Final = f"{_STATUS_SELECT} AND schedule.id = $2"

_LIST_SCHEDULES: Final = f"""{_STATUS_SELECT}
   AND ($2::uuid IS NULL OR schedule.id < $2)
 ORDER BY schedule.id DESC
 LIMIT $3
"""

_LOCK_SCHEDULE: Final = """
SELECT *, now() AS read_at FROM schedule WHERE subject_id = $1 AND id = $2 FOR UPDATE
"""

_UPDATE_SCHEDULE: Final = parse_statement("""
WITH before AS MATERIALIZED (
    SELECT * FROM schedule WHERE subject_id = :subject_id AND id = :schedule_id FOR UPDATE
), changed AS (
    UPDATE schedule
       SET name = :name,
           cron = :cron,
           timezone = :timezone,
           overlap = :overlap,
           missed = :missed,
           paused_at = CASE WHEN :next_at::timestamptz IS NULL
                            THEN coalesce(before.paused_at, now()) END,
           next_at = :next_at,
           asked_at = asked.at,
           due_at = least(:next_at, asked.at)
      FROM before,
           LATERAL (
               SELECT CASE WHEN :fire_now THEN coalesce(before.asked_at, now())
                           ELSE before.asked_at END AS at
           ) AS asked
     WHERE schedule.id = before.id
    RETURNING schedule.*
), different AS (
    SELECT jsonb_object_agg(now_has.key, now_has.value) AS facts
      FROM changed, before, jsonb_each(to_jsonb(changed) - '{next_at,due_at}'::text[]) AS now_has
     WHERE now_has.value IS DISTINCT FROM to_jsonb(before) -> now_has.key
), noted AS (
    INSERT INTO audit_entry (subject_id, client, action, handle, facts)
    SELECT :subject_id, :client, 'schedule_updated', :handle, facts
      FROM different
     WHERE facts IS NOT NULL
)
SELECT asked_at FROM changed
""")

_DELETE_SCHEDULE: Final = """
WITH gone AS (
    DELETE FROM schedule WHERE subject_id = $1 AND id = $2 RETURNING *
), noted AS (
    INSERT INTO audit_entry (subject_id, client, action, handle, facts)
    SELECT subject_id, $3, 'schedule_deleted', $4, jsonb_build_object('name', name) FROM gone
)
SELECT * FROM gone
"""

_IS_KNOWN_SCHEDULE: Final = """
SELECT true FROM schedule WHERE subject_id = $1 AND id = $2
 UNION ALL
(SELECT true FROM job WHERE subject_id = $1 AND schedule_id = $2 LIMIT 1)
"""

_GET_FIRING: Final = """
SELECT *
  FROM schedule_firing
 WHERE subject_id = $1
   AND schedule_id = $2
   AND fire_at = $3
"""


class ScheduleStatus(ScheduleSnapshot):
    """A schedule and its last firings, read at one moment."""

    firings: list[ScheduleFiring]
    """The latest first."""


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule to be created; its request has been validated."""

    name: str
    cron: str
    timezone: str
    overlap: OverlapPolicy
    missed: MissedPolicy
    workspace_id: UUID | None
    kind: str
    namespace: str
    title: str
    spec: dict[str, Any]
    labels: dict[str, str]
    most_micro_usd: int | None
    ceiling_micro_usd: int | None
    idempotency_key: str | None


_COMPARED_FIELDS: Final = (
    *("name", "cron", "timezone", "overlap", "missed", "workspace_id", "kind", "namespace"),
    *("spec", "labels", "most_micro_usd"),
)
"""The fields by which requests for schedules differ; the worst case follows from these."""


async def read_database_time(tx: Transaction) -> datetime:
    """Return the database's time."""
    moment: datetime = await tx.fetchval(_NOW)
    return moment


async def create_schedule(
    tx: Transaction,
    vault: Vault,
    subject_id: str,
    schedule_id: UUID,
    new_schedule: NewSchedule,
    *,
    next_at: datetime,
    secrets: Mapping[str, Secret],
    client: str | None = None,
) -> UUID:
    """Create a schedule; the same key and request again return the first one.

    Raises:
        IdempotencyConflict: the key belongs to a different request.
        TooManySchedules: the subject has `MAX_SCHEDULES` already.
        Invalid: the request is too large to be stored.
    """
    await tx.execute(_LOCK_SUBJECT, subject_id)
    secret_values = sealed_secrets.SecretValues(
        vault, secrets, owner=f"schedule/{subject_id}/{new_schedule.idempotency_key}"
    )
    if new_schedule.idempotency_key is not None:
        row = await tx.fetchrow(_FIND_BY_KEY, subject_id, new_schedule.idempotency_key)
        if row is not None:
            existing = Schedule.from_row(row)
            check_same_request(
                new_schedule.idempotency_key,
                ids.format_handle(ids.HandleKind.SCHEDULE, existing.id),
                earlier=_compared_fields(existing),
                repeated=_compared_fields(new_schedule),
                has_other_secrets=secret_values.differ_from(existing.secrets_digest),
            )
            return existing.id
    if await tx.fetchval(_COUNT_SCHEDULES, subject_id) >= MAX_SCHEDULES:
        raise TooManySchedules(MAX_SCHEDULES)
    with refuse_oversized_spec(_SPEC_SIZE_CONSTRAINT, consequence="no schedule was made"):
        await tx.execute(
            *_CREATE_SCHEDULE.bind(
                schedule_id=schedule_id,
                subject_id=subject_id,
                name=new_schedule.name,
                cron=new_schedule.cron,
                timezone=new_schedule.timezone,
                overlap=new_schedule.overlap,
                missed=new_schedule.missed,
                workspace_id=new_schedule.workspace_id,
                kind=new_schedule.kind,
                namespace=new_schedule.namespace,
                title=new_schedule.title,
                spec=new_schedule.spec,
                labels=new_schedule.labels,
                most_micro_usd=new_schedule.most_micro_usd,
                ceiling_micro_usd=new_schedule.ceiling_micro_usd,
                idempotency_key=new_schedule.idempotency_key,
                secrets_digest=new_schedule.idempotency_key and secret_values.digest(),
                next_at=next_at,
                client=client,
                handle=ids.format_handle(ids.HandleKind.SCHEDULE, schedule_id),
            )
        )
    await sealed_secrets.save_schedule_secrets(tx, vault, schedule_id, subject_id, secrets)
    return schedule_id


async def get_schedule(
    tx: Transaction, subject_id: str, schedule_id: UUID
) -> ScheduleStatus | None:
    """Return one schedule of the subject."""
    row = await tx.fetchrow(_GET_SCHEDULE, subject_id, schedule_id)
    return None if row is None else ScheduleStatus.from_row(row)


async def list_schedules(
    tx: Transaction, subject_id: str, *, before: UUID | None, limit: int
) -> list[ScheduleStatus]:
    """Return the newest schedules of the subject that are older than `before`."""
    return [
        ScheduleStatus.from_row(row)
        for row in await tx.fetch(_LIST_SCHEDULES, subject_id, before, limit)
    ]


async def is_known_schedule(tx: Transaction, subject_id: str, schedule_id: UUID) -> bool:
    """Return whether the subject has such a schedule, or jobs of one that was deleted."""
    return await tx.fetchval(_IS_KNOWN_SCHEDULE, subject_id, schedule_id) is not None


async def is_schedule_key_used(tx: Transaction, subject_id: str, key: str) -> bool:
    """Return whether an idempotency key of the subject has made a schedule."""
    return await tx.fetchrow(_FIND_BY_KEY, subject_id, key) is not None


async def lock_schedule(
    tx: Transaction, subject_id: str, schedule_id: UUID
) -> ScheduleSnapshot | None:
    """Lock a schedule until the end of the transaction."""
    row = await tx.fetchrow(_LOCK_SCHEDULE, subject_id, schedule_id)
    return None if row is None else ScheduleSnapshot.from_row(row)


async def update_schedule(
    tx: Transaction,
    schedule: Schedule,
    *,
    next_at: datetime | None,
    fire_now: bool,
    client: str | None = None,
) -> datetime | None:
    """Update a locked schedule.

    Args:
        next_at: when it fires next; none pauses it.
        fire_now: request a firing now, besides its times. A second request before that firing
            changes nothing.

    Returns:
        When a firing was requested that has not followed yet.
    """
    requested_at: datetime | None = await tx.fetchval(
        *_UPDATE_SCHEDULE.bind(
            subject_id=schedule.subject_id,
            schedule_id=schedule.id,
            name=schedule.name,
            cron=schedule.cron,
            timezone=schedule.timezone,
            overlap=schedule.overlap,
            missed=schedule.missed,
            next_at=next_at,
            fire_now=fire_now,
            client=client,
            handle=ids.format_handle(ids.HandleKind.SCHEDULE, schedule.id),
        )
    )
    return requested_at


async def get_firing(
    tx: Transaction, subject_id: str, schedule_id: UUID, fire_at: datetime
) -> ScheduleFiring | None:
    """Return the outcome of one firing; none while that is not known."""
    row = await tx.fetchrow(_GET_FIRING, subject_id, schedule_id, fire_at)
    return None if row is None else ScheduleFiring.from_row(row)


async def delete_schedule(
    tx: Transaction, subject_id: str, schedule_id: UUID, *, client: str | None = None
) -> Schedule | None:
    """Delete a schedule, its firings and its secrets; its jobs stay."""
    handle = ids.format_handle(ids.HandleKind.SCHEDULE, schedule_id)
    row = await tx.fetchrow(_DELETE_SCHEDULE, subject_id, schedule_id, client, handle)
    return None if row is None else Schedule.from_row(row)


def _compared_fields(schedule: Schedule | NewSchedule) -> dict[str, Any]:
    return {name: getattr(schedule, name) for name in _COMPARED_FIELDS}
