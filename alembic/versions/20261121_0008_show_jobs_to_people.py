"""Show jobs to people

Views for whoever asks by SQL, with the rights of whoever asks, and the handles clients hold. What
a job runs on becomes a column of it; of jobs that were there before it is not known.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

READERS = "holdfast_tenant, holdfast_worker, holdfast_analyst"
VIEWS = ("v_job", "v_job_timeline", "v_workspace_cost", "v_subject_usage")

# As `schema.common.ids` does it: 130 bits, the first two of them zero, five to a letter.
WRITE_HANDLE = """
CREATE FUNCTION write_handle(kind text, id uuid) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN kind || '_' || (
    SELECT string_agg(substr('0123456789abcdefghjkmnpqrstvwxyz',
                             substring(spelt.bits FROM 5 * place + 1 FOR 5)::bit(5)::int + 1, 1),
                      '' ORDER BY place)
      FROM (SELECT (B'00' || ('x' || replace(id::text, '-', ''))::bit(128))::bit(130) AS bits)
               AS spelt,
           generate_series(0, 25) AS place)
"""

READ_HANDLE = """
CREATE FUNCTION read_handle(handle text) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (
    SELECT (lpad(to_hex(substring(bits FROM 3 FOR 32)::bit(32)::int), 8, '0')
         || lpad(to_hex(substring(bits FROM 35 FOR 32)::bit(32)::int), 8, '0')
         || lpad(to_hex(substring(bits FROM 67 FOR 32)::bit(32)::int), 8, '0')
         || lpad(to_hex(substring(bits FROM 99 FOR 32)::bit(32)::int), 8, '0'))::uuid
      FROM (SELECT string_agg(
                       (strpos('0123456789abcdefghjkmnpqrstvwxyz', letter) - 1)::bit(5)::text,
                       '' ORDER BY place)::bit(130) AS bits
              FROM string_to_table(split_part(lower(btrim(handle)), '_', 2), NULL)
                   WITH ORDINALITY AS spelt (letter, place)
             WHERE lower(btrim(handle)) ~ '^(job|ws)_[0-7][0-9a-hjkmnp-tv-z]{25}$') AS read)
"""

# The clocks of the Hub and of Postgres may differ: no length of time is negative.
RAN_FOR = "greatest(coalesce(job.finished_at, now()) - job.started_at, interval '0')"
QUEUED_FOR = """greatest(coalesce(job.started_at, job.finished_at, now()) - job.created_at,
                interval '0')"""

JOB = f"""
CREATE VIEW v_job WITH (security_invoker = true) AS
SELECT write_handle('job', job.id) AS handle, job.id AS job_id,
       job.subject_id, subject.name AS subject, workspace.name AS workspace,
       job.kind, job.namespace, job.title, job.state, job.reason,
       CASE WHEN job.finished_at IS NULL THEN subject.hold END AS hold,
       job.flavor, job.attempt, run.remote_id,
       CASE WHEN EXISTS (SELECT FROM remote_run AS doomed
                          WHERE doomed.job_id = job.id AND doomed.desired = 'dead'
                            AND doomed.state IN ('posting', 'unknown', 'bound')) THEN 'stopping'
            WHEN job.attempt = 0 OR job.state = 'queued' THEN 'none'
            WHEN job.finished_at IS NULL THEN 'live'
            ELSE 'stopped' END AS upstream,
       job.created_at, job.started_at, job.finished_at,
       {QUEUED_FOR} AS queued_for,
       {RAN_FOR} AS ran_for
  FROM job
  JOIN subject ON subject.id = job.subject_id
  LEFT JOIN workspace ON workspace.id = job.workspace_id
  LEFT JOIN LATERAL (
      SELECT remote_id FROM remote_run
       WHERE remote_run.job_id = job.id AND origin = 'ours' ORDER BY attempt DESC LIMIT 1
  ) AS run ON true
"""  # noqa: S608  # our own words

# What upstream said may repeat what it was sent; it stands in job.message, and not here.
TIMELINE = """
CREATE VIEW v_job_timeline WITH (security_invoker = true) AS
SELECT handle, job_id, subject_id, at, version, event, state, actor, client, facts,
       at - lag(at) OVER (PARTITION BY job_id, handle ORDER BY version, at, id) AS since_previous
  FROM (
      SELECT write_handle('job', job.id) AS handle, job.id AS job_id, job.subject_id,
             event.at, event.version, event.kind AS event, event.state, event.actor,
             event.facts ->> 'client' AS client, event.facts - '{client,message}'::text[] AS facts,
             NULL::bigint AS id
        FROM job_event AS event JOIN job ON job.id = event.job_id
      UNION ALL
      SELECT entry.handle,
             CASE WHEN entry.handle LIKE 'job\\_%' THEN read_handle(entry.handle) END,
             entry.subject_id, entry.at, NULL, entry.action, NULL, entry.subject_id, entry.client,
             entry.facts, entry.id
        FROM audit_entry AS entry
       WHERE entry.handle IS NOT NULL
  ) AS story
"""

COUNTS = """count(*) AS jobs,
       count(*) FILTER (WHERE job.state = 'succeeded') AS succeeded,
       count(*) FILTER (WHERE job.state = 'failed') AS failed,
       count(*) FILTER (WHERE job.state = 'cancelled') AS cancelled,
       count(*) FILTER (WHERE job.finished_at IS NULL) AS unfinished"""
SUMS = """coalesce(sum(jobs), 0)::bigint AS jobs,
       coalesce(sum(succeeded), 0)::bigint AS succeeded,
       coalesce(sum(failed), 0)::bigint AS failed,
       coalesce(sum(cancelled), 0)::bigint AS cancelled,
       coalesce(sum(unfinished), 0)::bigint AS unfinished,
       coalesce(sum(run_seconds), 0)::bigint AS run_seconds,
       coalesce(jsonb_object_agg(flavor, run_seconds) FILTER (WHERE flavor IS NOT NULL
                                                                AND run_seconds IS NOT NULL),
                '{}') AS run_seconds_by_flavor"""
SECONDS = f"round(sum(extract(epoch FROM {RAN_FOR})))::bigint AS run_seconds"

WORKSPACE_COST = f"""
CREATE VIEW v_workspace_cost WITH (security_invoker = true) AS
SELECT write_handle('ws', workspace.id) AS handle, workspace.id AS workspace_id,
       workspace.name AS workspace, workspace.subject_id, subject.name AS subject, used.*
  FROM workspace JOIN subject ON subject.id = workspace.subject_id,
       LATERAL (
           SELECT {SUMS}
             FROM (SELECT job.flavor, {COUNTS}, {SECONDS}
                     FROM job WHERE job.workspace_id = workspace.id GROUP BY job.flavor) AS by_flavor
       ) AS used
"""  # noqa: S608  # our own words

SUBJECT_USAGE = f"""
CREATE VIEW v_subject_usage WITH (security_invoker = true) AS
SELECT by_flavor.subject_id, subject.name AS subject, day, {SUMS}
  FROM (SELECT job.subject_id, (job.created_at AT TIME ZONE 'UTC')::date AS day, job.flavor,
               {COUNTS}, {SECONDS}
          FROM job GROUP BY 1, 2, 3) AS by_flavor
  JOIN subject ON subject.id = by_flavor.subject_id
 GROUP BY by_flavor.subject_id, subject.name, day
"""  # noqa: S608  # our own words


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.add_column("job", sa.Column("flavor", sa.Text(), nullable=True))
    for statement in (WRITE_HANDLE, READ_HANDLE, JOB, TIMELINE, WORKSPACE_COST, SUBJECT_USAGE):
        op.execute(statement)
    op.execute(f"GRANT SELECT ON {', '.join(VIEWS)} TO {READERS}")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    for view in VIEWS:
        op.execute(f"DROP VIEW {view}")
    op.execute("DROP FUNCTION read_handle(text)")
    op.execute("DROP FUNCTION write_handle(text, uuid)")
    op.drop_column("job", "flavor")
