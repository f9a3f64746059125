"""A database for state searches: emptied, used by callers, moved through time, and read whole."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid5

import asyncpg

from schema.accounts import credentials
from schema.accounts.vault import Secret, Vault
from schema.billing.budgets import Rate
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.lifecycle import Submission
from schema.jobs.tables import FINAL_STATES, JobKind
from schema.workspaces import store as workspace_store
from tests.support.database.invariants import COUNTER_MISMATCHES

_WORKSPACE_NAMESPACE: Final = UUID(int=0)

DELETE_ALL_ROWS: Final = """
DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT tablename FROM pg_tables
               WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
    EXECUTE format('DELETE FROM %I', name);
  END LOOP;
END $$
"""

ADVANCE_TIME: Final = """
WITH runs AS (
    UPDATE remote_run SET due_at = due_at - $1::interval,
                          absent_after = absent_after - $1::interval,
                          deadline_at = deadline_at - $1::interval
), jobs AS (
    UPDATE job SET due_at = due_at - $1::interval, created_at = created_at - $1::interval
), subjects AS (
    UPDATE subject SET next_launch_at = next_launch_at - $1::interval
)
UPDATE poll_group SET due_at = due_at - $1::interval
"""

BROKEN_INVARIANTS: Final = f"""
SELECT 'nobody owns ' || job_id || ': ' || why AS promise FROM v_unowned
UNION ALL
SELECT mismatch FROM ({COUNTER_MISMATCHES}) AS counters
UNION ALL
SELECT format('job %s, %s at version %s, has the events %s', id, state, version, told.versions)
  FROM job, LATERAL (SELECT array_agg(job_event.version ORDER BY job_event.version) AS versions,
                            (array_agg(job_event.state ORDER BY job_event.version DESC))[1] AS last
                       FROM job_event WHERE job_id = job.id) AS told
 WHERE told.versions IS DISTINCT FROM
       (SELECT array_agg(number) FROM generate_series(1, job.version) AS number)
    OR told.last IS DISTINCT FROM job.state
UNION ALL
SELECT format('job %s has %s open runs', job_id, count(*)) FROM remote_run
 WHERE origin = 'ours' AND state IN ('posting', 'unknown', 'bound')
 GROUP BY job_id HAVING count(*) > 1
UNION ALL
SELECT format('job %s is cancelled, and its run %s may live', job.id, run.id)
  FROM job JOIN remote_run AS run ON run.job_id = job.id
 WHERE job.state = 'cancelled' AND run.desired = 'alive'
   AND run.state IN ('posting', 'unknown', 'bound')
UNION ALL
SELECT format('workspace %s: %s held, %s spent, of %s', subject_id, held_micro_usd,
              spent_micro_usd, budget_micro_usd)
  FROM workspace WHERE held_micro_usd + spent_micro_usd > budget_micro_usd
UNION ALL
SELECT format('month of %s: %s held, %s spent, of %s', subject_id, held_micro_usd,
              spent_micro_usd, monthly_budget_micro_usd)
  FROM spending JOIN subject ON subject.id = spending.subject_id
 WHERE held_micro_usd + spent_micro_usd > monthly_budget_micro_usd
UNION ALL
SELECT format('%s is held for %s, with a token that is %s', id, hold, credential.state)
  FROM subject JOIN credential ON credential.subject_id = subject.id
 WHERE (hold IS NOT NULL) <> (credential.state = 'refused')
"""  # noqa: S608  # no value in it comes from outside

STUCK_JOBS: Final = """
SELECT job.id, job.state FROM job JOIN subject ON subject.id = job.subject_id
 WHERE job.finished_at IS NULL AND job.state <> 'queued' AND subject.hold IS NULL
   AND NOT EXISTS (SELECT FROM remote_run WHERE job_id = job.id AND origin = 'ours'
                      AND state = 'bound' AND desired = 'alive')
"""

WANTED_REMOTE_IDS: Final = """
SELECT subject.id,
       coalesce(array_agg(remote_id ORDER BY remote_id COLLATE "C")
                FILTER (WHERE state = 'bound' AND desired = 'alive'), '{}') AS remote_ids
  FROM subject LEFT JOIN remote_run ON subject_id = subject.id
 WHERE hold IS NULL GROUP BY 1
"""
"""What may be alive, of each subject we can act for."""

UNFINISHED_ROWS: Final = """
SELECT 'job' AS what, id::text, state FROM job WHERE finished_at IS NULL
UNION ALL
SELECT 'run', id::text, state FROM remote_run WHERE due_at IS NOT NULL
UNION ALL
SELECT 'subject', id, format('%s active, %s queued', active, queued) FROM subject
 WHERE active + queued > 0
UNION ALL
SELECT 'money', subject_id, held_micro_usd::text FROM spending WHERE held_micro_usd > 0
UNION ALL
SELECT 'cost', cost.job_id::text,
       format('job %s holds %s, runs at %s: %s', job.state, held_micro_usd, now(),
              (SELECT string_agg(format('%s %s %s until %s', run.origin, run.desired, run.state,
                                        run.deadline_at), ', ' ORDER BY run.posted_at)
                 FROM remote_run AS run WHERE run.job_id = job.id))
  FROM job_cost AS cost JOIN job ON job.id = cost.job_id WHERE held_micro_usd > 0
"""
"""What is left to do; of what is still held, also the job and its runs."""

PROGRESS_COUNTS: Final = """
SELECT (SELECT sum(version) FROM job) AS moves,
       (SELECT sum(misses + kills) FROM remote_run) AS steps
"""


@dataclass(frozen=True)
class StateSnapshot:
    """All that a promise may be about, at one moment."""

    broken_invariants: list[str]
    final_jobs: dict[UUID, tuple[object, ...]]
    """What may not change any more."""
    states: frozenset[str]
    """Every state that a job or a run is in."""
    remote_ids: set[str]
    refused_tokens: set[tuple[str, int]]
    """Subjects and versions of their tokens that are held back."""
    valid_tokens: set[tuple[str, int]]


@dataclass(frozen=True)
class StateHarness:
    """What all examples share, on the loop of the test; each starts with empty tables."""

    database: Database
    admin: asyncpg.Connection
    vault: Vault

    async def delete_all_rows(self) -> None:
        # TRUNCATE takes 50 ms for these few rows.
        await self._execute_without_triggers(DELETE_ALL_ROWS)

    async def advance_time(self, duration: timedelta) -> None:
        """Move every appointment nearer."""
        await self._execute_without_triggers(ADVANCE_TIME, duration)

    async def _execute_without_triggers(self, statement: str, *args: object) -> None:
        """Change rows behind the back of the triggers: it is no move."""
        async with self.admin.transaction():
            await self.admin.execute("SET LOCAL session_replication_role = replica")
            await self.admin.execute(statement, *args)

    async def submit_job(
        self,
        subject: str,
        kind: JobKind,
        namespace: str,
        idempotency_key: str | None,
        command: str,
        job_id: UUID | None = None,
        *,
        rate: Rate | None = None,
        in_workspace: bool = False,
    ) -> UUID:
        submission: Submission = {
            "subject_id": subject,
            "kind": kind,
            "namespace": subject if namespace == "own" else namespace,
            "title": "a job",
            "spec": {"command": [command]},
            "labels": {},
            "max_open_jobs": 1000,
            "idempotency_key": idempotency_key,
            "job_id": job_id,
            "rate": rate,
            "workspace_id": uuid5(_WORKSPACE_NAMESPACE, subject) if in_workspace else None,
        }
        job = await lifecycle.commit_job(self.database, subject, **submission)
        if job is None:
            async with self.database.transaction() as tx:
                job = await lifecycle.submit_job(tx, **submission)
        return job.id

    async def set_budgets(
        self, subject: str, *, workspace_micro_usd: int, month_micro_usd: int
    ) -> None:
        """Give a subject a workspace with a budget, and a budget for each month."""
        async with self.database.transaction() as tx:
            await workspace_store.create_workspace(
                tx,
                subject,
                uuid5(_WORKSPACE_NAMESPACE, subject),
                "w",
                budget_micro_usd=workspace_micro_usd,
            )
            await tx.execute(
                "UPDATE subject SET monthly_budget_micro_usd = $2 WHERE id = $1",
                subject,
                month_micro_usd,
            )

    async def cancel_job(self, subject: str, job_id: UUID) -> bool:
        async with self.database.transaction() as tx:
            return await lifecycle.cancel_job(tx, job_id, subject_id=subject)

    async def lend_token(self, subject: str, token: str) -> None:
        async with self.database.transaction() as tx:
            await credentials.save_credential(
                tx,
                self.vault,
                subject_id=subject,
                name=subject,
                token=Secret(token),
                expires_at=None,
            )

    async def take_snapshot(self) -> StateSnapshot:
        async with self.database.transaction() as tx:
            broken = await tx.fetch(BROKEN_INVARIANTS)
            jobs = await tx.fetch("SELECT id, state, finished_at, reason FROM job")
            runs = await tx.fetch("SELECT state, remote_id FROM remote_run")
            lent = await tx.fetch("SELECT subject_id, version, state FROM credential")
        tokens = {(row["subject_id"], row["version"]): row["state"] for row in lent}
        return StateSnapshot(
            broken_invariants=[row["promise"] for row in broken],
            final_jobs={
                row["id"]: tuple(row.values()) for row in jobs if row["state"] in FINAL_STATES
            },
            states=frozenset(row["state"] for row in (*jobs, *runs)),
            remote_ids={row["remote_id"] for row in runs},
            refused_tokens={token for token, state in tokens.items() if state == "refused"},
            valid_tokens={token for token, state in tokens.items() if state == "valid"},
        )

    async def fetch_rows(self, query: str) -> list[dict[str, Any]]:
        async with self.database.transaction() as tx:
            return [dict(row) for row in await tx.fetch(query)]
