"""A database with two weeks of work in it, for tests that look at query plans."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

JOB_COUNT: Final = 40_000
BUSY_SUBJECT: Final = "s0"
"""Has a fifth of all jobs; the others share the rest."""

# Rows are written as they would be by now: transitions, one by one, would take minutes.
_LOAD: Final = f"""
SET session_replication_role = replica;

INSERT INTO subject (id, name, active, queued)
SELECT 's' || number, 'name-' || number, 10, 6 FROM generate_series(0, 49) AS number;

INSERT INTO credential (subject_id, sealed, token_sha)
SELECT id, 'sealed', sha256(id::bytea) FROM subject;

INSERT INTO workspace (id, subject_id, name)
SELECT gen_random_uuid(), id, 'default' FROM subject;

INSERT INTO job (id, subject_id, workspace_id, kind, namespace, title, labels, state, version,
                 attempt, due_at, reason, created_at, started_at, finished_at,
                 cancel_requested_at, digest, flavor)
SELECT (lpad(to_hex((extract(epoch FROM numbered.created_at) * 1000)::bigint), 12, '0') || '7'
        || substr(md5(number::text), 1, 3) || '8' || substr(md5(number::text), 4, 15))::uuid,
       subject_id, workspace.id,
       CASE WHEN number % 7 = 0 THEN 'inference' ELSE 'hub_job' END, 'name', 'python:3.12',
       CASE WHEN number % 20 = 0
            THEN jsonb_build_object('team', 'nlp', 'experiment', number::text) ELSE '{{}}' END,
       state, 3, 1,
       CASE state WHEN 'queued' THEN numbered.created_at END,
       CASE state WHEN 'failed' THEN 'exit_nonzero' END,
       numbered.created_at,
       CASE WHEN state NOT IN ('queued', 'launching')
            THEN numbered.created_at + interval '1 minute' END,
       CASE WHEN state IN ('succeeded', 'failed', 'cancelled')
            THEN numbered.created_at + interval '9 minutes' END,
       CASE state WHEN 'cancelled' THEN numbered.created_at + interval '9 minutes' END,
       sha256((number % 3000)::text::bytea), 'cpu-basic'
  FROM (SELECT number,
               now() - ({JOB_COUNT} - number) * interval '30 seconds' AS created_at,
               CASE WHEN number % 5 = 0 THEN '{BUSY_SUBJECT}'
                    ELSE 's' || number % 50 END AS subject_id,
               CASE WHEN number > {JOB_COUNT} - 300 THEN 'queued'
                    WHEN number > {JOB_COUNT} - 320 THEN 'launching'
                    WHEN number > {JOB_COUNT} - 800 THEN 'running'
                    WHEN number % 10 = 1 THEN 'failed'
                    WHEN number % 10 = 2 THEN 'cancelled'
                    ELSE 'succeeded' END AS state
          FROM generate_series(1, {JOB_COUNT}) AS number) AS numbered
  JOIN workspace USING (subject_id);

INSERT INTO job_label (job_id, name, subject_id, value)
SELECT id, label.key, subject_id, label.value FROM job, jsonb_each_text(labels) AS label;

INSERT INTO job_payload (job_id, spec)
SELECT id, '{{"image": "python:3.12", "command": ["true"], "timeout": 1800}}' FROM job;

INSERT INTO job_event (job_id, version, kind, state, actor, at)
SELECT id, event.version, event.kind, job.state, 'w1', created_at
  FROM job,
       (VALUES (1, 'created'), (2, 'claimed'), (3, 'bound')) AS event (version, kind);

INSERT INTO job_cost (job_id, subject_id, month, price_micro_usd, ceiling_micro_usd, held_micro_usd)
SELECT id, subject_id, created_at::date, 1, 1, 0 FROM job;

INSERT INTO remote_run (id, job_id, subject_id, namespace, kind, attempt, state, remote_id, due_at,
                        absent_after, stage, posted_at, seen_at, deadline_at)
SELECT gen_random_uuid(), id, subject_id, namespace, kind, 1,
       CASE state WHEN 'launching' THEN 'posting'
                  WHEN 'running' THEN 'bound'
                  WHEN 'failed' THEN CASE WHEN number % 500 = 1 THEN 'absent' ELSE 'ended' END
                  ELSE 'ended' END,
       CASE WHEN state <> 'launching' AND NOT (state = 'failed' AND number % 500 = 1)
            THEN 'remote-' || number END,
       CASE state WHEN 'launching' THEN created_at END,
       created_at, 'RUNNING', created_at, created_at,
       CASE WHEN state IN ('running', 'failed') THEN created_at + interval '1 hour' END
  FROM (SELECT *, row_number() OVER (ORDER BY id) AS number FROM job WHERE state <> 'queued')
       AS launched;

INSERT INTO job_dependency (job_id, parent_id, subject_id, on_end, state, told)
SELECT id, parent_id, subject_id, 'success', 'met', true
  FROM (SELECT id, subject_id, lag(id) OVER (PARTITION BY subject_id ORDER BY id) AS parent_id
          FROM job) AS followed
 WHERE parent_id IS NOT NULL
   AND id::text LIKE '%0';

INSERT INTO unseen_job (job_id, subject_id)
SELECT id, subject_id FROM job WHERE finished_at IS NOT NULL;

INSERT INTO webhook_target (id, subject_id, url_sha, host)
SELECT gen_random_uuid(), id, sha256(id::bytea), 'example.com' FROM subject;

INSERT INTO webhook_delivery (job_id, subject_id, target_id, state, attempts, ended_at, due_at,
                              delivered_at)
SELECT job.id, job.subject_id, target.id, CASE WHEN is_dead THEN 'pending' ELSE 'delivered' END, 1,
       finished_at, CASE WHEN is_dead THEN finished_at END,
       CASE WHEN NOT is_dead THEN finished_at END
  FROM job
  JOIN webhook_target AS target ON target.subject_id = job.subject_id
 CROSS JOIN LATERAL (SELECT job.subject_id = 's1' AS is_dead)
 WHERE finished_at IS NOT NULL;

INSERT INTO poll_group (subject_id, namespace, live, due_at)
SELECT id, 'name', 10, now() + random() * interval '1 minute' FROM subject;

INSERT INTO idempotency_key (subject_id, key, job_id, expires_at)
SELECT subject_id, 'key-' || id, id, created_at + interval '24 hours'
  FROM job
 WHERE created_at > now() - interval '24 hours';

INSERT INTO schedule (id, subject_id, name, cron, timezone, overlap, missed, kind, namespace, title,
                      spec, next_at, due_at)
SELECT gen_random_uuid(), 's' || number % 50, 'nightly', '0 3 * * *', 'UTC', 'skip', 'skip',
       'hub_job', 'name', 'python:3.12', '{{}}', moment, moment
  FROM (SELECT number, now() + random() * interval '1 day' AS moment
          FROM generate_series(1, 1000) AS number) AS numbered;

SET session_replication_role = DEFAULT;
"""  # noqa: S608  # our own numbers


@asynccontextmanager
async def busy_database(template_url: str) -> AsyncGenerator[asyncpg.Connection]:
    """Connect to a database of 40,000 jobs, whose statistics are up to date.

    Args:
        template_url: A migrated, empty database to copy.
    """
    name = f"test_{uuid4().hex}"
    parts = urlsplit(template_url)
    admin = await asyncpg.connect(urlunsplit(parts._replace(path="/postgres")))
    try:
        template = parts.path.lstrip("/")
        await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        connection = await asyncpg.connect(urlunsplit(parts._replace(path=f"/{name}")))
        try:
            await connection.execute(_LOAD)
            await connection.execute("VACUUM ANALYZE")
            yield connection
        finally:
            await connection.close()
            await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await admin.close()
