"""The launch transitions of a remote run: claim, begin, renew, bind, mark in doubt, reject.

Facts are never fenced away; decisions are. Whoever learns that the Hub has a run with this id
records it, however late. Whether the job is tried again is decided by the run of its attempt, once,
and only while that run is open: a job has at most one open run (`one_open_launch`), so an earlier
attempt cannot decide any more. The state of the run is the fence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from schema.db.database import Transaction
from schema.db.sql import parse_statement
from schema.jobs import run_end
from schema.jobs.run_tables import RunAddresses
from schema.jobs.tables import EventKind, Reason

_SLOTS_PER_FREE_ONE: Final = 3
"""How many slots of a worker a subject may hold for each that is left free: three quarters of all.

So a slot is free for whoever comes next, though nobody is interrupted. A second greedy subject gets
most of the rest, and so on: the threshold is a dynamic one, as in switches that share a buffer.
"""

_MAX_ACTIVE: Final = "coalesce(subject.max_active, deployment.max_active)"
_MAX_OF_KIND: Final = """coalesce(subject.max_active_by_kind -> :kind::text,
                deployment.max_active_by_kind -> :kind::text)::int"""
"""How many jobs of the kind a subject may run at a time; null if as many as of all kinds."""

_CAN_LAUNCH: Final = f"""queued > 0
       AND hold IS NULL
       AND active < {_MAX_ACTIVE}
       AND coalesce(room_of_kind(subject.id, :kind, {_MAX_OF_KIND}), 1) > 0
       AND next_launch_at <= now()
       AND NOT EXISTS (
               SELECT FROM restored_subject AS restored
                WHERE restored.subject_id = subject.id
                  AND restored.reconciled_at IS NULL)
       AND EXISTS (
               SELECT FROM job
                WHERE job.subject_id = subject.id AND job.state = 'queued'
                  AND job.kind = :kind AND job.due_at <= now())"""  # noqa: S608  # our own words
"""Whether a free slot of the kind would take a job of a subject."""

_CLAIM: Final = parse_statement(f"""
WITH served AS MATERIALIZED (
    SELECT subject.id, {_MAX_ACTIVE} - active AS room, {_MAX_OF_KIND} AS max_of_kind,
           last_served_at, coalesce(held.slots, 0) AS slots
      FROM subject
     CROSS JOIN deployment
      LEFT JOIN unnest(:holders::text[], :held_slots::int[]) AS held (subject_id, slots)
        ON held.subject_id = subject.id
     WHERE {_CAN_LAUNCH}
       AND (held.slots IS NULL OR held.slots + 1 <= :slots_per_free_one * (:limit - 1))
     ORDER BY last_served_at
     LIMIT :limit + cardinality(:holders::text[])
       FOR UPDATE OF subject SKIP LOCKED
), offered AS MATERIALIZED (
    SELECT next.id, served.last_served_at,
           served.slots + row_number() OVER (PARTITION BY served.id ORDER BY next.created_at)
               AS slots
      FROM served
     CROSS JOIN LATERAL (
          SELECT id, created_at
            FROM job
           WHERE subject_id = served.id
             AND state = 'queued'
             AND kind = :kind
             AND due_at <= now()
           ORDER BY created_at
           LIMIT least(served.room, room_of_kind(served.id, :kind, served.max_of_kind), :limit)
             FOR UPDATE SKIP LOCKED
      ) AS next
), ranked AS (
    SELECT id, slots, row_number() OVER (ORDER BY slots, last_served_at) AS place FROM offered
), picked AS MATERIALIZED (
    SELECT id
      FROM ranked
     WHERE place <= :limit
       AND (slots = 1 OR slots <= :slots_per_free_one * (:limit - place))
), claimed AS (
    UPDATE job
       SET state = 'launching',
           attempt = attempt + 1,
           due_at = NULL,
           version = version + 1
      FROM picked
     WHERE job.id = picked.id
    RETURNING job.*
), intent AS (
    INSERT INTO remote_run (id, job_id, subject_id, namespace, kind, attempt, state, due_at,
                            absent_after)
    SELECT gen_random_uuid(), id, subject_id, namespace, kind, attempt, 'posting',
           now() + :lease, now() + :settle_window
      FROM claimed
    RETURNING id, job_id
), counted AS (
    UPDATE subject
       SET active = active + taken.jobs,
           queued = queued - taken.jobs,
           last_served_at = clock_timestamp()
      FROM (SELECT subject_id, count(*)::int AS jobs FROM claimed GROUP BY 1) AS taken
     WHERE subject.id = taken.subject_id
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, 'claimed', state, :worker, jsonb_build_object('attempt', attempt)
      FROM claimed
)
SELECT intent.id AS run_id, claimed.id AS job_id, claimed.subject_id, claimed.namespace,
       claimed.attempt, claimed.tries, claimed.labels, job_payload.spec,
       origin.facts ->> 'request_id' AS request_id, origin.facts ->> 'traceparent' AS traceparent,
       lent.sealed AS sealed_token, lent.version AS token_version, kept.sealed AS sealed_secrets
  FROM claimed LEFT JOIN job_event AS origin ON origin.job_id = claimed.id AND origin.version = 1
  JOIN intent ON intent.job_id = claimed.id
  JOIN job_payload ON job_payload.job_id = claimed.id
  LEFT JOIN job_secret AS kept ON kept.job_id = claimed.id
  LEFT JOIN credential AS lent ON lent.subject_id = claimed.subject_id
   AND lent.state = 'valid' AND coalesce(lent.expires_at > now(), true)
""")  # noqa: S608  # our own words

_BEGIN_CALLS: Final = """
WITH before AS MATERIALIZED (
    SELECT job.id, run.id AS run_id
      FROM job
      JOIN remote_run AS run ON run.job_id = job.id
     WHERE run.id = ANY($1::uuid[])
       AND run.state = 'posting'
       AND run.due_at > now()
       AND job.state = 'launching'
     ORDER BY job.id
       FOR UPDATE OF job
), begun AS (
    UPDATE job
       SET state = 'running',
           started_at = coalesce(started_at, now()),
           version = version + 1
      FROM before
     WHERE job.id = before.id
       AND job.state = 'launching'
    RETURNING job.*, before.run_id
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor)
    SELECT id, version, 'begun', state, $2 FROM begun
)
SELECT run_id FROM begun
"""

_RENEW_LEASE: Final = """
UPDATE remote_run
   SET due_at = now() + $2
 WHERE id = $1
   AND state = 'posting'
   AND desired = 'alive'
RETURNING id
"""

_RECORD_REMOTE_ID: Final = parse_statement("""
WITH before AS MATERIALIZED (
    SELECT id
      FROM job
     WHERE id = (SELECT job_id FROM remote_run WHERE id = :run_id)
       FOR UPDATE
), bound AS (
    UPDATE remote_run AS run
       SET state = 'bound',
           remote_id = :remote_id,
           -- A poll records a later one as a change: with its start, its deadline and its log.
           stage = CASE WHEN :stage = 'SCHEDULING' THEN :stage END,
           seen_at = now(),
           misses = 0,
           due_at = CASE run.desired WHEN 'dead' THEN now() END,
           deadline_at = now() + :max_stage_duration,
           addresses = :addresses
      FROM before
     WHERE run.job_id = before.id
       AND run.id = :run_id
       AND run.state IN ('posting', 'unknown')
    RETURNING run.*
), moved AS (
    UPDATE job
       SET state = CASE WHEN job.state = 'launching' AND bound.desired = 'alive'
                        THEN 'running' ELSE job.state END,
           tries = 0,
           version = version + 1
      FROM bound
     WHERE job.id = bound.job_id
    RETURNING job.*
), watched AS (
    INSERT INTO poll_group (subject_id, namespace, live, due_at)
    SELECT subject_id, namespace, 1, now() + :poll_after FROM bound
    ON CONFLICT (subject_id, namespace) DO UPDATE
       SET live = poll_group.live + 1,
           due_at = least(poll_group.due_at, excluded.due_at)
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, 'bound', state, :worker,
           jsonb_build_object('remote_id', :remote_id::text, 'stage', :stage::text)
      FROM moved
)
SELECT desired = 'dead' FROM bound
""")

_MARK_UNCONFIRMED: Final = parse_statement("""
WITH before AS MATERIALIZED (
    SELECT id
      FROM job
     WHERE id = (SELECT job_id FROM remote_run WHERE id = :run_id)
       FOR UPDATE
), doubted AS (
    UPDATE remote_run AS run
       SET state = 'unknown',
           due_at = now() + :recheck_after
      FROM before
     WHERE run.job_id = before.id
       AND run.id = :run_id
       AND run.state = 'posting'
       AND (:only_if_lapsed::boolean IS FALSE OR run.due_at <= now())
    RETURNING run.job_id
), moved AS (
    UPDATE job
       SET version = version + 1
      FROM doubted
     WHERE job.id = doubted.job_id
    RETURNING job.*
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, 'unconfirmed', state, :worker, jsonb_build_object('why', :cause::text)
      FROM moved
)
SELECT count(*) FROM moved
""")

_MARK_NOT_CREATED: Final = parse_statement("""
WITH before AS MATERIALIZED (
    SELECT id, state
      FROM job
     WHERE id = (SELECT job_id FROM remote_run WHERE id = :run_id)
       FOR UPDATE
), refused AS (
    UPDATE remote_run AS run
       SET state = 'rejected',
           due_at = NULL
      FROM before
     WHERE run.job_id = before.id
       AND run.id = :run_id
       AND CASE WHEN :only_if_lapsed::boolean THEN run.state = 'posting' AND run.due_at <= now()
                ELSE run.state IN ('posting', 'unknown') END
    RETURNING run.*, before.state IN ('launching', 'running') AS decides
), moved AS (
    UPDATE job
       SET state = CASE WHEN refused.decides AND :reason::text IS NULL THEN 'queued'
                        WHEN refused.decides THEN 'failed'
                        ELSE job.state END,
           due_at = CASE WHEN refused.decides AND :reason::text IS NULL
                         THEN now() + :retry_after END,
           reason = CASE WHEN refused.decides THEN :reason ELSE job.reason END,
           message = CASE WHEN refused.decides THEN :message ELSE job.message END,
           finished_at = CASE WHEN refused.decides AND :reason::text IS NOT NULL THEN now()
                              ELSE job.finished_at END,
           tries = CASE WHEN :event = 'handed_back' THEN job.tries
                        ELSE least(job.tries + 1, 50) END,
           version = version + 1
      FROM refused
     WHERE job.id = refused.job_id
    RETURNING job.*
), counted AS (
    UPDATE subject
       SET active = active - 1,
           queued = queued + (SELECT count(*)::int FROM moved WHERE state = 'queued'),
           next_launch_at = greatest(next_launch_at, now() + :pause_subject_for)
      FROM refused
     WHERE subject.id = refused.subject_id
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, :event::text, state, :worker,
           jsonb_build_object('message', :message::text)
      FROM moved
)
SELECT count(*) FROM moved
""")

_FIND_WAITING_SUBJECTS: Final = parse_statement(f"""
SELECT subject.id
  FROM subject
 CROSS JOIN deployment
 WHERE {_CAN_LAUNCH}
 ORDER BY last_served_at
 LIMIT 50
""")  # noqa: S608  # our own words


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """One attempt of one job, to be carried out under a lease; `run_id` labels it upstream."""

    run_id: UUID
    job_id: UUID
    subject_id: str
    namespace: str
    attempt: int
    tries: int
    labels: dict[str, str]
    spec: dict[str, Any]
    request_id: str | None = None
    traceparent: str | None = None
    """Both of the request that made the job; none if a schedule did, or if it made no span."""
    sealed_token: bytes | None = field(default=None, repr=False)
    """The token of its subject, as the vault sealed it; none if they have none that is usable."""
    token_version: int | None = None
    sealed_secrets: bytes | None = field(default=None, repr=False)
    """Its secrets, as the vault sealed them; none if it has none."""
    has_begun: bool = False
    """Whether its call was begun with the claim, and may be sent for as long as the lease holds."""


async def claim(
    tx: Transaction,
    kind: str,
    *,
    limit: int,
    worker: str,
    lease: timedelta,
    settle_window: timedelta,
    held_slots: Mapping[str, int] | None = None,
) -> list[ClaimedJob]:
    """Claim up to `limit` due jobs, and open a run for each.

    Those with the fewest slots are first, and of those with as many the longest unserved. Nobody
    gets so many that none is left for the next one who comes.

    Once this is committed the create request may have been sent, whatever happens to the worker.

    Args:
        limit: how many slots the worker has free.
        lease: how long a run stays this worker's unless it renews.
        settle_window: how long no listing can prove that a run was never created.
        held_slots: how many slots of this kind each subject holds at this worker; None if all are
            free.
    """
    held_slots = held_slots or {}
    rows = await tx.fetch(
        *_CLAIM.bind(
            kind=kind,
            limit=limit,
            worker=worker,
            lease=lease,
            settle_window=settle_window,
            holders=list(held_slots),
            held_slots=list(held_slots.values()),
            slots_per_free_one=_SLOTS_PER_FREE_ONE,
        )
    )
    return [ClaimedJob(**row) for row in rows]


async def begin_calls(tx: Transaction, run_ids: Sequence[UUID], *, worker: str) -> set[UUID]:
    """Record that calls are about to be sent; return the runs of those that may be.

    The others were cancelled, or their lease lapsed.
    """
    return {row["run_id"] for row in await tx.fetch(_BEGIN_CALLS, run_ids, worker)}


async def renew_lease(tx: Transaction, run_id: UUID, *, lease: timedelta) -> bool:
    """Renew the lease of a call under way; false if the job was cancelled, or the run taken over.

    A lease that lapsed, and that no other worker has taken over, is still its worker's.
    """
    return await tx.fetchval(_RENEW_LEASE, run_id, lease) is not None


async def record_remote_id(
    tx: Transaction,
    run_id: UUID,
    *,
    remote_id: str,
    stage: str | None,
    worker: str,
    poll_after: timedelta,
    max_stage_duration: timedelta | None = None,
    addresses: RunAddresses | None = None,
) -> bool:
    """Record the id of a run; true if it has to be killed at once.

    An id for a run that is absent, rejected or bound to another id is recorded as a surplus run.

    Args:
        stage: what upstream calls its state; one after SCHEDULING is recorded by the first poll.
        poll_after: when the run is listed for the first time, counted from now.
        max_stage_duration: how long it may stay in its first stage; none is no limit.
    """
    doomed: bool | None = await tx.fetchval(
        *_RECORD_REMOTE_ID.bind(
            run_id=run_id,
            remote_id=remote_id,
            stage=stage,
            worker=worker,
            poll_after=poll_after,
            max_stage_duration=max_stage_duration,
            addresses=addresses,
        )
    )
    if doomed is None:
        return await run_end.record_surplus_run(
            tx, run_id, remote_id=remote_id, stage=stage, worker=worker
        )
    return doomed


async def mark_unconfirmed(
    tx: Transaction,
    run_id: UUID,
    *,
    cause: str,
    worker: str,
    recheck_after: timedelta = timedelta(0),
    only_if_lapsed: bool = False,
) -> None:
    """Record that a create request had no clear answer; listings will show whether a run exists."""
    await tx.fetchval(
        *_MARK_UNCONFIRMED.bind(
            run_id=run_id,
            cause=cause,
            recheck_after=recheck_after,
            worker=worker,
            only_if_lapsed=only_if_lapsed,
        )
    )


async def mark_not_created(
    tx: Transaction,
    run_id: UUID,
    *,
    reason: Reason | None,
    message: str,
    worker: str,
    retry_after: timedelta = timedelta(0),
    pause_subject_for: timedelta = timedelta(0),
    only_if_lapsed: bool = False,
) -> None:
    """Record that a run was provably not created: fail the job for `reason`, or queue it again.

    The worker that sent the one request of a run knows, even after another has marked it
    unconfirmed.

    Args:
        reason: why the job fails; none to queue it again.
        pause_subject_for: how long nothing of the subject's is launched, as the Hub asked.
    """
    await tx.fetchval(
        *_MARK_NOT_CREATED.bind(
            run_id=run_id,
            reason=reason,
            message=message,
            retry_after=retry_after,
            worker=worker,
            pause_subject_for=pause_subject_for,
            only_if_lapsed=only_if_lapsed,
            event=EventKind.REJECTED,
        )
    )


async def hand_back(tx: Transaction, run_id: UUID, *, message: str, worker: str) -> None:
    """Queue a job again whose call ended early so that others get its slot; it counts as no try."""
    await tx.fetchval(
        *_MARK_NOT_CREATED.bind(
            run_id=run_id,
            reason=None,
            message=message,
            retry_after=timedelta(0),
            worker=worker,
            pause_subject_for=timedelta(0),
            only_if_lapsed=False,
            event=EventKind.HANDED_BACK,
        )
    )


async def find_waiting_subjects(tx: Transaction, kind: str) -> list[str]:
    """Return subjects with a job that a free slot would take, the longest unserved first."""
    rows = await tx.fetch(*_FIND_WAITING_SUBJECTS.bind(kind=kind))
    return [row["id"] for row in rows]
