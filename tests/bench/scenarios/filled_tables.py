"""Finished jobs in large numbers, written into the tables as their transitions would leave them.

The rows pass every constraint, and the counters are right. Only the notice of each new event is off
meanwhile: nobody listens.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import asyncpg

EVENTS_PER_JOB: Final = 10
RARE_LABEL: Final = {"kept": "yes"}
"""Of `RARE_JOBS` of the jobs, however many there are."""
RARE_JOBS: Final = 10
_BATCH_JOBS: Final = 50_000
"""Jobs of one transaction."""

_INSERT_JOBS: Final = f"""
INSERT INTO job (id, subject_id, kind, namespace, title, labels, state, version, attempt, due_at,
                 created_at, started_at, finished_at, digest, flavor)
SELECT (lpad(to_hex((extract(epoch FROM numbered.created_at) * 1000)::bigint), 12, '0') || '7'
        || substr(md5(number::text), 1, 3) || '8' || substr(md5(number::text), 4, 15))::uuid,
       $1, 'hub_job', 'bench', 'a job',
       jsonb_build_object('team', 'team-' || number % 10)
       || CASE WHEN number % greatest($4::int / {RARE_JOBS}, 1) = 0 THEN '{{"kept": "yes"}}'::jsonb
               ELSE '{{}}' END,
       'succeeded', {EVENTS_PER_JOB}, 1, NULL, created_at, created_at + interval '1 second',
       created_at + interval '1 minute', sha256(number::text::bytea), 'cpu-basic'
  FROM (SELECT number,
               now() - $6::interval
               - ($5::interval - $6::interval) * (($4::int - number)::float8 / $4) AS created_at
          FROM generate_series($2::int, $3::int) AS number) AS numbered
RETURNING id
"""  # noqa: S608  # our own numbers

_INSERT_REST: Final = (
    """
INSERT INTO job_payload (job_id, spec, result)
SELECT id, '{"image": "python:3.12", "command": ["true"], "timeout": 1800}', NULL
  FROM job WHERE id = ANY($1)
""",
    f"""
INSERT INTO job_event (job_id, version, kind, state, actor, at)
SELECT id, number,
       CASE number WHEN 1 THEN 'created' WHEN 2 THEN 'claimed' WHEN 3 THEN 'bound'
                   WHEN {EVENTS_PER_JOB} THEN 'ended' ELSE 'progressed' END,
       CASE number WHEN 1 THEN 'queued' WHEN 2 THEN 'launching'
                   WHEN {EVENTS_PER_JOB} THEN 'succeeded' ELSE 'running' END,
       'bench', created_at
  FROM job, generate_series(1, {EVENTS_PER_JOB}) AS number
 WHERE id = ANY($1)
""",  # noqa: S608  # our own number
    """
INSERT INTO job_cost (job_id, subject_id, month, price_micro_usd, ceiling_micro_usd,
                      held_micro_usd, spent_micro_usd)
SELECT id, subject_id, date_trunc('month', created_at)::date, 1, 30, 0, 1
  FROM job WHERE id = ANY($1)
""",
    """
INSERT INTO spending AS earlier (subject_id, month, spent_micro_usd)
SELECT subject_id, month, sum(spent_micro_usd)
  FROM job_cost WHERE job_id = ANY($1)
 GROUP BY subject_id, month
ON CONFLICT (subject_id, month) DO UPDATE
   SET spent_micro_usd = earlier.spent_micro_usd + excluded.spent_micro_usd
""",
    """
INSERT INTO remote_run (id, job_id, subject_id, namespace, kind, attempt, state, remote_id,
                        absent_after, stage, posted_at, seen_at)
SELECT gen_random_uuid(), id, subject_id, namespace, kind, 1, 'ended', 'remote-' || id,
       created_at + interval '10 minutes', 'COMPLETED', created_at, finished_at
  FROM job WHERE id = ANY($1)
""",
)


@asynccontextmanager
async def without_notices(connection: asyncpg.Connection) -> AsyncGenerator[None]:
    """Write rows in one transaction, without a notice for each new event."""
    async with connection.transaction():
        await connection.execute("ALTER TABLE job_event DISABLE TRIGGER tell_of_event")
        yield
        await connection.execute("ALTER TABLE job_event ENABLE TRIGGER tell_of_event")


async def fill_finished_jobs(
    url: str, *, subject_id: str, count: int, oldest: timedelta, newest: timedelta
) -> None:
    """Write finished jobs of one subject, with their events, runs and costs, and analyze all.

    Args:
        url: of the database, with the login of its owner.
        oldest: how long ago the first of them was created.
        newest: how long ago the last one was; the others are spread evenly in between.
    """
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("INSERT INTO subject (id, name) VALUES ($1, $1)", subject_id)
        for first in range(1, count + 1, _BATCH_JOBS):
            last = min(first + _BATCH_JOBS - 1, count)
            async with without_notices(connection):
                rows = await connection.fetch(
                    _INSERT_JOBS, subject_id, first, last, count, oldest, newest
                )
                for statement in _INSERT_REST:
                    await connection.execute(statement, [row["id"] for row in rows])
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
