"""The queue of webhook deliveries, for the workers: leases on targets, attempts, and outcomes.

What is leased is a target, so that one worker at a time sends to it, and one request at a time. A
target that fails rests, the longer the more often it has failed in a row, and so does the delivery
that it has refused. So a dead target costs one attempt an hour however many deliveries wait for it,
and one delivery that its target cannot read does not hold up the others.

Targets are leased in rounds: the first of each subject before the second of anybody, and never more
than a few of one subject at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from schema.db.database import Transaction
from schema.db.sql import parse_statement
from schema.workspaces.tables import DeliveryError

_MAX_SETTLED_ROWS: Final = 1000
"""Deliveries that are given up in one statement."""

_LEASE_TARGETS: Final = parse_statement("""
WITH busy AS MATERIALIZED (
    SELECT subject_id, count(*) AS targets
      FROM webhook_target
     WHERE leased_until > now()
     GROUP BY subject_id
), due AS MATERIALIZED (
    SELECT pending.target_id, pending.due_at,
           row_number() OVER (PARTITION BY pending.subject_id ORDER BY pending.due_at)
               + coalesce(busy.targets, 0) AS place
      FROM pending_webhooks() AS pending
      LEFT JOIN busy ON busy.subject_id = pending.subject_id
     WHERE pending.due_at <= now()
), chosen AS MATERIALIZED (
    SELECT target.id
      FROM webhook_target AS target
      JOIN due ON due.target_id = target.id
     WHERE due.place <= :per_subject
       AND target.due_at <= now()
       AND coalesce(target.leased_until <= now(), true)
     ORDER BY due.place, due.due_at
     LIMIT :limit
       FOR NO KEY UPDATE OF target SKIP LOCKED
)
UPDATE webhook_target AS target
   SET leased_until = now() + :lease::interval
  FROM chosen
 WHERE target.id = chosen.id
RETURNING target.id AS target_id, target.subject_id, target.leased_until
""")

_RELEASE_TARGET: Final = """
UPDATE webhook_target SET leased_until = NULL WHERE id = $1 AND leased_until = $2
"""

# A delivery that was never tried is tried once, however late.
_SETTLE_DELIVERIES: Final = parse_statement(f"""
UPDATE webhook_delivery AS delivery
   SET state = CASE WHEN target.disabled_at IS NULL THEN 'expired' ELSE 'disabled' END,
       due_at = NULL
  FROM webhook_target AS target
 WHERE target.id = :target_id
   AND delivery.job_id IN (
           SELECT job_id
             FROM webhook_delivery
            WHERE target_id = :target_id
              AND due_at IS NOT NULL
              AND (target.disabled_at IS NOT NULL
                   OR (due_at <= now()
                       AND attempts > 0
                       AND ended_at < now() - :give_up_after::interval))
            LIMIT {_MAX_SETTLED_ROWS})
""")  # noqa: S608  # our own words

_BEGIN_ATTEMPT: Final = parse_statement("""
WITH due AS MATERIALIZED (
    SELECT delivery.job_id
      FROM webhook_target AS target
      JOIN webhook_delivery AS delivery ON delivery.target_id = target.id
     WHERE target.id = :target_id
       AND target.leased_until = :leased_until::timestamptz
       AND target.disabled_at IS NULL
       AND delivery.due_at <= now()
     ORDER BY delivery.due_at, delivery.job_id
     LIMIT 1
       FOR NO KEY UPDATE OF delivery
), begun AS (
    -- If this worker dies, it is due again when the lease of the target lapses.
    UPDATE webhook_delivery AS delivery
       SET attempts = delivery.attempts + 1,
           last_attempt_at = now(),
           due_at = :leased_until
      FROM due
     WHERE delivery.job_id = due.job_id
    RETURNING delivery.*
)
SELECT begun.job_id, begun.subject_id, begun.target_id, begun.attempts, now() AS attempted_at,
       job.state, job.reason, job.title, job.kind, job.exit_code, job.workspace_id, job.namespace,
       job.finished_at, run.remote_id,
       cost.job_id IS NOT NULL AS is_priced, cost.spent_micro_usd,
       EXISTS (SELECT FROM restored_subject AS restored
                WHERE restored.subject_id = begun.subject_id
                  AND restored.backup_at >= job.created_at) AS is_restored,
       ARRAY(SELECT sealed
               FROM webhook_secret AS secret
              WHERE secret.target_id = begun.target_id
                AND coalesce(secret.expires_at > now(), true)
              ORDER BY secret.expires_at DESC NULLS FIRST) AS sealed_secrets
  FROM begun
  JOIN job ON job.id = begun.job_id
  LEFT JOIN job_cost AS cost ON cost.job_id = job.id
  LEFT JOIN LATERAL (
      SELECT remote_id
        FROM remote_run
       WHERE remote_run.job_id = job.id
         AND origin = 'ours'
       ORDER BY attempt DESC
       LIMIT 1) AS run ON true
""")

# That it was taken is a fact, whoever holds the lease by now.
_RECORD_DELIVERED: Final = """
WITH delivered AS (
    UPDATE webhook_delivery
       SET state = 'delivered', delivered_at = now(), due_at = NULL, last_status = $2,
           last_error = NULL
     WHERE job_id = $1
       AND state = 'pending'
    RETURNING target_id
)
UPDATE webhook_target AS target
   SET failures = 0
  FROM delivered
 WHERE target.id = delivered.target_id
   AND target.failures > 0
"""

_PAUSE_SQL: Final = """greatest(
               :pause::interval,
               least(:max_pause::interval, :first_pause::interval * power(2, least({} - 1, 30)))
                   * (0.75 + random() / 2))"""

_RECORD_FAILURE: Final = parse_statement(f"""
WITH failed AS MATERIALIZED (
    SELECT job_id, target_id, now() + {_PAUSE_SQL.format("attempts")} AS next_at
      FROM webhook_delivery
     WHERE job_id = :job_id
       AND state = 'pending'
       AND attempts = :attempts
       FOR NO KEY UPDATE
), postponed AS (
    UPDATE webhook_delivery AS delivery
       SET last_error = :error,
           last_status = :status,
           state = CASE WHEN failed.next_at > ended_at + :give_up_after::interval THEN 'expired'
                        ELSE 'pending' END,
           due_at = CASE WHEN failed.next_at <= ended_at + :give_up_after::interval
                         THEN failed.next_at END
      FROM failed
     WHERE delivery.job_id = failed.job_id
    RETURNING delivery.state
), rested AS (
    UPDATE webhook_target AS target
       SET failures = failures + 1,
           due_at = now() + {_PAUSE_SQL.format("(target.failures + 1)")}
      FROM failed
     WHERE target.id = failed.target_id
)
SELECT state FROM postponed
""")  # noqa: S608  # our own words

_RECORD_GONE: Final = """
WITH gone AS (
    UPDATE webhook_delivery
       SET state = 'disabled', due_at = NULL, last_status = $3, last_error = 'status'
     WHERE job_id = $1
       AND state = 'pending'
       AND attempts = $2
    RETURNING target_id
)
UPDATE webhook_target AS target
   SET disabled_at = now()
  FROM gone
 WHERE target.id = gone.target_id
"""

_READ_STATISTICS: Final = """
SELECT (SELECT count(*) FROM webhook_delivery WHERE due_at IS NOT NULL) AS pending,
       (SELECT coalesce(extract(epoch FROM now() - min(ended_at)), 0)::float8
          FROM webhook_delivery WHERE due_at IS NOT NULL) AS oldest_seconds
"""


@dataclass(frozen=True, slots=True)
class RetryRules:
    """When a delivery is sent again, and until when."""

    first_pause: timedelta
    """After the first failure; each pause is twice the one before, give or take a quarter."""
    max_pause: timedelta
    give_up_after: timedelta
    """After the end of the job."""


@dataclass(frozen=True, slots=True)
class TargetLease:
    """The right to send to one target, until it lapses."""

    target_id: UUID
    subject_id: str
    leased_until: datetime


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """An attempt that has begun, with the job that it is about."""

    job_id: UUID
    subject_id: str
    target_id: UUID
    attempts: int
    """How many there have been with this one."""
    attempted_at: datetime
    state: str
    reason: str | None
    title: str
    kind: str
    exit_code: int | None
    workspace_id: UUID | None
    namespace: str
    finished_at: datetime
    remote_id: str | None
    is_priced: bool
    spent_micro_usd: int | None
    """None if the cost is not settled, or it has no price."""
    is_restored: bool
    """Whether the job came from a backup: its end may have been announced before."""
    sealed_secrets: Sequence[bytes] = field(repr=False)
    """The current one first."""


@dataclass(frozen=True, slots=True)
class WebhookStatistics:
    """The queue at one moment."""

    pending: int
    oldest_seconds: float
    """Since the end of the job whose announcement has waited longest; 0 if none waits."""


async def lease_targets(
    tx: Transaction, *, limit: int, per_subject: int, lease: timedelta
) -> list[TargetLease]:
    """Lease targets with due deliveries: those of subjects with few leases first.

    Args:
        limit: how many at most.
        per_subject: how many of one subject may be leased at a time, by all workers together.
        lease: how long.
    """
    rows = await tx.fetch(*_LEASE_TARGETS.bind(limit=limit, per_subject=per_subject, lease=lease))
    return [TargetLease(**row) for row in rows]


async def release_target(tx: Transaction, lease: TargetLease) -> None:
    """Give a lease back."""
    await tx.execute(_RELEASE_TARGET, lease.target_id, lease.leased_until)


async def begin_attempt(
    tx: Transaction, lease: TargetLease, rules: RetryRules
) -> DeliveryAttempt | None:
    """Begin to send the delivery that has been due longest; none if none is, or the lease is lost.

    Those that are too old, and all of a target that is gone, are given up.
    """
    await tx.execute(
        *_SETTLE_DELIVERIES.bind(target_id=lease.target_id, give_up_after=rules.give_up_after)
    )
    row = await tx.fetchrow(
        *_BEGIN_ATTEMPT.bind(target_id=lease.target_id, leased_until=lease.leased_until)
    )
    return None if row is None else DeliveryAttempt(**row)


async def record_delivered(tx: Transaction, attempt: DeliveryAttempt, status: int) -> None:
    """Record that the target has taken a delivery."""
    await tx.execute(_RECORD_DELIVERED, attempt.job_id, status)


async def record_failure(
    tx: Transaction,
    attempt: DeliveryAttempt,
    error: DeliveryError,
    rules: RetryRules,
    *,
    status: int | None = None,
    pause: timedelta = timedelta(0),
) -> None:
    """Record that an attempt failed; the delivery and its target rest.

    Nothing changes if another worker has begun an attempt since.

    Args:
        tx: the transaction.
        attempt: that failed.
        error: why.
        rules: when it is sent again.
        status: of the answer; None: there was none.
        pause: for how long the target has said that it takes nothing.
    """
    await tx.execute(
        *_RECORD_FAILURE.bind(
            job_id=attempt.job_id,
            attempts=attempt.attempts,
            error=error,
            status=status,
            pause=pause,
            first_pause=rules.first_pause,
            max_pause=rules.max_pause,
            give_up_after=rules.give_up_after,
        )
    )


async def record_gone(tx: Transaction, attempt: DeliveryAttempt, status: int) -> None:
    """Record that the target is gone for good: nothing more is sent to it."""
    await tx.execute(_RECORD_GONE, attempt.job_id, attempt.attempts, status)


async def read_webhook_statistics(tx: Transaction) -> WebhookStatistics:
    """Read how many deliveries are pending, and for how long."""
    row = await tx.fetchrow(_READ_STATISTICS)
    assert row is not None  # noqa: S101  # both columns are subqueries
    return WebhookStatistics(**row)
