"""The end transitions of a remote run: ended, answered, absent, and arrived too late."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from schema.billing import budgets
from schema.db.database import Transaction
from schema.db.sql import parse_statement
from schema.jobs.progress import JobProgress
from schema.jobs.run_tables import RunAddresses
from schema.jobs.tables import JobState, Reason

# The Hub's clock may be hours off, so only spans are taken from it: when a run started is told from
# when its request was sent, and from when it was seen to be over.
_RECORD_ENDS: Final = parse_statement("""
WITH given AS MATERIALIZED (
    SELECT *
      FROM unnest(:run_ids::uuid[], :stages::text[], :states::text[], :reasons::text[],
                  :messages::text[], :exit_codes::int[], :results::jsonb[],
                  :run_durations::interval[], :times_to_start::interval[],
                  :never_started::boolean[], :progress::jsonb[])
           AS given (run_id, stage, state, reason, message, exit_code, result, run_duration,
                     time_to_start, never_started, progress)
), before AS MATERIALIZED (
    SELECT job.id, job.state AS job_state, cost.price_micro_usd, cost.ceiling_micro_usd, given.*
      FROM given
      JOIN remote_run AS run ON run.id = given.run_id
      JOIN job ON job.id = run.job_id
      LEFT JOIN job_cost AS cost ON cost.job_id = job.id
     ORDER BY job.id
       FOR UPDATE OF job
), over AS (
    -- A started minute counts. The time is what upstream says. Without that it is what we saw, up
    -- to the ceiling: since the create request, without the wait until the start. No time of one
    -- clock is compared with a time of another.
    UPDATE remote_run AS run
       SET state = 'ended',
           stage = before.stage,
           due_at = NULL,
           seen_at = now(),
           cost_micro_usd = CASE
               WHEN before.never_started AND run.stage IS DISTINCT FROM 'RUNNING'
               THEN 0 * before.price_micro_usd
               WHEN before.run_duration IS NOT NULL
               THEN before.price_micro_usd
                    * greatest(1, ceil(extract(epoch FROM before.run_duration) / 60))
               ELSE least(before.ceiling_micro_usd,
                          before.price_micro_usd * greatest(1, ceil(extract(
                              epoch FROM now() - run.posted_at
                                         - coalesce(before.time_to_start, '0')) / 60))) END
      FROM before
     WHERE run.job_id = before.id
       AND run.id = before.run_id
       AND run.state = :expected_state
       AND (:only_if_lapsed::boolean IS FALSE OR run.due_at <= now())
    RETURNING run.id, run.job_id, run.subject_id, run.namespace, run.origin, run.remote_id,
              run.posted_at, run.cost_micro_usd, before.stage, before.state, before.reason,
              before.message, before.exit_code, before.result, before.run_duration,
              before.time_to_start, before.never_started, before.progress,
              before.job_state = 'running' AND run.origin = 'ours' AS decides
), moved AS (
    UPDATE job
       SET state = CASE WHEN over.decides THEN over.state ELSE job.state END,
           reason = CASE WHEN over.decides THEN over.reason ELSE job.reason END,
           message = CASE WHEN over.decides THEN over.message ELSE job.message END,
           exit_code = CASE WHEN over.decides THEN over.exit_code ELSE job.exit_code END,
           started_at = coalesce(
               job.started_at,
               CASE WHEN over.decides AND NOT over.never_started
                         AND coalesce(over.time_to_start, over.run_duration) IS NOT NULL
                    THEN greatest(over.posted_at, least(
                        over.posted_at + over.time_to_start, now() - over.run_duration)) END),
           finished_at = CASE WHEN over.decides THEN now() ELSE job.finished_at END,
           progress = CASE WHEN over.decides THEN coalesce(over.progress, job.progress)
                           ELSE job.progress END,
           cancel_requested_at = CASE WHEN over.decides AND over.state = 'cancelled' THEN now()
                                      ELSE job.cancel_requested_at END,
           version = version + 1
      FROM over
     WHERE job.id = over.job_id
    RETURNING job.id, job.version, job.state, over.id AS run_id, over.decides, over.stage,
              over.cost_micro_usd, over.result
), kept AS (
    UPDATE job_payload
       SET result = moved.result
      FROM moved
     WHERE job_payload.job_id = moved.id
       AND moved.decides
       AND moved.result IS NOT NULL
), counted AS (
    UPDATE subject
       SET active = active - ended.runs
      FROM (SELECT subject_id, count(*)::int AS runs
              FROM over
             WHERE origin = 'ours'
             GROUP BY subject_id) AS ended
     WHERE subject.id = ended.subject_id
), watched AS (
    -- It stays due: a last listing shows a second run with the label of one that is over.
    UPDATE poll_group AS polled
       SET live = polled.live - ended.runs
      FROM (SELECT subject_id, namespace, count(*)::int AS runs
              FROM over
             WHERE remote_id IS NOT NULL
             GROUP BY subject_id, namespace) AS ended
     WHERE polled.subject_id = ended.subject_id
       AND polled.namespace = ended.namespace
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, 'ended', state, :worker,
           jsonb_strip_nulls(jsonb_build_object('stage', stage,
                                                'cost_micro_usd', cost_micro_usd))
      FROM moved
)
SELECT run_id FROM moved WHERE decides
""")

_RECORD_STAGE: Final = parse_statement("""
WITH before AS MATERIALIZED (
    SELECT id
      FROM job
     WHERE id = (SELECT job_id FROM remote_run WHERE id = :run_id)
       FOR UPDATE
), seen AS (
    UPDATE remote_run AS run
       SET stage = :stage,
           seen_at = now(),
           deadline_at = now() + :max_stage_duration,
           addresses = coalesce(:addresses, run.addresses)
      FROM before
     WHERE run.job_id = before.id
       AND run.id = :run_id
       AND run.state = 'bound'
       AND run.stage IS DISTINCT FROM :stage
    RETURNING run.*
), moved AS (
    UPDATE job
       SET started_at = coalesce(
               started_at,
               CASE WHEN :started_at::timestamptz IS NOT NULL
                    -- Whatever the Hub's clock says: after the request, and not in the future.
                    THEN greatest(seen.posted_at, least(:started_at, now())) END),
           version = version + 1
      FROM seen
     WHERE job.id = seen.job_id
    RETURNING job.*
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, 'stage', state, :worker, jsonb_build_object('stage', :stage::text)
      FROM moved
)
SELECT count(*) FROM moved
""")

_RECORD_MISSED_LISTING: Final = """
UPDATE remote_run
   SET misses = misses + 1,
       due_at = now() + $2
 WHERE id = $1
   AND state = 'unknown'
RETURNING misses >= $3 AND now() >= absent_after
"""

_MARK_ABSENT: Final = parse_statement("""
WITH before AS MATERIALIZED (
    SELECT id, state
      FROM job
     WHERE id = (SELECT job_id FROM remote_run WHERE id = :run_id)
       FOR UPDATE
), missing AS (
    UPDATE remote_run AS run
       SET state = 'absent',
           due_at = NULL,
           deadline_at = now() + :late_arrival_window
      FROM before
     WHERE run.job_id = before.id
       AND run.id = :run_id
       AND run.state = 'unknown'
       AND now() >= run.absent_after
       AND run.misses >= :min_misses
    RETURNING run.*, before.state = 'launching' AS decides,
              :relaunch::boolean AND NOT EXISTS (
                  SELECT FROM remote_run AS earlier
                   WHERE earlier.job_id = run.job_id
                     AND earlier.id <> run.id
                     AND (earlier.state = 'absent' OR earlier.origin = 'surplus')) AS again
), moved AS (
    UPDATE job
       SET state = CASE WHEN missing.decides AND missing.again THEN 'queued'
                        WHEN missing.decides THEN 'failed'
                        ELSE job.state END,
           due_at = CASE WHEN missing.decides AND missing.again THEN now() ELSE job.due_at END,
           reason = CASE WHEN missing.decides AND NOT missing.again THEN 'launch_unconfirmed'
                         ELSE job.reason END,
           finished_at = CASE WHEN missing.decides AND NOT missing.again THEN now()
                              ELSE job.finished_at END,
           version = version + 1
      FROM missing
     WHERE job.id = missing.job_id
    RETURNING job.*
), counted AS (
    UPDATE subject
       SET active = active - 1,
           queued = queued + (SELECT count(*)::int FROM moved WHERE state = 'queued')
      FROM missing
     WHERE subject.id = missing.subject_id
), held AS (
    -- Both launches may be alive as long as this one may still arrive.
    UPDATE job_cost AS cost
       SET held_micro_usd = held_micro_usd + ceiling_micro_usd
      FROM moved
     WHERE cost.job_id = moved.id
       AND moved.state = 'queued'
    RETURNING cost.*, moved.workspace_id
), grouped AS (
    UPDATE workspace
       SET held_micro_usd = workspace.held_micro_usd + held.ceiling_micro_usd
      FROM held
     WHERE workspace.id = held.workspace_id
), monthly AS (
    UPDATE spending
       SET held_micro_usd = spending.held_micro_usd + held.ceiling_micro_usd
      FROM held
     WHERE (spending.subject_id, spending.month) = (held.subject_id, held.month)
), watched AS (
    INSERT INTO poll_group (subject_id, namespace, due_at, watch_until)
    SELECT subject_id, namespace, now(), now() + :late_arrival_window FROM missing
    ON CONFLICT (subject_id, namespace) DO UPDATE
       SET watch_until = excluded.watch_until,
           due_at = least(poll_group.due_at, excluded.due_at)
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor)
    SELECT id, version, 'absent', state, :worker FROM moved
)
SELECT count(*) FROM moved
""")

_RECORD_SURPLUS_RUN: Final = """
WITH before AS MATERIALIZED (
    SELECT id
      FROM job
     WHERE id = (SELECT job_id FROM remote_run WHERE id = $1)
       FOR UPDATE
), arrived AS (
    UPDATE remote_run AS run
       SET state = 'bound',
           origin = 'surplus',
           desired = 'dead',
           remote_id = $2,
           stage = $3,
           seen_at = now(),
           due_at = now(),
           deadline_at = NULL
      FROM before
     WHERE run.job_id = before.id
       AND run.id = $1
       AND run.state IN ('absent', 'rejected')
    RETURNING run.*
), second AS (
    -- Another run with the label of one that is bound already gets a row of its own, to be killed.
    INSERT INTO remote_run (id, job_id, subject_id, namespace, kind, attempt, origin, state,
                            desired, remote_id, stage, seen_at, due_at, absent_after)
    SELECT gen_random_uuid(), run.job_id, run.subject_id, run.namespace, run.kind, run.attempt,
           'surplus', 'bound', 'dead', $2, $3, now(), now(), run.absent_after
      FROM remote_run AS run
      JOIN before ON before.id = run.job_id
     WHERE run.id = $1
       AND run.state IN ('bound', 'ended')
       AND run.remote_id <> $2
    ON CONFLICT (namespace, remote_id, subject_id) DO NOTHING
    RETURNING *
), surplus AS (
    SELECT job_id, subject_id, namespace FROM arrived
     UNION ALL
    SELECT job_id, subject_id, namespace FROM second
), moved AS (
    UPDATE job
       SET version = version + 1
      FROM surplus
     WHERE job.id = surplus.job_id
    RETURNING job.*
), watched AS (
    INSERT INTO poll_group (subject_id, namespace, live, due_at)
    SELECT subject_id, namespace, 1, now() FROM surplus
    ON CONFLICT (subject_id, namespace) DO UPDATE
       SET live = poll_group.live + 1,
           due_at = now()
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, 'surplus', state, $4, jsonb_build_object('remote_id', $2::text)
      FROM moved
)
SELECT count(*) FROM moved
"""

MIN_MISSED_LISTINGS: Final = 3
"""Complete listings without a run before it may be called absent."""

LATE_ARRIVAL_WINDOW: Final = timedelta(hours=24)
"""How long the listings of an absent run's namespace go on looking for it."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended, in our terms; `stage` and `message` are upstream's words."""

    state: JobState
    stage: str
    reason: Reason | None = None
    message: str | None = None
    exit_code: int | None = None
    result: dict[str, Any] | None = None
    run_duration: timedelta | None = None
    """How long it ran, as far as upstream says."""
    time_to_start: timedelta | None = None
    """How long it waited from its creation to its start, as far as upstream says."""
    never_started: bool = False
    """Whether upstream says that it was over before it was started."""
    progress: JobProgress | None = None
    """How far it came, if that differs from what was recorded last."""


async def end_run(tx: Transaction, run_id: UUID, run_result: RunResult, *, worker: str) -> bool:
    """Record that a bound run is over, and end the job that waits for it.

    Returns:
        False if the job was final before, or another worker has recorded it.
    """
    return bool(
        await _record_ends(
            tx, {run_id: run_result}, worker=worker, expected_state="bound", only_if_lapsed=False
        )
    )


async def end_call(
    tx: Transaction,
    run_id: UUID,
    run_result: RunResult,
    *,
    worker: str,
    only_if_lapsed: bool = False,
) -> bool:
    """Record how a call went; false if the job was final before.

    A worker whose lease lapsed finds the run over already.
    """
    return bool(
        await _record_ends(
            tx,
            {run_id: run_result},
            worker=worker,
            expected_state="posting",
            only_if_lapsed=only_if_lapsed,
        )
    )


async def end_calls(
    tx: Transaction, run_results: Mapping[UUID, RunResult], *, worker: str
) -> set[UUID]:
    """Record how calls of one subject went; return the runs whose jobs were not final before.

    Of one subject, because two statements that lock several subjects could wait for each other.
    """
    return await _record_ends(
        tx, run_results, worker=worker, expected_state="posting", only_if_lapsed=False
    )


async def record_stage(
    tx: Transaction,
    run_id: UUID,
    *,
    stage: str,
    started_at: datetime | None,
    worker: str,
    max_stage_duration: timedelta | None = None,
    addresses: RunAddresses | None = None,
) -> None:
    """Record what upstream now calls the state of a run, if that changed.

    Args:
        started_at: when upstream says that the run started.
        max_stage_duration: how long this stage may last; none is no limit.
    """
    await tx.fetchval(
        *_RECORD_STAGE.bind(
            run_id=run_id,
            stage=stage,
            started_at=started_at,
            worker=worker,
            max_stage_duration=max_stage_duration,
            addresses=addresses,
        )
    )


async def record_missed_listing(tx: Transaction, run_id: UUID, *, recheck_after: timedelta) -> bool:
    """Count a complete listing without an unknown run; true if the run can be marked absent."""
    return bool(
        await tx.fetchval(_RECORD_MISSED_LISTING, run_id, recheck_after, MIN_MISSED_LISTINGS)
    )


async def mark_absent(
    tx: Transaction,
    run_id: UUID,
    *,
    worker: str,
    relaunch: bool = False,
    default_monthly_budget: int | None = None,
) -> None:
    """Mark an unknown run absent after the settle window, and watch for a late arrival.

    Args:
        relaunch: queue the job again, unless it has an absent or a surplus run already, or a budget
            has no room for what two of its launches can cost. Otherwise the job fails.
        default_monthly_budget: millionths of a dollar, for a subject without a budget of its own.
    """
    relaunch = relaunch and await budgets.lock_budgets_for_relaunch(
        tx, run_id, default_monthly_budget=default_monthly_budget
    )
    await tx.fetchval(
        *_MARK_ABSENT.bind(
            run_id=run_id,
            min_misses=MIN_MISSED_LISTINGS,
            late_arrival_window=LATE_ARRIVAL_WINDOW,
            relaunch=relaunch,
            worker=worker,
        )
    )


async def record_surplus_run(
    tx: Transaction, run_id: UUID, *, remote_id: str, stage: str | None, worker: str
) -> bool:
    """Record a run that upstream should not have, with its kill order; false if it was known.

    It arrived after it was marked absent, or is listed though it was rejected, or is a second one.
    """
    return bool(await tx.fetchval(_RECORD_SURPLUS_RUN, run_id, remote_id, stage, worker))


async def _record_ends(
    tx: Transaction,
    run_results: Mapping[UUID, RunResult],
    *,
    worker: str,
    expected_state: str,
    only_if_lapsed: bool,
) -> set[UUID]:
    results = list(run_results.values())
    rows = await tx.fetch(
        *_RECORD_ENDS.bind(
            run_ids=list(run_results),
            expected_state=expected_state,
            only_if_lapsed=only_if_lapsed,
            worker=worker,
            stages=[result.stage for result in results],
            states=[result.state for result in results],
            reasons=[result.reason for result in results],
            messages=[result.message for result in results],
            exit_codes=[result.exit_code for result in results],
            results=[result.result for result in results],
            run_durations=[result.run_duration for result in results],
            times_to_start=[result.time_to_start for result in results],
            never_started=[result.never_started for result in results],
            progress=[
                None if result.progress is None else result.progress.to_record()
                for result in results
            ],
        )
    )
    return {row["run_id"] for row in rows}
