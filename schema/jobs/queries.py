"""Reads of jobs for their subject.

Every statement compares the subject: for anybody else a row does not exist.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel

from schema.accounts.tables import Hold
from schema.common import ids
from schema.common.ids import HandleKind
from schema.db.database import Transaction
from schema.db.sql import parse_statement
from schema.jobs.dependencies import ParentJob
from schema.jobs.tables import FINAL_STATES, Job, JobEvent, JobState

_MAX_WHOLE_CHARS: Final = 2000
"""Characters of JSON that a part of a request may have without being cut."""

_EXCERPT_CHARS: Final = 300

SHORT_SPEC_COLUMN_SQL: Final = f"""
       CASE WHEN pg_column_size(job_payload.spec) < {_MAX_WHOLE_CHARS} THEN job_payload.spec
            ELSE (
           SELECT jsonb_object_agg(key,
                      CASE WHEN length(value::text) < {_MAX_WHOLE_CHARS} THEN value
                           WHEN jsonb_typeof(value) = 'string'
                           THEN to_jsonb(left(value #>> '{{}}', {_EXCERPT_CHARS}))
                           WHEN jsonb_typeof(value) = 'array'
                           THEN (
                          SELECT coalesce(jsonb_agg(
                                     CASE WHEN length(part::text) < {_MAX_WHOLE_CHARS} THEN part
                                          ELSE jsonb_build_object('content',
                                              left(part ->> 'content', {_EXCERPT_CHARS})) END),
                                     '[]')
                            FROM (VALUES (value -> 0), (value -> -1)) AS ends (part)
                           WHERE length(part::text) < {_MAX_WHOLE_CHARS}
                              OR part ->> 'content' IS NOT NULL)
                           ELSE '{{}}' END)
             FROM jsonb_each(job_payload.spec)) END AS spec"""  # noqa: S608  # our own words
"""The column of a request with large texts cut off; a long list keeps its first and last item."""


_STATUS_SELECT: Final = """
SELECT job.*,
       coalesce(subject.hold, CASE WHEN EXISTS (
           SELECT FROM restored_subject AS restored
            WHERE restored.subject_id = subject.id
              AND restored.reconciled_at IS NULL) THEN 'restore' END) AS hold,
       subject.active, coalesce(subject.max_active, deployment.max_active) AS max_active,
       of_kind.max_active_of_kind,
       CASE WHEN job.state = 'queued'
            THEN room_of_kind(job.subject_id, job.kind, of_kind.max_active_of_kind)
       END AS room_of_kind,
       job_payload.spec,
       run.remote_id, run.stage, run.seen_at, run.posted_at, run.deadline_at, run.addresses,
       CASE WHEN subject.next_launch_at > now() THEN subject.next_launch_at END AS launches_from,
       credential.expires_at AS token_expires_at,
       CASE WHEN job.state = 'queued' THEN (
           SELECT count(*)
             FROM job AS earlier
            WHERE earlier.subject_id = job.subject_id
              AND earlier.state = 'queued'
              AND earlier.created_at < job.created_at
              AND earlier.kind = job.kind
       ) ELSE 0 END AS ahead,
       cost.price_micro_usd, cost.ceiling_micro_usd, cost.held_micro_usd, cost.spent_micro_usd,
       cost.uncounted_micro_usd,
       -- No EXISTS: where many jobs match, Postgres would read all runs first, for a page of jobs.
       coalesce((
           SELECT true
             FROM remote_run AS doomed
            WHERE doomed.job_id = job.id
              AND doomed.desired = 'dead'
              AND doomed.state IN ('posting', 'unknown', 'bound')
            LIMIT 1), false) AS stopping,
       (SELECT jsonb_agg(jsonb_build_object('job_id', wait.parent_id, 'on', wait.on_end,
                                            'state', wait.state) ORDER BY wait.parent_id)
          FROM job_dependency AS wait
         WHERE wait.job_id = job.id) AS after,
       now() AS read_at
  FROM job
  JOIN subject ON subject.id = job.subject_id
 CROSS JOIN deployment
 CROSS JOIN LATERAL (
      SELECT coalesce(subject.max_active_by_kind -> job.kind,
                      deployment.max_active_by_kind -> job.kind)::int AS max_active_of_kind
  ) AS of_kind
  JOIN job_payload ON job_payload.job_id = job.id
  LEFT JOIN credential ON credential.subject_id = job.subject_id
  LEFT JOIN job_cost AS cost ON cost.job_id = job.id
  LEFT JOIN LATERAL (
      SELECT remote_id, stage, seen_at, posted_at, deadline_at, addresses
        FROM remote_run
       WHERE remote_run.job_id = job.id
         AND origin = 'ours'
       ORDER BY attempt DESC
       LIMIT 1
  ) AS run ON true
 WHERE job.subject_id = :subject_id
"""

_DETAIL_COLUMNS_SQL: Final = """
       coalesce((
           SELECT true FROM unseen_job WHERE unseen_job.job_id = job.id LIMIT 1), false) AS unseen,
       (SELECT jsonb_build_object(
                   'host', target.host, 'state', delivery.state, 'attempts', delivery.attempts,
                   'last_status', delivery.last_status, 'last_error', delivery.last_error,
                   'delivered_at', delivery.delivered_at,
                   'next_attempt_at', CASE WHEN delivery.due_at IS NOT NULL
                                           THEN greatest(delivery.due_at, target.due_at) END)
          FROM webhook_delivery AS delivery
          JOIN webhook_target AS target ON target.id = delivery.target_id
         WHERE delivery.job_id = job.id) AS webhook,
       now() AS read_at"""
"""Columns of jobs that were named by their handles, and not of those in a list."""

_GET_JOB_STATUS: Final = parse_statement(
    f"{_STATUS_SELECT.replace('now() AS read_at', _DETAIL_COLUMNS_SQL)} AND job.id = :job_id"
)

_SHORT_STATUS_SELECT: Final = _STATUS_SELECT.replace(
    "job_payload.spec,", f"{SHORT_SPEC_COLUMN_SQL},"
)

_GET_JOB_STATUSES: Final = parse_statement(
    f"{_SHORT_STATUS_SELECT.replace('now() AS read_at', _DETAIL_COLUMNS_SQL)}"
    " AND job.id = ANY(:job_ids::uuid[])"
)

LIST_CONDITIONS_SQL: Final = """
   AND (:workspace_id::uuid IS NULL OR job.workspace_id = :workspace_id)
   AND (:states::text[] IS NULL OR job.state = ANY(:states))
   AND (:kind::text IS NULL OR job.kind = :kind)
   AND job.created_at >= coalesce(:since::timestamptz, now() - :since_ago::interval, '-infinity')
   AND job.created_at <= coalesce(:until::timestamptz, now() - :until_ago::interval, 'infinity')
   AND (:rerun_of::uuid IS NULL OR job.rerun_of = :rerun_of)
   AND (:schedule_id::uuid IS NULL OR job.schedule_id = :schedule_id)
"""

_LIST_JOBS: Final = parse_statement(f"""{_SHORT_STATUS_SELECT}
   AND (:before::uuid IS NULL OR job.id < :before)
   {LIST_CONDITIONS_SQL}
 ORDER BY job.id DESC
 LIMIT :limit
""")

_MAX_COUNTED_JOBS: Final = 1000
"""Of a label, where several are given; one that more jobs have is as good as another."""

# The index of a label has its jobs in order. Of several labels the rarest is looked up, so that a
# common one beside it costs nothing. How rare it is, no plan can know: with LIMIT in the inner part
# Postgres looks up each job of the label by its id, and cannot walk through all jobs instead. With
# an array of ids, only those on the page are read whole.
RAREST_LABEL_SQL: Final = f"""
WITH rarest AS MATERIALIZED (
    SELECT name, value
      FROM jsonb_each_text(:labels) AS wanted (name, value)
     ORDER BY CASE WHEN (SELECT count(*) FROM jsonb_object_keys(:labels)) > 1 THEN (
           SELECT count(*)
             FROM (SELECT
                     FROM job_label
                    WHERE subject_id = :subject_id
                      AND job_label.name = wanted.name
                      AND job_label.value = wanted.value
                    LIMIT {_MAX_COUNTED_JOBS}) AS counted) END
     LIMIT 1
)"""  # noqa: S608  # our own words
LABELLED_JOBS_SQL: Final = f"""
      FROM job_label AS labelled
     CROSS JOIN LATERAL (
           SELECT *
             FROM job
            WHERE job.id = labelled.job_id
              AND job.labels @> :labels
                  {LIST_CONDITIONS_SQL}
            LIMIT 1) AS job
     WHERE labelled.subject_id = :subject_id
       AND labelled.name = (SELECT name FROM rarest)
       AND labelled.value = (SELECT value FROM rarest)
       AND labelled.job_id < coalesce(:before::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
     ORDER BY labelled.job_id DESC"""  # noqa: S608  # our own words
_LIST_LABELLED_JOBS: Final = parse_statement(f"""{RAREST_LABEL_SQL}, page AS MATERIALIZED (
    SELECT labelled.job_id
    {LABELLED_JOBS_SQL}
     LIMIT :limit
)
{_SHORT_STATUS_SELECT}
   AND job.id = ANY(ARRAY(SELECT job_id FROM page))
 ORDER BY job.id DESC
""")  # noqa: S608  # our own words

# The ends that nobody has seen are few beside all jobs of a subject, so they are looked up first.
_LIST_UNSEEN_JOBS: Final = parse_statement(f"""
WITH page AS MATERIALIZED (
    SELECT unseen.job_id
      FROM unseen_job AS unseen
     CROSS JOIN LATERAL (
           SELECT
             FROM job
            WHERE job.id = unseen.job_id
              AND :labels::jsonb <@ job.labels
                  {LIST_CONDITIONS_SQL}
            LIMIT 1) AS matching
     WHERE unseen.subject_id = :subject_id
       AND unseen.job_id < coalesce(:before::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
     ORDER BY unseen.job_id DESC
     LIMIT :limit
)
{_SHORT_STATUS_SELECT}
   AND job.id = ANY(ARRAY(SELECT job_id FROM page))
 ORDER BY job.id DESC
""")  # noqa: S608  # our own words

_GET_JOB_RESULT: Final = """
SELECT job_payload.result
  FROM job_payload
  JOIN job ON job.id = job_payload.job_id
 WHERE job.subject_id = $1
   AND job.id = $2
"""

_LIST_JOB_EVENTS: Final = """
SELECT event.at, event.version, event.kind, event.state, event.actor, event.facts
  FROM job_event AS event
  JOIN job ON job.id = event.job_id
 WHERE job.subject_id = $1
   AND job.id = $2
 ORDER BY event.version
 LIMIT $3
"""

_MAX_LISTED_EVENTS: Final = 20_000


_FIND_IDEMPOTENCY_KEY: Final = """
SELECT true
  FROM idempotency_key
 WHERE subject_id = $1
   AND key = $2
   AND expires_at > now()
"""

_GET_SUBJECT_STATUS: Final = """
SELECT coalesce(hold, CASE WHEN EXISTS (
           SELECT FROM restored_subject AS restored
            WHERE restored.subject_id = subject.id
              AND restored.reconciled_at IS NULL) THEN 'restore' END) AS hold,
       queued + active AS open_jobs
  FROM subject
 WHERE id = $1
"""


class UpstreamState(StrEnum):
    """What is known of the remote side of a job."""

    NONE = "none"
    """Nothing exists there."""

    LIVE = "live"
    """It exists, or may."""

    STOPPING = "stopping"
    """It is being stopped, and may still cost money until it is seen to be over."""

    STOPPED = "stopped"
    """It is over."""


class WebhookStatus(BaseModel):
    """The delivery of a webhook, for the owner of its job."""

    host: str
    state: str
    """One of `schema.workspaces.tables.DeliveryState`."""
    attempts: int
    last_status: int | None
    """The HTTP status of the last answer; none if there was no answer."""
    last_error: str | None
    """Why the last attempt failed, one of `schema.workspaces.tables.DeliveryError`."""
    delivered_at: datetime | None
    next_attempt_at: datetime | None


class JobStatus(Job):
    """A job with everything that a view of it needs, read at one moment."""

    spec: dict[str, Any]
    hold: Hold | None
    remote_id: str | None
    stage: str | None
    seen_at: datetime | None
    stopping: bool
    read_at: datetime
    ahead: int = 0
    """Queued jobs of the same subject and kind that are launched before it."""
    active: int = 0
    max_active: int | None = None
    """How many jobs of the subject may run at a time."""
    max_active_of_kind: int | None = None
    """The same of its kind; none if the kind has no such limit."""
    room_of_kind: int | None = None
    """How many more of its kind may run, if it is queued and its kind has such a limit."""
    launches_from: datetime | None = None
    """No job of the subject is launched before: the Hub asked for a pause."""
    posted_at: datetime | None = None
    deadline_at: datetime | None = None
    """When its stage has lasted too long."""
    addresses: dict[str, Any] | None = None
    """Where it can be reached while it runs."""
    token_expires_at: datetime | None = None
    price_micro_usd: int | None = None
    """Of a started minute; this and the next four are none if the job has no price."""
    ceiling_micro_usd: int | None = None
    held_micro_usd: int | None = None
    spent_micro_usd: int | None = None
    uncounted_micro_usd: int | None = None
    after: list[ParentJob] | None = None
    """The jobs it waits or waited for."""
    unseen: bool = False
    """Whether it has ended and no call has shown that; read of jobs that were named, as is
    `webhook`."""
    webhook: WebhookStatus | None = None
    """Where its end is announced, and how far that is."""

    @property
    def upstream(self) -> UpstreamState:
        """What is known of its remote side."""
        if self.stopping:
            return UpstreamState.STOPPING
        if self.attempt == 0 or (self.state is JobState.QUEUED):
            return UpstreamState.NONE
        return UpstreamState.STOPPED if self.finished_at else UpstreamState.LIVE

    @property
    def is_settled(self) -> bool:
        """Whether nothing of it will change any more: the job and its runs are over."""
        return self.state in FINAL_STATES and self.upstream is not UpstreamState.STOPPING


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs to list; none is any."""

    workspace_id: UUID | None
    states: list[JobState] | None
    kind: str | None
    """One of `JobKind`, or the kind of an executor that is not ours."""
    labels: dict[str, str]
    since: datetime | timedelta | None = None
    """Not created before this; a length of time is counted back from now."""
    until: datetime | timedelta | None = None
    """Not created after this."""
    rerun_of: UUID | None = None
    schedule_id: UUID | None = None
    unseen: bool = False
    """Only those that have ended and that no call has shown since."""
    words: Sequence[str] = ()
    """For `schema.jobs.search`: each of them stands in it, in upper or lower case."""


@dataclass(frozen=True, slots=True)
class SubjectStatus:
    """Whether a subject is held, and how many jobs are open."""

    hold: Hold | None = None
    open_jobs: int = 0


async def get_subject_status(tx: Transaction, subject_id: str) -> SubjectStatus:
    """Return the status of a subject; one who never launched anything has no open jobs."""
    row = await tx.fetchrow(_GET_SUBJECT_STATUS, subject_id)
    return SubjectStatus() if row is None else SubjectStatus(**row)


async def get_job_status(tx: Transaction, subject_id: str, job_id: UUID) -> JobStatus | None:
    """Return one job of the subject."""
    row = await tx.fetchrow(*_GET_JOB_STATUS.bind(subject_id=subject_id, job_id=job_id))
    return None if row is None else JobStatus.from_row(row)


async def get_job_statuses(
    tx: Transaction, subject_id: str, job_ids: Sequence[UUID]
) -> dict[UUID, JobStatus]:
    """Return the jobs that belong to the subject, with long parts of their requests cut off."""
    rows = await tx.fetch(*_GET_JOB_STATUSES.bind(subject_id=subject_id, job_ids=job_ids))
    return {row["id"]: JobStatus.from_row(row) for row in rows}


async def list_jobs(
    tx: Transaction, subject_id: str, job_filter: JobFilter, *, before: UUID | None, limit: int
) -> list[JobStatus]:
    """Return the newest jobs of the subject that are older than `before`, whatever the words."""
    values = bind_filter(subject_id, job_filter, before) | {"limit": limit}
    statement = _LIST_LABELLED_JOBS if job_filter.labels else _LIST_JOBS
    statement = _LIST_UNSEEN_JOBS if job_filter.unseen else statement
    return [JobStatus.from_row(row) for row in await tx.fetch(*statement.bind(**values))]


def bind_filter(subject_id: str, job_filter: JobFilter, before: UUID | None) -> dict[str, object]:
    """Return the values of the conditions of a list, by their names."""
    since, since_ago = _split_time_bound(job_filter.since)
    until, until_ago = _split_time_bound(job_filter.until)
    values: dict[str, object] = {
        "subject_id": subject_id,
        "before": before,
        "workspace_id": job_filter.workspace_id,
        "states": job_filter.states,
        "kind": job_filter.kind,
        "since": since,
        "since_ago": since_ago,
        "until": until,
        "until_ago": until_ago,
        "rerun_of": job_filter.rerun_of,
        "schedule_id": job_filter.schedule_id,
    }
    needs_labels = job_filter.labels or job_filter.unseen
    return values | ({"labels": job_filter.labels} if needs_labels else {})


def _split_time_bound(
    bound: datetime | timedelta | None,
) -> tuple[datetime | None, timedelta | None]:
    if isinstance(bound, timedelta):
        return None, bound
    return bound, None


async def get_job_result(tx: Transaction, subject_id: str, job_id: UUID) -> dict[str, Any] | None:
    """Return the result of a job that succeeded."""
    result: dict[str, Any] | None = await tx.fetchval(_GET_JOB_RESULT, subject_id, job_id)
    return result


async def list_job_events(tx: Transaction, subject_id: str, job_id: UUID) -> list[dict[str, Any]]:
    """Return what happened to a job of the subject, the first first, as JSON has it."""
    rows = await tx.fetch(_LIST_JOB_EVENTS, subject_id, job_id, _MAX_LISTED_EVENTS)
    return [{**row, "at": row["at"].isoformat()} for row in rows]


async def list_latest_job_events(
    tx: Transaction, subject_id: str, job_id: UUID, *, limit: int
) -> list[JobEvent]:
    """Return the latest events of a job, the oldest of them first; none if it is not theirs."""
    rows = await tx.fetch(_LIST_LATEST_EVENTS, subject_id, job_id, limit)
    return [JobEvent.from_row(row) for row in reversed(rows)]


async def is_idempotency_key_used(tx: Transaction, subject_id: str, key: str) -> bool:
    """Return whether an idempotency key of the subject has made a job."""
    return await tx.fetchval(_FIND_IDEMPOTENCY_KEY, subject_id, key) is not None


_LIST_LATEST_EVENTS: Final = """
SELECT event.*
  FROM job_event AS event
  JOIN job ON job.id = event.job_id
 WHERE job.subject_id = $1
   AND event.job_id = $2
 ORDER BY event.version DESC
 LIMIT $3
"""


_FIND_JOB_IDS: Final = """
SELECT id
  FROM job
 WHERE subject_id = $1
   AND id BETWEEN $2 AND $3
 ORDER BY id DESC
 LIMIT $4
"""

_FIND_WORKSPACE_IDS: Final = """
SELECT id
  FROM workspace
 WHERE subject_id = $1
   AND id BETWEEN $2 AND $3
 ORDER BY id DESC
 LIMIT $4
"""


async def find_handles_by_prefix(
    tx: Transaction, subject_id: str, kind: HandleKind, prefix: str, *, limit: int
) -> Sequence[str]:
    """Return the newest handles of the subject that begin with a prefix."""
    id_range = ids.prefix_range(kind, prefix)
    if id_range is None:
        return []
    statement = {HandleKind.JOB: _FIND_JOB_IDS, HandleKind.WORKSPACE: _FIND_WORKSPACE_IDS}[kind]
    rows = await tx.fetch(statement, subject_id, *id_range, limit)
    return [ids.format_handle(kind, row["id"]) for row in rows]
