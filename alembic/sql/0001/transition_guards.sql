-- Triggers that refuse an illegal or backward transition, whoever makes it, also from psql. The
-- transition functions in `schema` promise the same; the database checks it again.


-- Jobs --------------------------------------------------------------------------------------------

--   queued ──▶ launching ──▶ running ──▶ succeeded | failed | cancelled
--     ▲            │            │
--     └────────────┴────────────┘
--
-- A final state is never left, the version increases by one with each update, the attempt never
-- decreases, and a cancel is never undone. A queued or launching job may fail or be cancelled too.
-- Only a running job without a Hub job behind it returns to the queue: a Hub job would run on.
CREATE FUNCTION job_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.finished_at IS NOT NULL
     AND (NEW.state, NEW.finished_at, NEW.reason) IS DISTINCT FROM
         (OLD.state, OLD.finished_at, OLD.reason) THEN
    RAISE EXCEPTION 'job % is final', OLD.id;
  END IF;
  IF NEW.version <> OLD.version + 1 THEN
    RAISE EXCEPTION 'a move of job % must raise its version by one', OLD.id;
  END IF;
  IF NEW.attempt < OLD.attempt THEN
    RAISE EXCEPTION 'the attempts of job % only grow', OLD.id;
  END IF;
  IF OLD.cancel_requested_at IS NOT NULL
     AND NEW.cancel_requested_at IS DISTINCT FROM OLD.cancel_requested_at THEN
    RAISE EXCEPTION 'the cancel of job % is never taken back', OLD.id;
  END IF;
  IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
      ('queued', 'launching'), ('queued', 'failed'), ('queued', 'cancelled'),
      ('launching', 'queued'), ('launching', 'running'), ('launching', 'failed'),
      ('launching', 'cancelled'),
      ('running', 'succeeded'), ('running', 'failed'), ('running', 'cancelled'))
     AND NOT (OLD.kind <> 'hub_job' AND (OLD.state, NEW.state) = ('running', 'queued')) THEN
    RAISE EXCEPTION 'job % cannot move from % to %', OLD.id, OLD.state, NEW.state;
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER job_guard BEFORE UPDATE ON job
    FOR EACH ROW EXECUTE FUNCTION job_guard();


-- Remote runs -------------------------------------------------------------------------------------

--   posting ──▶ bound ──▶ ended       posting, unknown ──▶ rejected   provably not created
--      │          ▲                   posting ──▶ ended   a call, which has no remote id
--      └─▶ unknown┴─▶ absent          absent, rejected ──▶ bound   listed after all
--
-- The remote id is written once, and an order to stop a run is never withdrawn. A run that may be
-- alive cannot be deleted. The answer to a create request counts even after the run became unknown,
-- and a run that was rejected may appear in a listing nevertheless.
CREATE FUNCTION remote_run_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF OLD.state IN ('posting', 'unknown', 'bound') THEN
      RAISE EXCEPTION 'run % may be alive and cannot be forgotten', OLD.id;
    END IF;
    RETURN OLD;
  END IF;
  IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
      ('posting', 'unknown'), ('posting', 'rejected'), ('posting', 'bound'), ('posting', 'ended'),
      ('unknown', 'absent'), ('unknown', 'bound'),
      ('absent', 'bound'), ('bound', 'ended'),
      ('unknown', 'rejected'), ('rejected', 'bound')) THEN
    RAISE EXCEPTION 'run % cannot move from % to %', OLD.id, OLD.state, NEW.state;
  END IF;
  IF (OLD.state, NEW.state) = ('posting', 'ended') AND OLD.kind = 'hub_job' THEN
    RAISE EXCEPTION 'run % ends only after it was bound', OLD.id;
  END IF;
  IF OLD.remote_id IS NOT NULL AND NEW.remote_id IS DISTINCT FROM OLD.remote_id THEN
    RAISE EXCEPTION 'the remote id of run % is written once', OLD.id;
  END IF;
  IF OLD.desired = 'dead' AND NEW.desired <> 'dead' THEN
    RAISE EXCEPTION 'the kill order of run % is never taken back', OLD.id;
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER remote_run_guard BEFORE UPDATE OR DELETE ON remote_run
    FOR EACH ROW EXECUTE FUNCTION remote_run_guard();


-- History -----------------------------------------------------------------------------------------

-- The events of jobs and the entries of the audit are appended and never updated. Deleting is a
-- matter of grants (row_security.sql): only retention does it.
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'what stands in % is never changed', TG_TABLE_NAME;
END $$;

CREATE TRIGGER append_only BEFORE UPDATE ON job_event
    FOR EACH ROW EXECUTE FUNCTION append_only();

CREATE TRIGGER append_only BEFORE UPDATE ON audit_entry
    FOR EACH ROW EXECUTE FUNCTION append_only();


-- Limits ------------------------------------------------------------------------------------------

-- How many more jobs of a kind a subject may run, if at most `$3` may run at a time; null if there is
-- no such limit. It is VOLATILE, so it sees what was committed before it is called: a claim calls it
-- with the subject locked, and a count by the snapshot of the claim could miss an earlier claim.
CREATE FUNCTION room_of_kind(subject_id text, kind text, max_active integer) RETURNS integer
LANGUAGE sql VOLATILE STRICT AS $$
SELECT $3 - count(*)::integer
  FROM (SELECT FROM remote_run AS run
         WHERE run.subject_id = $1
           AND run.kind = $2
           AND run.origin = 'ours'
           AND run.state IN ('posting', 'unknown', 'bound')
         LIMIT $3) AS open
$$;
