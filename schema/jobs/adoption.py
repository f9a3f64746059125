"""Jobs at the Hub that get rows here: after a restore, or because a person adopts their own.

    (no row) ──recreate_job──▶ QUEUED ──adopt_run──▶ LAUNCHING ──record_remote_id──▶ RUNNING
    LAUNCHING, its run in doubt ──settle_earlier_run──▶ QUEUED ──adopt_run──▶ …
    QUEUED, a call ──fail_doubtful_calls──▶ FAILED
    final ──record_orphan──▶ its run is killed

A run with our label that no row knows was created after the backup, by a worker that had claimed
its job. So the claim is made once more, for that very run, and the run is bound to what the Hub
has: nothing is sent. Everything after that is the business of the ordinary loops.

A job that was started outside of Holdfast is adopted in the same way, when its owner asks for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from schema.billing.budgets import Rate
from schema.common.errors import LimitReached
from schema.db.database import Transaction
from schema.db.sql import parse_statement
from schema.jobs import run_launch
from schema.jobs.run_tables import RunAddresses
from schema.jobs.tables import JobState, Reason

_ACTOR: Final = "reconcile"
_CREATION_MONTH_SQL: Final = (
    "date_trunc('month', least(:created_at, now()) AT TIME ZONE 'UTC')::date"
)
"""A job that was created last month counts to that month, whenever it is adopted."""

_FIND_JOBS: Final = """
SELECT job.id, job.state, job.kind, job.finished_at,
       (SELECT run.id FROM remote_run AS run
         WHERE run.job_id = job.id AND run.origin = 'ours'
           AND run.state IN ('posting', 'unknown')) AS doubtful_run_id
  FROM job
 WHERE job.subject_id = $1
   AND job.id = ANY($2::uuid[])
 ORDER BY job.id
   FOR UPDATE OF job
"""

_FIND_KNOWN_RUNS: Final = """
SELECT id, remote_id
  FROM remote_run
 WHERE id = ANY($1::uuid[])
    OR (remote_id = ANY($2::text[]) AND subject_id = $3)
"""

_FIND_HANDLES: Final = """
SELECT job_id, id, remote_id
  FROM remote_run
 WHERE subject_id = $1
   AND namespace = $2
   AND (remote_id = ANY($3::text[]) OR id = ANY($4::uuid[]))
"""

_COUNT_OPEN_JOBS: Final = "SELECT queued + active FROM subject WHERE id = $1"

_LIST_NAMESPACES: Final = """
SELECT namespace, bool_or(is_needed) AS is_needed
  FROM (SELECT namespace, finished_at IS NULL AS is_needed
          FROM job WHERE subject_id = $1 AND kind = 'hub_job'
        UNION ALL
        SELECT namespace, paused_at IS NULL
          FROM schedule WHERE subject_id = $1 AND kind = 'hub_job') AS named
 GROUP BY namespace
 ORDER BY namespace
"""

_RECREATE_JOB: Final = parse_statement(f"""
WITH made AS (
    INSERT INTO job (id, subject_id, kind, namespace, title, labels, flavor, adoption, created_at,
                     digest)
    SELECT :job_id, :subject_id, 'hub_job', :namespace, :title, :labels, :spec::jsonb ->> 'flavor',
           :adoption, least(:created_at, now()),
           sha256(convert_to(jsonb_build_array('hub_job', :namespace::text, :spec::jsonb)::text,
                             'UTF8'))
    ON CONFLICT (id) DO NOTHING
    RETURNING *
), payload AS (
    INSERT INTO job_payload (job_id, spec)
    SELECT id, :spec FROM made
), unknown_secrets AS (
    -- Nobody can look for them in its log, so its log is withheld.
    INSERT INTO job_secret (job_id, subject_id, sealed)
    SELECT id, subject_id, ''::bytea FROM made WHERE :has_secrets
), counted AS (
    UPDATE subject
       SET queued = queued + 1
     WHERE id = :subject_id
       AND EXISTS (SELECT FROM made)
), priced AS (
    -- No budget can refuse what is being spent already.
    INSERT INTO job_cost (job_id, subject_id, month, price_micro_usd, ceiling_micro_usd,
                          held_micro_usd)
    SELECT id, subject_id, {_CREATION_MONTH_SQL}, :price_micro_usd::bigint,
           :ceiling_micro_usd::bigint, :ceiling_micro_usd
      FROM made
     WHERE :price_micro_usd IS NOT NULL
), monthly AS (
    INSERT INTO spending AS so_far (subject_id, month, held_micro_usd)
    SELECT subject_id, {_CREATION_MONTH_SQL}, :ceiling_micro_usd
      FROM made
     WHERE :ceiling_micro_usd IS NOT NULL
    ON CONFLICT (subject_id, month) DO UPDATE
       SET held_micro_usd = so_far.held_micro_usd + excluded.held_micro_usd
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, 'created', state, :actor,
           jsonb_strip_nulls(jsonb_build_object('adopted', true, 'client', :client::text,
                                                'request_id', :request_id::text))
      FROM made
)
SELECT count(*) FROM made
""")  # noqa: S608  # our own words

_CLAIM_FOR_RUN: Final = parse_statement("""
WITH before AS MATERIALIZED (
    SELECT id
      FROM job
     WHERE id = :job_id
       AND subject_id = :subject_id
       AND state = 'queued'
       AND kind = 'hub_job'
       FOR UPDATE
), claimed AS (
    UPDATE job
       SET state = 'launching',
           attempt = attempt + 1,
           due_at = NULL,
           version = version + 1
      FROM before
     WHERE job.id = before.id
    RETURNING job.*
), intent AS (
    INSERT INTO remote_run (id, job_id, subject_id, namespace, kind, attempt, state, due_at,
                            absent_after, posted_at)
    SELECT :run_id, id, subject_id, :namespace, kind, attempt, 'posting', now(), now(),
           least(:posted_at, now())
      FROM claimed
), counted AS (
    UPDATE subject
       SET active = active + 1,
           queued = queued - 1
      FROM claimed
     WHERE subject.id = claimed.subject_id
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, 'claimed', state, :actor,
           jsonb_build_object('attempt', attempt, 'adopted', true)
      FROM claimed
)
SELECT count(*) FROM claimed
""")

_RECORD_ORPHAN: Final = parse_statement(f"""
WITH before AS MATERIALIZED (
    SELECT id
      FROM job
     WHERE id = :job_id
       AND subject_id = :subject_id
       FOR UPDATE
), orphan AS (
    INSERT INTO remote_run (id, job_id, subject_id, namespace, kind, attempt, origin, state,
                            desired, remote_id, stage, seen_at, due_at, absent_after, posted_at)
    SELECT :run_id, job.id, job.subject_id, :namespace, job.kind, job.attempt, 'surplus', 'bound',
           'dead', :remote_id, :stage, now(), now(), now(), least(:posted_at, now())
      FROM job
      JOIN before ON before.id = job.id
    ON CONFLICT DO NOTHING
    RETURNING *
), moved AS (
    UPDATE job
       SET version = version + 1
      FROM orphan
     WHERE job.id = orphan.job_id
    RETURNING job.*
), watched AS (
    INSERT INTO poll_group (subject_id, namespace, live, due_at)
    SELECT subject_id, namespace, 1, now() FROM orphan
    ON CONFLICT (subject_id, namespace) DO UPDATE
       SET live = poll_group.live + 1,
           due_at = now()
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, 'surplus', state, '{_ACTOR}',
           jsonb_build_object('remote_id', :remote_id::text)
      FROM moved
)
SELECT count(*) FROM moved
""")  # noqa: S608  # our own words

# First of all, so that the jobs are locked before the subject is.
_LOCK_CALLS: Final = """
SELECT id
  FROM job
 WHERE subject_id = $1
   AND kind <> 'hub_job'
   AND created_at <= $2
   AND finished_at IS NULL
 ORDER BY id
   FOR UPDATE
"""

_FIND_OPEN_CALLS: Final = """
SELECT run.id
  FROM remote_run AS run
  JOIN job ON job.id = run.job_id
 WHERE job.subject_id = $1
   AND job.kind <> 'hub_job'
   AND job.created_at <= $2
   AND job.finished_at IS NULL
   AND run.state = 'posting'
 ORDER BY job.id
"""

_FAIL_QUEUED_CALLS: Final = parse_statement(f"""
WITH before AS MATERIALIZED (
    SELECT id
      FROM job
     WHERE subject_id = :subject_id
       AND kind <> 'hub_job'
       AND state = 'queued'
       AND created_at <= :created_until
     ORDER BY id
       FOR UPDATE
), moved AS (
    UPDATE job
       SET state = 'failed',
           reason = '{Reason.OUTCOME_UNKNOWN}',
           message = :message,
           finished_at = now(),
           due_at = NULL,
           version = version + 1
      FROM before
     WHERE job.id = before.id
    RETURNING job.*
), counted AS (
    UPDATE subject
       SET queued = queued - given_up.jobs
      FROM (SELECT subject_id, count(*)::int AS jobs FROM moved GROUP BY 1) AS given_up
     WHERE subject.id = given_up.subject_id
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, 'expired', state, '{_ACTOR}',
           jsonb_build_object('reason', reason, 'message', message)
      FROM moved
)
SELECT count(*) FROM moved
""")  # noqa: S608  # our own words

_CALL_MESSAGE: Final = (
    "It may have been carried out after the backup that this server was restored from."
)


@dataclass(frozen=True, slots=True)
class JobAtRestore:
    """A job that the rows have, as far as an adoption needs it; its row is locked."""

    id: UUID
    state: JobState
    kind: str
    finished_at: datetime | None
    doubtful_run_id: UUID | None
    """Its open run of which no remote id is known."""


@dataclass(frozen=True, slots=True)
class UntrackedRun:
    """A run of ours at the Hub that no row knows."""

    job_id: UUID
    run_id: UUID
    subject_id: str
    namespace: str
    remote_id: str
    stage: str | None
    created_at: datetime | None
    """By the Hub's clock."""
    addresses: RunAddresses | None = None


async def list_namespaces(tx: Transaction, subject_id: str) -> dict[str, bool]:
    """Return where jobs of a subject ran, and whether one there may have been launched since."""
    rows = await tx.fetch(_LIST_NAMESPACES, subject_id)
    return {row["namespace"]: row["is_needed"] for row in rows}


async def lock_jobs(
    tx: Transaction, subject_id: str, job_ids: Sequence[UUID]
) -> dict[UUID, JobAtRestore]:
    """Return those of the jobs that the subject has, and lock them."""
    rows = await tx.fetch(_FIND_JOBS, subject_id, sorted(job_ids))
    return {
        row["id"]: JobAtRestore(
            row["id"],
            JobState(row["state"]),
            row["kind"],
            row["finished_at"],
            row["doubtful_run_id"],
        )
        for row in rows
    }


async def find_known_runs(
    tx: Transaction, subject_id: str, run_ids: Sequence[UUID], remote_ids: Sequence[str]
) -> tuple[set[UUID], set[str]]:
    """Return which of these runs, and which of the jobs at the Hub, the subject's rows know."""
    rows = await tx.fetch(_FIND_KNOWN_RUNS, run_ids, remote_ids, subject_id)
    return {row["id"] for row in rows}, {row["remote_id"] for row in rows}


async def recreate_job(
    tx: Transaction,
    run: UntrackedRun,
    *,
    title: str,
    labels: dict[str, str],
    spec: dict[str, Any],
    created_at: datetime,
    has_secrets: bool,
    rate: Rate | None,
    adoption: dict[str, Any] | None = None,
    actor: str = _ACTOR,
    client: str | None = None,
    request_id: str | None = None,
) -> bool:
    """Make the job of a run again, under its handle; false if there is one with that id.

    Its cost is reserved without a look at the budgets: it is being spent.

    Args:
        has_secrets: whether it was given secrets, which are lost; its log is withheld then.
        rate: what it can cost; none if that is not known.
        adoption: what is written of a job that was started outside of Holdfast; none of ours.
        actor: who has it made.
    """
    return bool(
        await tx.fetchval(
            *_RECREATE_JOB.bind(
                job_id=run.job_id,
                subject_id=run.subject_id,
                namespace=run.namespace,
                title=title,
                labels=labels,
                spec=spec,
                created_at=created_at,
                has_secrets=has_secrets,
                price_micro_usd=rate and rate.price_micro_usd,
                ceiling_micro_usd=rate and rate.ceiling_micro_usd,
                adoption=adoption,
                actor=actor,
                client=client,
                request_id=request_id,
            )
        )
    )


async def find_handles(
    tx: Transaction,
    subject_id: str,
    namespace: str,
    *,
    remote_ids: Sequence[str],
    run_ids: Sequence[UUID] = (),
) -> dict[str | UUID, UUID]:
    """Return the subject's jobs behind jobs of the Hub, by the id there and by that of the run.

    Args:
        run_ids: the runs that labels at the Hub name; one may be in doubt, and have no id there.
    """
    rows = await tx.fetch(_FIND_HANDLES, subject_id, namespace, remote_ids, run_ids)
    handles: dict[str | UUID, UUID] = {row["id"]: row["job_id"] for row in rows}
    return handles | {row["remote_id"]: row["job_id"] for row in rows if row["remote_id"]}


async def expect_open_jobs_within(tx: Transaction, subject_id: str, *, max_open_jobs: int) -> None:
    """Refuse what the transaction has made, if the subject has too many open jobs with it.

    Raises:
        LimitReached: the transaction must not commit.
    """
    open_jobs: int = await tx.fetchval(_COUNT_OPEN_JOBS, subject_id)
    if open_jobs > max_open_jobs:
        raise LimitReached(open_jobs=open_jobs - 1, max_open_jobs=max_open_jobs)


async def settle_earlier_run(tx: Transaction, run_id: UUID) -> None:
    """Settle a run in doubt whose job was launched once more since: it had not been created.

    If it shows up nevertheless, it is surplus, and killed.
    """
    await run_launch.mark_not_created(
        tx,
        run_id,
        reason=None,
        message="A later attempt is at Hugging Face.",
        worker=_ACTOR,
    )


async def adopt_run(
    tx: Transaction,
    run: UntrackedRun,
    *,
    earliest: datetime,
    max_stage_duration: timedelta | None,
    actor: str = _ACTOR,
) -> bool:
    """Claim a queued job for a run that exists, and bind the run; false if it is not queued.

    Args:
        earliest: when the run can have been created at the earliest, by our clock.
        max_stage_duration: how long it may stay in its stage; none: it is never expired.
    """
    is_claimed = await tx.fetchval(
        *_CLAIM_FOR_RUN.bind(
            job_id=run.job_id,
            subject_id=run.subject_id,
            namespace=run.namespace,
            run_id=run.run_id,
            posted_at=max(earliest, run.created_at or earliest),
            actor=actor,
        )
    )
    if not is_claimed:
        return False
    await run_launch.record_remote_id(
        tx,
        run.run_id,
        remote_id=run.remote_id,
        stage=run.stage,
        addresses=run.addresses,
        worker=actor,
        poll_after=timedelta(0),
        max_stage_duration=max_stage_duration,
    )
    return True


async def record_orphan(tx: Transaction, run: UntrackedRun, *, earliest: datetime) -> bool:
    """Record a run whose job is over, with its kill order; false if it is known already."""
    return bool(
        await tx.fetchval(
            *_RECORD_ORPHAN.bind(
                job_id=run.job_id,
                subject_id=run.subject_id,
                namespace=run.namespace,
                run_id=run.run_id,
                remote_id=run.remote_id,
                stage=run.stage,
                posted_at=max(earliest, run.created_at or earliest),
            )
        )
    )


async def fail_doubtful_calls(tx: Transaction, subject_id: str, *, created_until: datetime) -> int:
    """Fail the calls of a subject that the backup has unfinished; return how many.

    A call leaves no trace at the Hub, so nobody knows whether it was carried out since.
    """
    await tx.execute(_LOCK_CALLS, subject_id, created_until)
    runs = await tx.fetch(_FIND_OPEN_CALLS, subject_id, created_until)
    for run in runs:
        await run_launch.mark_not_created(
            tx, run["id"], reason=Reason.OUTCOME_UNKNOWN, message=_CALL_MESSAGE, worker=_ACTOR
        )
    failed: int = await tx.fetchval(
        *_FAIL_QUEUED_CALLS.bind(
            subject_id=subject_id, created_until=created_until, message=_CALL_MESSAGE
        )
    )
    return failed + len(runs)
