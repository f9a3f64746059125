-- How a waiting caller learns that a job has changed: a notice after each update, and a function
-- that reads the versions of many jobs at once.


-- A notice on the connection that made the transition; `Database.transaction()` publishes it after
-- the commit. No statement has to ask for it, so no transition can omit it. It is not NOTIFY, which
-- takes one lock of the whole server in every commit.
CREATE FUNCTION tell_of_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE NOTICE USING ERRCODE = 'HFJOB', MESSAGE = NEW.id || ' ' || NEW.version;
  RETURN NULL;
END $$;

CREATE TRIGGER tell_of_move AFTER UPDATE ON job
    FOR EACH ROW EXECUTE FUNCTION tell_of_move();


-- A notice for each event, on the same connection: what the log lines and the metrics of a process
-- are made of, once the transaction is committed. A job ends with its first event in a final state.
CREATE FUNCTION tell_of_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  moved job;
  request_id text := NEW.facts ->> 'request_id';
BEGIN
  SELECT * INTO moved FROM job WHERE id = NEW.job_id;
  IF request_id IS NULL THEN  -- that of the request which made the job
    SELECT facts ->> 'request_id' INTO request_id
      FROM job_event WHERE job_id = NEW.job_id AND version = 1;
  END IF;
  RAISE NOTICE USING ERRCODE = 'HFEVT', MESSAGE = jsonb_build_object(
      'job_id', NEW.job_id, 'version', NEW.version, 'subject_id', moved.subject_id,
      'kind', moved.kind, 'event', NEW.kind, 'state', NEW.state, 'reason', moved.reason,
      'request_id', request_id, 'is_end', NEW.state IN ('succeeded', 'failed', 'cancelled') AND NOT EXISTS (
          SELECT FROM job_event AS earlier
           WHERE earlier.job_id = NEW.job_id AND earlier.version < NEW.version
             AND earlier.state IN ('succeeded', 'failed', 'cancelled')));
  RETURN NULL;
END $$;

CREATE TRIGGER tell_of_event AFTER INSERT ON job_event
    FOR EACH ROW EXECUTE FUNCTION tell_of_event();


-- The versions of jobs of several subjects. It acts for one subject after the other, so row-level
-- security checks every row. It is not SECURITY DEFINER: it can do nothing that its caller could
-- not do by acting for each subject in turn.
CREATE FUNCTION job_marks(subject_ids text[], job_ids uuid[])
RETURNS TABLE (subject_id text, job_id uuid, version bigint, hold text)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER AS $$
DECLARE
  acting text;
  before text := coalesce(current_setting('holdfast.subject', true), '');
BEGIN
  FOR acting IN SELECT DISTINCT asked FROM unnest(subject_ids) AS asked LOOP
    PERFORM set_config('holdfast.subject', acting, true);
    RETURN QUERY
      SELECT job.subject_id, job.id, job.version,
             coalesce(subject.hold, CASE WHEN EXISTS (
                 SELECT FROM restored_subject AS restored
                  WHERE restored.subject_id = subject.id
                    AND restored.reconciled_at IS NULL) THEN 'restore' END)
        FROM unnest(subject_ids, job_ids) AS asked (subject_id, job_id)
        JOIN job ON job.id = asked.job_id AND job.subject_id = asked.subject_id
        JOIN subject ON subject.id = job.subject_id
       WHERE asked.subject_id = acting;
  END LOOP;
  PERFORM set_config('holdfast.subject', before, true);
END $$;

REVOKE ALL ON FUNCTION job_marks(text[], uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION job_marks(text[], uuid[]) TO holdfast_tenant;
