"""Leased queues of due rows, for the loops of the workers.

Every job that is not final, and every run that may cost money, is in exactly one of these queues
(`v_unowned` lists the exceptions, and is always empty). A leased row is due again when its lease
lapses, so another worker goes on where one died.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Self
from uuid import UUID

from schema.db.database import Transaction
from schema.db.sql import parse_statement
from schema.jobs.run_end import LATE_ARRIVAL_WINDOW
from schema.jobs.run_tables import DesiredState, RemoteRun

_FIND_DUE_QUEUES: Final = """
SELECT coalesce(jobs.first <= now(), false) AS queued,
       coalesce(runs.first <= now(), false) AS runs,
       coalesce(groups.first <= now(), false) AS groups,
       EXISTS (SELECT FROM job_dependency WHERE state <> 'waiting' AND NOT told) AS dependents,
       coalesce(schedules.first <= now(), false) AS schedules,
       coalesce(webhooks.first <= now(), false) AS webhooks,
       least(CASE WHEN jobs.first > now() THEN jobs.first END,
             CASE WHEN runs.first > now() THEN runs.first END,
             CASE WHEN groups.first > now() THEN groups.first END,
             CASE WHEN schedules.first > now() THEN schedules.first END,
             CASE WHEN webhooks.first > now() THEN webhooks.first END) - now() AS next_in
  FROM (SELECT min(due_at) AS first FROM job WHERE due_at < 'infinity') AS jobs,
       (SELECT min(due_at) AS first FROM remote_run WHERE due_at IS NOT NULL) AS runs,
       (SELECT min(due_at) AS first FROM poll_group WHERE due_at IS NOT NULL) AS groups,
       (SELECT min(due_at) AS first FROM schedule WHERE due_at IS NOT NULL) AS schedules,
       (SELECT min(due_at) AS first FROM pending_webhooks()) AS webhooks
"""

# A hold of the operator stops launches alone: what runs is watched, and killed if that is due.
_MAY_ACT: Final = """(subject.hold IS NULL
            OR subject.hold = 'operator'
           AND EXISTS (
                   SELECT FROM credential
                    WHERE credential.subject_id = subject.id
                      AND credential.state = 'valid'))"""

_FIND_LAPSED_RUNS: Final = """
SELECT run.id AS run_id, run.kind, job.state AS job_state
  FROM remote_run AS run
  JOIN job ON job.id = run.job_id
 WHERE run.state = 'posting'
   AND run.due_at <= now()
 ORDER BY run.due_at
 LIMIT $1
"""


_LEASE_DUE_RUNS: Final = f"""
WITH due AS MATERIALIZED (
    SELECT id, subject_id
      FROM remote_run
     WHERE due_at <= now()
       AND state IN ('unknown', 'bound')
     ORDER BY desired DESC, due_at
     LIMIT $1
       FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE remote_run AS run
       SET due_at = now() + CASE WHEN may_act THEN $2 ELSE interval '5 minutes' END
      FROM due
      JOIN subject ON subject.id = due.subject_id
     CROSS JOIN LATERAL (SELECT {_MAY_ACT} AS may_act) AS hold
     WHERE run.id = due.id
    RETURNING run.*, may_act
)
SELECT taken.*, now() - greatest(taken.posted_at, taken.seen_at) AS age,
       job_payload.spec ->> 'flavor' AS flavor,
       coalesce((job_payload.spec ->> 'attempts')::int, 1) AS attempts,
       coalesce(job_payload.spec -> 'outputs', '[]') AS outputs,
       job_payload.spec ->> 'outputs_in' AS outputs_in
  FROM taken
  JOIN job_payload ON job_payload.job_id = taken.job_id
 WHERE may_act
"""  # noqa: S608  # our own words

_RECORD_KILL_REQUEST: Final = """
UPDATE remote_run
   SET kills = kills + 1,
       due_at = now() + $2
 WHERE id = $1
   AND state = 'bound'
   AND desired = 'dead'
"""

_RELEASE_RUN_LEASE: Final = """
UPDATE remote_run
   SET due_at = now()
 WHERE id = $1
   AND due_at IS NOT NULL
   AND state <> 'posting'
"""

_LEASE_DUE_POLL_GROUPS: Final = f"""
WITH due AS MATERIALIZED (
    SELECT polled.subject_id, polled.namespace
      FROM poll_group AS polled
      JOIN subject ON subject.id = polled.subject_id
     WHERE polled.due_at <= now()
       AND {_MAY_ACT}
     ORDER BY polled.due_at
     LIMIT $1
       FOR UPDATE OF polled SKIP LOCKED
)
UPDATE poll_group AS polled
   SET epoch = polled.epoch + 1,
       due_at = now() + $2
  FROM due
  LEFT JOIN credential AS lent
    ON lent.subject_id = due.subject_id
   AND lent.state = 'valid'
   AND coalesce(lent.expires_at > now(), true)
 WHERE polled.subject_id = due.subject_id
   AND polled.namespace = due.namespace
RETURNING polled.subject_id, polled.namespace, polled.epoch,
          lent.sealed AS sealed_token, lent.version AS token_version
"""  # noqa: S608  # our own words

# Locked in one order, as a token that comes back locks all groups of its subject.
_FINISH_POLLS: Final = parse_statement("""
WITH ended AS MATERIALIZED (
    SELECT polled.subject_id, polled.namespace
      FROM unnest(:subject_ids::text[], :namespaces::text[], :epochs::bigint[])
               AS lease (subject_id, namespace, epoch)
      JOIN poll_group AS polled
        ON polled.subject_id = lease.subject_id
       AND polled.namespace = lease.namespace
       AND polled.epoch = lease.epoch
     ORDER BY polled.subject_id, polled.namespace
       FOR NO KEY UPDATE OF polled
)
UPDATE poll_group AS polled
   SET due_at = CASE WHEN live > 0
                     THEN now() + (0.9 + random() / 5)
                                * greatest(:min_interval::interval,
                                           least(:max_interval::interval, newest.age / 20))
                     WHEN watch_until > now()
                     THEN now() + greatest(
                              :min_interval::interval,
                              least(interval '10 minutes',
                                    (:late_arrival_window - (watch_until - now())) / 20)) END
  FROM ended
 CROSS JOIN LATERAL (
       SELECT now() - max(posted_at) AS age
         FROM remote_run
        WHERE subject_id = ended.subject_id
          AND namespace = ended.namespace
          AND state = 'bound') AS newest
 WHERE polled.subject_id = ended.subject_id
   AND polled.namespace = ended.namespace
""")

_POSTPONE_POLL: Final = """
UPDATE poll_group
   SET due_at = now() + $4
 WHERE subject_id = $1
   AND namespace = $2
   AND epoch = $3
"""

_LIST_BOUND_RUNS: Final = """
SELECT run.*, now() - greatest(run.posted_at, run.seen_at) AS age,
       coalesce(run.deadline_at <= now(), false) AS overdue,
       make_interval(secs => (job_payload.spec ->> 'timeout')::float8
                             * coalesce((job_payload.spec ->> 'attempts')::int, 1)) AS timeout,
       coalesce(job_payload.spec -> 'outputs', '[]') AS outputs,
       job_payload.spec ->> 'outputs_in' AS outputs_in
  FROM unnest($1::text[], $2::text[]) AS polled (subject_id, namespace)
  JOIN remote_run AS run
    ON run.subject_id = polled.subject_id
   AND run.namespace = polled.namespace
   AND run.state = 'bound'
  JOIN job_payload ON job_payload.job_id = run.job_id
 ORDER BY run.posted_at DESC
"""

_FIND_GROUP_RUNS: Final = """
SELECT * FROM remote_run WHERE subject_id = $1 AND namespace = $2 AND id = ANY($3::uuid[])
"""

_READ_TRACEPARENT: Final = """
SELECT facts ->> 'traceparent' FROM job_event WHERE job_id = $1 AND version = 1
"""


@dataclass(frozen=True, slots=True)
class DueQueues:
    """Which queues have something due."""

    queued: bool
    runs: bool
    groups: bool
    dependents: bool
    """Whether a job that waited for others may begin, or never will."""
    schedules: bool
    webhooks: bool
    next_in: timedelta | None
    """How long until the next row is due that is not due yet."""


async def find_due_queues(tx: Transaction) -> DueQueues:
    """Look once at every queue."""
    row = await tx.fetchrow(_FIND_DUE_QUEUES)
    assert row is not None  # noqa: S101  # each of its sources has exactly one row
    return DueQueues(**row)


class DueRun(RemoteRun):
    """A run, and its times by the database's clock."""

    age: timedelta
    """Since it was posted or seen: a young run may be missing from a listing."""
    flavor: str | None = None
    """The hardware it asked for; read with due runs only, as are its attempts."""
    attempts: int = 1
    """How often the Hub may start it."""
    timeout: timedelta | None = None
    """How long all its attempts may run; read with bound runs only, as is `overdue`."""
    overdue: bool = False
    outputs: Sequence[str] = ()
    """What its job leaves behind, in the form of `schema.specs.outputs`."""
    outputs_in: str | None = None
    """Where the outputs go."""


@dataclass(frozen=True, slots=True)
class BoundRun:
    """What a listing is compared with: of most runs, which have not changed, nothing else is read.

    A transaction is open while the rows of many runs are read, so they become records later.
    """

    id: UUID
    subject_id: str
    namespace: str
    remote_id: str
    stage: str | None
    desired: DesiredState
    overdue: bool
    row: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Take what is compared from a row."""
        return cls(
            row["id"],
            row["subject_id"],
            row["namespace"],
            row["remote_id"],
            row["stage"],
            DesiredState(row["desired"]),
            row["overdue"],
            row,
        )

    def read(self) -> DueRun:
        """Read the whole row."""
        return DueRun.from_row(self.row)


@dataclass(frozen=True, slots=True)
class LapsedRun:
    """A run whose worker stopped renewing its lease."""

    run_id: UUID
    kind: str
    has_begun: bool
    """Whether a call may have been sent; a create request always may."""


async def find_lapsed_runs(tx: Transaction, *, limit: int = 50) -> list[LapsedRun]:
    """Find the runs whose lease lapsed; the transition that follows compares again."""
    return [
        LapsedRun(row["run_id"], row["kind"], row["job_state"] != "launching")
        for row in await tx.fetch(_FIND_LAPSED_RUNS, limit)
    ]


async def lease_due_runs(tx: Transaction, *, limit: int, lease: timedelta) -> list[DueRun]:
    """Lease unknown runs, and runs that have to be killed; kill orders go first."""
    return [DueRun.from_row(row) for row in await tx.fetch(_LEASE_DUE_RUNS, limit, lease)]


async def record_kill_request(tx: Transaction, run_id: UUID, *, recheck_after: timedelta) -> None:
    """Count a cancel request; the run stays due until it is seen to be over."""
    await tx.execute(_RECORD_KILL_REQUEST, run_id, recheck_after)


async def release_run_lease(tx: Transaction, run_id: UUID) -> None:
    """Make a run due at once, instead of when its lease lapses."""
    await tx.execute(_RELEASE_RUN_LEASE, run_id)


@dataclass(frozen=True, slots=True)
class PollLease:
    """The right to list one poll group, until its lease lapses."""

    subject_id: str
    namespace: str
    epoch: int
    sealed_token: bytes | None = field(default=None, repr=False)
    """The token of its subject, as the vault sealed it; none if they have none that is usable."""
    token_version: int | None = None


async def lease_due_poll_groups(
    tx: Transaction, *, limit: int, lease: timedelta
) -> list[PollLease]:
    """Lease poll groups that are due for a listing, and read the tokens to list them with."""
    rows = await tx.fetch(_LEASE_DUE_POLL_GROUPS, limit, lease)
    return [PollLease(**row) for row in rows]


async def finish_polls(
    tx: Transaction,
    poll_leases: Sequence[PollLease],
    *,
    min_interval: timedelta,
    max_interval: timedelta,
) -> None:
    """Release poll groups, and set when each is listed next.

    That is after a twentieth of the newest run's age, within the two bounds. Where only a late
    arrival is watched for, it is a twentieth of the time since the run was marked absent.

    Nothing changes of a group that another worker has leased since.
    """
    await tx.execute(
        *_FINISH_POLLS.bind(
            subject_ids=[lease.subject_id for lease in poll_leases],
            namespaces=[lease.namespace for lease in poll_leases],
            epochs=[lease.epoch for lease in poll_leases],
            min_interval=min_interval,
            max_interval=max_interval,
            late_arrival_window=LATE_ARRIVAL_WINDOW,
        )
    )


async def postpone_poll(
    tx: Transaction, poll_lease: PollLease, *, recheck_after: timedelta
) -> None:
    """Release a poll group whose listing failed."""
    await tx.execute(
        _POSTPONE_POLL, poll_lease.subject_id, poll_lease.namespace, poll_lease.epoch, recheck_after
    )


async def list_bound_runs(tx: Transaction, poll_leases: Sequence[PollLease]) -> list[BoundRun]:
    """Return the runs that the listings of these groups should show, the newest first."""
    rows = await tx.fetch(
        _LIST_BOUND_RUNS,
        [lease.subject_id for lease in poll_leases],
        [lease.namespace for lease in poll_leases],
    )
    return [BoundRun.from_row(row) for row in rows]


async def find_group_runs(
    tx: Transaction, poll_lease: PollLease, run_ids: list[UUID]
) -> dict[UUID, RemoteRun]:
    """Return the runs of a poll group that are among these."""
    rows = await tx.fetch(_FIND_GROUP_RUNS, poll_lease.subject_id, poll_lease.namespace, run_ids)
    return {row["id"]: RemoteRun.from_row(row) for row in rows}


async def read_traceparent(tx: Transaction, job_id: UUID) -> str | None:
    """Return the traceparent of the call that made a job; None if it made no span."""
    traceparent: str | None = await tx.fetchval(_READ_TRACEPARENT, job_id)
    return traceparent
