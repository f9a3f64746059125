-- Views for people who read by SQL, and the functions that convert handles (docs/sql.md). Each view
-- has security_invoker: it shows what the role that reads it may see. With the rights of the owner
-- it would show every row, or none if the owner is no superuser.


-- Handles -----------------------------------------------------------------------------------------

-- A handle is the kind and the id in Crockford's base32, as the code in `schema` writes it: 130
-- bits, the first two of them zero, five to a letter.
CREATE FUNCTION write_handle(kind text, id uuid) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN kind || '_' || (
    SELECT string_agg(substr('0123456789abcdefghjkmnpqrstvwxyz',
                             substring(spelt.bits FROM 5 * place + 1 FOR 5)::bit(5)::int + 1, 1),
                      '' ORDER BY place)
      FROM (SELECT (B'00' || ('x' || replace(id::text, '-', ''))::bit(128))::bit(130) AS bits)
               AS spelt,
           generate_series(0, 25) AS place);

-- The id of a handle of any kind, in upper or lower case; null if it is not a handle.
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
             WHERE lower(btrim(handle)) ~ '^(job|ws|sched|upload)_[0-7][0-9a-hjkmnp-tv-z]{25}$') AS read);


-- Jobs --------------------------------------------------------------------------------------------

-- One row for each job. The clocks of the Hub and of Postgres may differ, so intervals are never
-- negative. Until a job is settled, its cost is the price of the minutes started so far.
CREATE VIEW v_job WITH (security_invoker = true) AS
SELECT write_handle('job', job.id) AS handle,
       job.id AS job_id,
       job.subject_id,
       subject.name AS subject,
       workspace.name AS workspace,
       job.kind,
       job.namespace,
       job.title,
       job.state,
       job.reason,
       CASE WHEN job.finished_at IS NULL THEN coalesce(subject.hold, CASE WHEN EXISTS (
           SELECT FROM restored_subject AS restored
            WHERE restored.subject_id = subject.id
              AND restored.reconciled_at IS NULL) THEN 'restore' END) END AS hold,
       job.flavor,
       job.attempt,
       run.remote_id,
       CASE WHEN EXISTS (SELECT FROM remote_run AS doomed
                          WHERE doomed.job_id = job.id AND doomed.desired = 'dead'
                            AND doomed.state IN ('posting', 'unknown', 'bound')) THEN 'stopping'
            WHEN job.attempt = 0 OR job.state = 'queued' THEN 'none'
            WHEN job.finished_at IS NULL THEN 'live'
            ELSE 'stopped' END AS upstream,
       job.created_at,
       job.started_at,
       job.finished_at,
       greatest(coalesce(job.started_at, job.finished_at, now()) - job.created_at,
                interval '0') AS queued_for,
       greatest(coalesce(job.finished_at, now()) - job.started_at, interval '0') AS ran_for,
       round(cost.ceiling_micro_usd / 1e6, 6) AS ceiling_usd,
       CASE WHEN cost.job_id IS NOT NULL THEN round(
           coalesce(
               cost.spent_micro_usd,
               CASE WHEN job.started_at IS NOT NULL THEN least(
                   cost.held_micro_usd,
                   cost.price_micro_usd * greatest(1, ceil(extract(
                       epoch FROM coalesce(job.finished_at, now()) - job.started_at) / 60)))
               ELSE 0 END) / 1e6, 6) END AS cost_usd,
       cost.spent_micro_usd IS NOT NULL AS cost_final
  FROM job
  JOIN subject ON subject.id = job.subject_id
  LEFT JOIN workspace ON workspace.id = job.workspace_id
  LEFT JOIN LATERAL (
      SELECT remote_id FROM remote_run
       WHERE remote_run.job_id = job.id AND origin = 'ours' ORDER BY attempt DESC LIMIT 1
  ) AS run ON true
  LEFT JOIN job_cost AS cost ON cost.job_id = job.id;

-- One row for each transition of a job, and for each entry of the audit that names a handle. The
-- message is left out: what upstream said may repeat what it was sent. It is in job.message.
CREATE VIEW v_job_timeline WITH (security_invoker = true) AS
SELECT handle, job_id, subject_id, at, version, event, state, actor, client, facts,
       at - lag(at) OVER (PARTITION BY job_id, handle ORDER BY version, at, id) AS since_previous
  FROM (
      SELECT write_handle('job', job.id) AS handle,
             job.id AS job_id,
             job.subject_id,
             event.at,
             event.version,
             event.kind AS event,
             event.state,
             event.actor,
             event.facts ->> 'client' AS client,
             event.facts - '{client,message}'::text[] AS facts,
             NULL::bigint AS id
        FROM job_event AS event JOIN job ON job.id = event.job_id
      UNION ALL
      SELECT entry.handle,
             CASE WHEN entry.handle LIKE 'job\_%' THEN read_handle(entry.handle) END,
             entry.subject_id,
             entry.at,
             NULL,
             entry.action,
             NULL,
             entry.subject_id,
             entry.client,
             entry.facts,
             entry.id
        FROM audit_entry AS entry
       WHERE entry.handle IS NOT NULL
  ) AS story;


-- Usage -------------------------------------------------------------------------------------------

-- One row for each job, and one for each group of jobs that were deleted. A job that is deleted is
-- counted in its group from then on, with the numbers that it has here.
CREATE VIEW v_usage WITH (security_invoker = true) AS
SELECT job.id AS job_id,
       job.subject_id,
       (job.created_at AT TIME ZONE 'UTC')::date AS day,
       job.kind,
       job.workspace_id,
       job.flavor,
       1::bigint AS jobs,
       (job.state = 'succeeded')::int::bigint AS succeeded,
       (job.state = 'failed')::int::bigint AS failed,
       (job.state = 'cancelled')::int::bigint AS cancelled,
       (job.finished_at IS NULL)::int::bigint AS unfinished,
       (extract(epoch FROM greatest(coalesce(job.finished_at, now()) - job.started_at,
                                    interval '0')) * 1000000)::bigint
           AS run_microseconds,
       coalesce(cost.spent_micro_usd, 0) AS spent_micro_usd,
       coalesce(cost.held_micro_usd, 0) AS held_micro_usd,
       (cost.job_id IS NULL)::int::bigint AS unpriced,
       job.namespace,
       coalesce(cost.uncounted_micro_usd, 0) AS uncounted_micro_usd
  FROM job
  LEFT JOIN job_cost AS cost ON cost.job_id = job.id
UNION ALL
SELECT NULL, subject_id, day, kind, workspace_id, flavor, jobs, succeeded, failed, cancelled, 0,
       run_microseconds, spent_micro_usd, 0, unpriced, namespace, uncounted_micro_usd
  FROM usage_history;

-- One row for each workspace: how many jobs, for how long on which hardware, and at what cost.
CREATE VIEW v_workspace_cost WITH (security_invoker = true) AS
SELECT write_handle('ws', workspace.id) AS handle,
       workspace.id AS workspace_id,
       workspace.name AS workspace,
       workspace.subject_id,
       subject.name AS subject,
       used.*
  FROM workspace
  JOIN subject ON subject.id = workspace.subject_id,
       LATERAL (
           SELECT coalesce(sum(jobs), 0)::bigint AS jobs,
                  coalesce(sum(succeeded), 0)::bigint AS succeeded,
                  coalesce(sum(failed), 0)::bigint AS failed,
                  coalesce(sum(cancelled), 0)::bigint AS cancelled,
                  coalesce(sum(unfinished), 0)::bigint AS unfinished,
                  coalesce(sum(run_seconds), 0)::bigint AS run_seconds,
                  coalesce(jsonb_object_agg(flavor, run_seconds)
                               FILTER (WHERE flavor IS NOT NULL AND run_seconds IS NOT NULL),
                           '{}') AS run_seconds_by_flavor,
                  coalesce(round(sum(spent_micro_usd) / 1e6, 6), 0) AS cost_usd,
                  coalesce(round(sum(held_micro_usd) / 1e6, 6), 0) AS held_usd,
                  coalesce(sum(unpriced), 0)::bigint AS unpriced
             FROM (
                 SELECT flavor,
                        sum(jobs) AS jobs,
                        sum(succeeded) AS succeeded,
                        sum(failed) AS failed,
                        sum(cancelled) AS cancelled,
                        sum(unfinished) AS unfinished,
                        round(sum(run_microseconds) / 1e6)::bigint AS run_seconds,
                        sum(spent_micro_usd) AS spent_micro_usd,
                        sum(held_micro_usd) AS held_micro_usd,
                        sum(unpriced) AS unpriced
                   FROM v_usage
                  WHERE v_usage.workspace_id = workspace.id
                  GROUP BY flavor
             ) AS by_flavor
       ) AS used;

-- The same counts, one row for each subject and day (UTC) of creation.
CREATE VIEW v_subject_usage WITH (security_invoker = true) AS
SELECT by_flavor.subject_id,
       subject.name AS subject,
       day,
       coalesce(sum(jobs), 0)::bigint AS jobs,
       coalesce(sum(succeeded), 0)::bigint AS succeeded,
       coalesce(sum(failed), 0)::bigint AS failed,
       coalesce(sum(cancelled), 0)::bigint AS cancelled,
       coalesce(sum(unfinished), 0)::bigint AS unfinished,
       coalesce(sum(run_seconds), 0)::bigint AS run_seconds,
       coalesce(jsonb_object_agg(flavor, run_seconds)
                    FILTER (WHERE flavor IS NOT NULL AND run_seconds IS NOT NULL),
                '{}') AS run_seconds_by_flavor,
       coalesce(round(sum(spent_micro_usd) / 1e6, 6), 0) AS cost_usd,
       coalesce(round(sum(held_micro_usd) / 1e6, 6), 0) AS held_usd,
       coalesce(sum(unpriced), 0)::bigint AS unpriced
  FROM (
      SELECT subject_id,
             day,
             flavor,
             sum(jobs) AS jobs,
             sum(succeeded) AS succeeded,
             sum(failed) AS failed,
             sum(cancelled) AS cancelled,
             sum(unfinished) AS unfinished,
             round(sum(run_microseconds) / 1e6)::bigint AS run_seconds,
             sum(spent_micro_usd) AS spent_micro_usd,
             sum(held_micro_usd) AS held_micro_usd,
             sum(unpriced) AS unpriced
        FROM v_usage
       GROUP BY subject_id, day, flavor
  ) AS by_flavor
  JOIN subject ON subject.id = by_flavor.subject_id
 GROUP BY by_flavor.subject_id, subject.name, day;

GRANT SELECT ON v_job, v_job_timeline, v_usage, v_workspace_cost, v_subject_usage
    TO holdfast_tenant, holdfast_worker, holdfast_analyst;


-- Operation ---------------------------------------------------------------------------------------

-- Rows that need a next step which no worker would take. It is always empty; tests and the metrics
-- read it.
CREATE VIEW v_unowned WITH (security_invoker = true) AS
SELECT job.id AS job_id, NULL::uuid AS run_id, 'queued, but its subject counts none' AS why
  FROM job JOIN subject ON subject.id = job.subject_id
 WHERE job.state = 'queued' AND subject.queued = 0
UNION ALL
SELECT job.id, NULL, job.state || ', but no open run'
  FROM job
 WHERE job.state IN ('launching', 'running')
   AND NOT EXISTS (SELECT FROM remote_run AS run
                    WHERE run.job_id = job.id AND run.origin = 'ours'
                      AND run.state IN ('posting', 'unknown', 'bound'))
UNION ALL
SELECT run.job_id, run.id, 'bound, but its group is not polled'
  FROM remote_run AS run
 WHERE run.state = 'bound'
   AND NOT EXISTS (SELECT FROM poll_group AS polled
                    WHERE polled.subject_id = run.subject_id
                      AND polled.namespace = run.namespace AND polled.due_at IS NOT NULL)
UNION ALL
SELECT run.job_id, run.id, 'open, but its job is over and nobody told it to die'
  FROM remote_run AS run JOIN job ON job.id = run.job_id
 WHERE run.state IN ('posting', 'unknown', 'bound') AND run.desired = 'alive'
   AND job.finished_at IS NOT NULL
UNION ALL
SELECT job.id, NULL, 'waits for no job that is open'
  FROM job
 WHERE job.state = 'queued' AND job.due_at = 'infinity'
   AND NOT EXISTS (SELECT FROM job_dependency AS wait
                    WHERE wait.job_id = job.id AND NOT wait.told
                      AND (wait.state <> 'waiting'
                           OR EXISTS (SELECT FROM job AS parent WHERE parent.id = wait.parent_id
                                         AND parent.finished_at IS NULL)));

GRANT SELECT ON v_unowned TO holdfast_worker, holdfast_analyst;

-- The number of workers that are connected. A role may not read the sessions of other logins, and
-- this number is no secret: hence SECURITY DEFINER, with a fixed search path.
CREATE FUNCTION workers_connected() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog AS $$
SELECT count(DISTINCT application_name) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name LIKE 'holdfast-worker%'
$$;

REVOKE ALL ON FUNCTION workers_connected() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION workers_connected()
    TO holdfast_tenant, holdfast_worker, holdfast_analyst;
