-- The secrets of a job are deleted as soon as it is final and none of its runs is open, so that
-- they can be searched for in its log until then. Either of the two can happen last: hence two
-- triggers.
--
-- The function runs with the rights of the role that made the transition: a tenant may delete rows
-- of its own subject.
CREATE FUNCTION wipe_secrets() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE over uuid;
BEGIN
  IF TG_TABLE_NAME = 'job' THEN over := NEW.id; ELSE over := NEW.job_id; END IF;
  DELETE FROM job_secret
   WHERE job_id = over
     AND EXISTS (SELECT FROM job WHERE job.id = over AND job.finished_at IS NOT NULL)
     AND NOT EXISTS (SELECT FROM remote_run AS run
                      WHERE run.job_id = over AND run.state IN ('posting', 'unknown', 'bound'));
  RETURN NULL;
END $$;

CREATE TRIGGER wipe_secrets AFTER UPDATE OF state ON job
    FOR EACH ROW WHEN (NEW.finished_at IS NOT NULL)
    EXECUTE FUNCTION wipe_secrets();

CREATE TRIGGER wipe_secrets AFTER UPDATE OF state ON remote_run
    FOR EACH ROW WHEN (NEW.state IN ('rejected', 'absent', 'ended'))
    EXECUTE FUNCTION wipe_secrets();
