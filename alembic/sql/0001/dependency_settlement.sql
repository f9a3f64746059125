-- When a job ends, the jobs that wait for it learn whether their condition is met. A trigger does
-- it in the statement that ends the job, so no transition can omit it; a worker acts on it
-- afterwards.
--
-- The function runs with the rights of the role that ends the job: both jobs belong to one subject.
CREATE FUNCTION settle_waits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE job_dependency AS wait
     SET state = CASE WHEN NEW.state = 'succeeded' OR wait.on_end = 'finish' THEN 'met'
                      ELSE 'unmet' END
   WHERE wait.parent_id = NEW.id AND wait.state = 'waiting';
  RETURN NULL;
END $$;

CREATE TRIGGER settle_waits AFTER UPDATE ON job
    FOR EACH ROW WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL)
    EXECUTE FUNCTION settle_waits();
