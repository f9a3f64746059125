"""The transitions of a job that its subject makes: submission and cancellation.

    QUEUED ──claim──▶ LAUNCHING ──record_remote_id──▶ RUNNING ──end_run──▶ SUCCEEDED
      ▲                   │  mark_not_created, mark_absent                 or FAILED
      └───────────────────┘                                                or CANCELLED

    FAILED also follows QUEUED and LAUNCHING; CANCELLED follows every state that is not final.

The transitions that a worker makes are in `schema.jobs.run_launch` and `schema.jobs.run_end`. Each
transition, here and there, is one statement: it locks the job, compares what it must, sets the new
values, updates the counters of the subject and appends the event. So no crash can leave half of it.
(A cancel locks its jobs in a statement before that one: the second statement then sees a run that a
claim was just inserting.) Locks are taken in the order job, run, subject, poll group. Time is the
database's. Nothing here commits: the caller's transaction does.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Required, TypedDict, Unpack
from uuid import UUID

from schema.accounts.idempotency import check_same_request
from schema.accounts.secrets import SecretValues
from schema.billing import budgets
from schema.billing.budgets import Rate
from schema.common import ids
from schema.common.errors import (
    HoldfastError,
    LimitReached,
    NotFound,
    Unavailable,
    WorkspaceArchived,
)
from schema.db.database import (
    COMMIT_WITHOUT_DISK_SQL,
    CommitListener,
    StatementCommitter,
    Transaction,
)
from schema.db.sql import parse_statement
from schema.db.storable import refuse_oversized_spec
from schema.jobs.dependencies import DependencyCondition
from schema.jobs.tables import Job

_COMPARED_COLUMNS: Final = (
    *("kind", "namespace", "workspace_id", "labels", "max_cost_usd", "rerun_of", "after", "on"),
)
_SPEC_SIZE_CONSTRAINT: Final = "ck_job_payload_spec_size"

_SUBMIT_JOB: Final = parse_statement(f"""
WITH acting AS MATERIALIZED (
    -- All that follows reads it first. Whoever acts for nobody, or for another, is refused.
    SELECT CASE WHEN :acting_subject_id::text IS NOT NULL
                THEN set_config('holdfast.subject', :acting_subject_id, true) END,
           {COMMIT_WITHOUT_DISK_SQL}
), key AS (
    INSERT INTO idempotency_key AS held (subject_id, key, job_id, expires_at, secrets_digest)
    SELECT :subject_id, :idempotency_key, :job_id, now() + interval '24 hours', :secrets_digest
      FROM acting
     WHERE :idempotency_key::text IS NOT NULL
    ON CONFLICT (subject_id, key) DO UPDATE
       SET job_id = excluded.job_id,
           expires_at = excluded.expires_at,
           secrets_digest = excluded.secrets_digest
     WHERE held.expires_at <= now()
    RETURNING job_id
), accepted AS (
    SELECT job_id FROM key
     UNION ALL
    SELECT :job_id::uuid FROM acting WHERE :idempotency_key::text IS NULL
), parents AS MATERIALIZED (
    -- Whatever ends one of them waits for us, or we wait for it: their states here stay true.
    SELECT id,
           CASE WHEN state = 'succeeded'
                     OR (:dependency_condition = 'finish' AND finished_at IS NOT NULL) THEN 'met'
                WHEN finished_at IS NOT NULL THEN 'unmet'
                ELSE 'waiting' END AS wait
      FROM job
     WHERE subject_id = :subject_id
       AND id = ANY(:parent_ids::uuid[])
     ORDER BY id
       FOR SHARE
), made AS (
    INSERT INTO job (id, subject_id, workspace_id, kind, namespace, title, labels, flavor,
                     digest, rerun_of, schedule_id, due_at)
    SELECT job_id, :subject_id, :workspace_id, :kind, :namespace, :title, :labels,
           :spec::jsonb ->> 'flavor',
           sha256(convert_to(
               jsonb_build_array(:kind::text, :namespace::text, :spec::jsonb)::text, 'UTF8')),
           :rerun_of, :schedule_id,
           CASE WHEN EXISTS (SELECT FROM parents WHERE wait <> 'met') THEN 'infinity'::timestamptz
                ELSE now() END
      FROM accepted
    ON CONFLICT (id) DO NOTHING
    RETURNING *
), payload AS (
    INSERT INTO job_payload (job_id, spec)
    SELECT id, :spec FROM made
), linked AS (
    INSERT INTO job_dependency (job_id, parent_id, subject_id, on_end, state)
    SELECT made.id, parents.id, :subject_id, :dependency_condition, parents.wait
      FROM made, parents
), counted AS (
    UPDATE subject
       SET queued = queued + 1
     WHERE id = :subject_id
       AND queued + active < :max_open_jobs
       AND (:acting_subject_id::text IS NULL OR hold IS DISTINCT FROM 'credentials')
       AND EXISTS (SELECT FROM made)
    RETURNING id,
              coalesce(monthly_budget_micro_usd, :default_monthly_budget::bigint) AS budget
), priced AS (
    INSERT INTO job_cost (job_id, subject_id, month, price_micro_usd, ceiling_micro_usd,
                          most_micro_usd, held_micro_usd)
    SELECT id, :subject_id, {budgets.CURRENT_MONTH_SQL}, :price_micro_usd::bigint,
           :ceiling_micro_usd::bigint, :most_micro_usd::bigint, :ceiling_micro_usd
      FROM made
     WHERE :price_micro_usd IS NOT NULL
), entered AS (
    -- This lock waits for an archive or a new budget under way, and then reads the row again;
    -- a later one waits for us.
    SELECT workspace.id, workspace.budget_micro_usd
      FROM workspace, counted
     WHERE workspace.id = :workspace_id
       AND workspace.subject_id = :subject_id
       AND workspace.archived_at IS NULL
       FOR NO KEY UPDATE OF workspace
), grouped AS (
    UPDATE workspace
       SET held_micro_usd = workspace.held_micro_usd + :ceiling_micro_usd
      FROM entered
     WHERE workspace.id = entered.id
       AND workspace.subject_id = :subject_id
       AND :ceiling_micro_usd IS NOT NULL
       AND (workspace.budget_micro_usd IS NULL
            OR workspace.held_micro_usd + workspace.spent_micro_usd + :ceiling_micro_usd
               <= workspace.budget_micro_usd)
    RETURNING workspace.id
), monthly AS (
    INSERT INTO spending AS so_far (subject_id, month, held_micro_usd)
    SELECT id, {budgets.CURRENT_MONTH_SQL}, :ceiling_micro_usd
      FROM counted
     WHERE (:workspace_id::uuid IS NULL OR EXISTS (SELECT FROM grouped))
       AND (budget IS NULL OR :ceiling_micro_usd <= budget)
       AND :ceiling_micro_usd IS NOT NULL
    ON CONFLICT (subject_id, month) DO UPDATE
       SET held_micro_usd = so_far.held_micro_usd + excluded.held_micro_usd
     WHERE (SELECT budget IS NULL
                   OR so_far.held_micro_usd + so_far.spent_micro_usd + :ceiling_micro_usd <= budget
              FROM counted)
    RETURNING subject_id
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, 'created', state, :subject_id,
           jsonb_strip_nulls(jsonb_build_object('client', :client::text,
                                                'request_id', :request_id::text,
                                                'traceparent', :traceparent::text))
      FROM made
), checked AS MATERIALIZED (
    SELECT made.*,
           EXISTS (SELECT FROM counted) AS counted,
           (SELECT count(*) FROM parents) = coalesce(cardinality(:parent_ids::uuid[]), 0)
               AS related,
           :workspace_id::uuid IS NULL OR EXISTS (SELECT FROM entered) AS entered,
           CASE WHEN :ceiling_micro_usd IS NOT NULL THEN EXISTS (SELECT FROM monthly)
                ELSE NOT EXISTS (SELECT FROM counted WHERE budget IS NOT NULL)
                 AND NOT EXISTS (SELECT FROM entered WHERE budget_micro_usd IS NOT NULL) END
               AS held,
           EXISTS (SELECT FROM grouped) AS grouped,
           CASE WHEN :idempotency_key::text IS NULL THEN (
               SELECT earlier.id
                 FROM job AS earlier
                WHERE earlier.subject_id = :subject_id
                  AND earlier.digest = made.digest
                  AND earlier.state NOT IN ('failed', 'cancelled')
                  AND earlier.created_at > now() - interval '10 minutes'
                  AND earlier.id IS DISTINCT FROM :rerun_of
                ORDER BY earlier.created_at DESC
                LIMIT 1) END AS possible_duplicate_of
      FROM made
)
SELECT *
  FROM checked
 WHERE CASE WHEN :acting_subject_id::text IS NULL OR (counted AND related AND entered AND held)
            THEN true ELSE undo_statement() END
""")  # noqa: S608  # our own words

_SELECT_SUBMITTED_JOB: Final = """
SELECT job.*, job_payload.spec, job_cost.most_micro_usd AS max_cost_usd,
       (SELECT array_agg(parent_id ORDER BY parent_id)
          FROM job_dependency
         WHERE job_id = job.id) AS after,
       (SELECT min(on_end) FROM job_dependency WHERE job_id = job.id) AS "on",
       (SELECT secrets_digest FROM idempotency_key WHERE subject_id = $1 AND key = $2)
           AS secrets_digest
  FROM job
  JOIN job_payload ON job_payload.job_id = job.id
  LEFT JOIN job_cost ON job_cost.job_id = job.id
 WHERE job.subject_id = $1
   AND job.id = coalesce((SELECT job_id
                            FROM idempotency_key
                           WHERE subject_id = $1
                             AND key = $2), $3)
"""

# A separate statement: it waits for a claim under way, and the next statement sees its run.
_LOCK_JOBS: Final = (
    "SELECT FROM job WHERE id = ANY($1::uuid[]) AND subject_id = $2 ORDER BY id FOR UPDATE"
)

_CANCEL_JOBS: Final = """
WITH before AS MATERIALIZED (
    SELECT id, state
      FROM job
     WHERE id = ANY($1::uuid[])
       AND subject_id = $2
       AND state IN ('queued', 'launching', 'running')
), called_off AS (
    UPDATE job
       SET state = 'cancelled',
           cancel_requested_at = now(),
           finished_at = now(),
           due_at = NULL,
           version = version + 1
      FROM before
     WHERE job.id = before.id
    RETURNING job.*, before.state AS was
), doomed AS (
    -- A call has no id to kill it by: its worker sees the order when it renews the lease.
    UPDATE remote_run AS run
       SET desired = 'dead',
           due_at = CASE run.kind WHEN 'hub_job' THEN now() ELSE run.due_at END
      FROM called_off
     WHERE run.job_id = called_off.id
       AND run.state IN ('posting', 'unknown', 'bound')
), counted AS (
    UPDATE subject
       SET queued = queued - waiting.jobs
      FROM (SELECT subject_id, count(*)::int AS jobs
              FROM called_off
             WHERE was = 'queued'
             GROUP BY 1) AS waiting
     WHERE subject.id = waiting.subject_id
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, 'cancelled', state, $2,
           jsonb_strip_nulls(jsonb_build_object('client', $3::text, 'request_id', $4::text))
      FROM called_off
)
SELECT id FROM called_off
"""


class SubmittedJob(Job):
    """A submitted job."""

    possible_duplicate_of: UUID | None = None
    """A job of the same request, minutes old; looked for only without an idempotency key."""


class Submission(TypedDict, total=False):
    """What a job is submitted with."""

    job_id: UUID | None
    """A caller that does not know whether its commit was carried out submits it again: there is one
    job, whichever of the two calls made it. None: a new one."""
    subject_id: Required[str]
    kind: Required[str]
    namespace: Required[str]
    title: Required[str]
    spec: Required[dict[str, Any]]
    labels: Required[dict[str, str]]
    max_open_jobs: Required[int]
    workspace_id: UUID | None
    idempotency_key: str | None
    client: str | None
    request_id: str | None
    traceparent: str | None
    """Of the span of the call, if traces are made."""
    rate: Rate | None
    """What a launch of it can cost; none if it has no price."""
    default_monthly_budget: int | None
    """Millionths of a dollar, for a subject without a budget of its own."""
    rerun_of: UUID | None
    parent_ids: Sequence[UUID]
    """The job waits until these have ended as `dependency_condition` says."""
    dependency_condition: DependencyCondition
    schedule_id: UUID | None
    secret_values: SecretValues | None
    """Compared under the idempotency key; storing them is up to the caller."""


async def submit_job(tx: Transaction, **submission: Unpack[Submission]) -> SubmittedJob:
    """Put a job in the queue; the same key and request again return the first job.

    Raises:
        IdempotencyConflict: the key belongs to a different request.
        NotFound: the subject has no such job to wait for; the transaction must not commit.
        LimitReached: the subject has `max_open_jobs` open jobs; the transaction must not commit.
        WorkspaceArchived: it takes no new jobs; the transaction must not commit.
        BudgetExceeded: a budget has no room for the worst case, or the job has no price; the
            transaction must not commit.
        Invalid: the request is too large to be stored.
    """
    parameters = _bind_submission(submission)
    with refuse_oversized_spec(_SPEC_SIZE_CONSTRAINT, consequence="nothing was launched"):
        row = await tx.fetchrow(*_SUBMIT_JOB.bind(**parameters))
    if row is None:
        return await _find_submitted_job(tx, parameters, submission.get("secret_values"))
    refusal = await _find_refusal(tx, row, parameters, submission.get("rate"))
    if refusal is not None:
        raise refusal
    return SubmittedJob.from_row(row)


async def commit_job(
    database: StatementCommitter,
    acting_subject_id: str,
    on_commit: CommitListener | None = None,
    **submission: Unpack[Submission],
) -> SubmittedJob | None:
    """Put a job in the queue and commit it in one statement.

    The locks of the subject, its budgets and its workspace are then held for that statement only,
    and not while its answer is on the way.

    Args:
        database: commits it.
        acting_subject_id: whose rows it may see.
        on_commit: called when the job is committed, before it is on disk: a wake-up may be sent by
            then, because a worker sends nothing before its claim is on disk, and the job with it.
        submission: what is submitted.

    Returns:
        The job; or None, and nothing was done: it exists already, or is refused, or its subject
        has no usable token. `submit_job` in a transaction finds it, or says why.

    Raises:
        Invalid: the request is too large to be stored.
        Unavailable: nothing was done.
        InDoubt: it may have been.
    """
    parameters = _bind_submission(submission, acting_subject_id=acting_subject_id)
    with refuse_oversized_spec(_SPEC_SIZE_CONSTRAINT, consequence="nothing was launched"):
        row = await database.commit_statement(*_SUBMIT_JOB.bind(**parameters), on_commit=on_commit)
    return None if row is None else SubmittedJob.from_row(row)


def _bind_submission(
    submission: Submission, *, acting_subject_id: str | None = None
) -> dict[str, Any]:
    """Name the parameters of the statement.

    Args:
        submission: what is submitted.
        acting_subject_id: whom the statement itself acts for, undoing itself if it is refused;
            None: its transaction does both.
    """
    rate, secret_values = submission.get("rate"), submission.get("secret_values")
    key = submission.get("idempotency_key")
    return {
        "acting_subject_id": acting_subject_id,
        "job_id": submission.get("job_id") or ids.new_id(),
        "subject_id": submission["subject_id"],
        "workspace_id": submission.get("workspace_id"),
        "kind": submission["kind"],
        "namespace": submission["namespace"],
        "title": submission["title"],
        "labels": submission["labels"],
        "spec": submission["spec"],
        "idempotency_key": key,
        "max_open_jobs": submission["max_open_jobs"],
        "client": submission.get("client"),
        "request_id": submission.get("request_id"),
        "traceparent": submission.get("traceparent"),
        "price_micro_usd": rate and rate.price_micro_usd,
        "ceiling_micro_usd": rate and rate.ceiling_micro_usd,
        "most_micro_usd": rate and rate.most_micro_usd,
        "default_monthly_budget": submission.get("default_monthly_budget"),
        "rerun_of": submission.get("rerun_of"),
        "parent_ids": sorted(set(submission.get("parent_ids", ()))),
        "dependency_condition": submission.get("dependency_condition", DependencyCondition.SUCCESS),
        "schedule_id": submission.get("schedule_id"),
        "secrets_digest": key and secret_values and secret_values.digest(),
    }


async def cancel_job(
    tx: Transaction,
    job_id: UUID,
    *,
    subject_id: str,
    client: str | None = None,
    request_id: str | None = None,
) -> bool:
    """Cancel a job, at once and for good.

    A kill order is written for its open remote run, and repeated until the run is seen to be over.

    Returns:
        False if the subject has no such job, or it was final before.
    """
    return bool(
        await cancel_jobs(tx, [job_id], subject_id=subject_id, client=client, request_id=request_id)
    )


async def cancel_jobs(
    tx: Transaction,
    job_ids: Sequence[UUID],
    *,
    subject_id: str,
    client: str | None = None,
    request_id: str | None = None,
) -> list[UUID]:
    """Cancel several jobs as `cancel_job` does; return those that were open, and are cancelled."""
    await tx.execute(_LOCK_JOBS, job_ids, subject_id)
    rows = await tx.fetch(_CANCEL_JOBS, job_ids, subject_id, client, request_id)
    return [row["id"] for row in rows]


_COUNT_OPEN_JOBS: Final = "SELECT queued + active FROM subject WHERE id = $1"


async def _find_submitted_job(
    tx: Transaction, submission: Mapping[str, Any], secret_values: SecretValues | None
) -> SubmittedJob:
    """Return the job that was made with the same idempotency key, or the same id.

    Raises:
        IdempotencyConflict: the key was used for a request that differs.
        Unavailable: the job with that key is gone by now.
    """
    key: str | None = submission["idempotency_key"]
    # A separate statement: it sees the earlier job even if that one committed a moment ago.
    row = await tx.fetchrow(
        _SELECT_SUBMITTED_JOB, submission["subject_id"], key, submission["job_id"]
    )
    if row is None:
        raise Unavailable("The idempotency key")
    job = SubmittedJob.from_row(row)
    if key is not None:
        check_same_request(
            key,
            ids.format_handle(ids.HandleKind.JOB, job.id),
            earlier=row["spec"] | {name: row[name] for name in _COMPARED_COLUMNS},
            repeated=_compared_fields(submission),
            has_other_secrets=secret_values is not None
            and secret_values.differ_from(row["secrets_digest"]),
        )
    return job


def _compared_fields(submission: Mapping[str, Any]) -> dict[str, Any]:
    parent_ids = submission["parent_ids"]
    compared: dict[str, Any] = submission["spec"] | {
        "kind": submission["kind"],
        "namespace": submission["namespace"],
        "workspace_id": submission["workspace_id"],
        "labels": submission["labels"],
        "max_cost_usd": submission["most_micro_usd"],
        "rerun_of": submission["rerun_of"],
        "after": parent_ids or None,
        "on": submission["dependency_condition"] if parent_ids else None,
    }
    return compared


async def _find_refusal(
    tx: Transaction, row: Mapping[str, Any], submission: Mapping[str, Any], rate: Rate | None
) -> HoldfastError | None:
    """Return why a job that was just written must not be committed; none if it may be."""
    subject_id, workspace_id = submission["subject_id"], submission["workspace_id"]
    if not row["counted"]:
        open_jobs: int = await tx.fetchval(_COUNT_OPEN_JOBS, subject_id)
        return LimitReached(open_jobs=open_jobs, max_open_jobs=submission["max_open_jobs"])
    if not row["related"]:
        handles = [ids.format_handle(ids.HandleKind.JOB, id_) for id_ in submission["parent_ids"]]
        return NotFound("job", ", ".join(handles))
    if not row["entered"]:
        # Only a workspace can be archived, so one is named.
        return WorkspaceArchived(ids.format_handle(ids.HandleKind.WORKSPACE, workspace_id))
    if not row["held"]:
        # If the workspace had room, its hold is counted by now, until the caller rolls back.
        budget_statuses = await budgets.read_budgets(
            tx,
            subject_id,
            None if row["grouped"] else workspace_id,
            default_monthly_budget=submission["default_monthly_budget"],
        )
        # A job that was cancelled meanwhile may have made room; then the same call succeeds.
        return budgets.find_exceeded_budget(budget_statuses, rate) or Unavailable("The budget")
    return None
