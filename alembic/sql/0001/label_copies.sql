-- The labels of a job, copied into a table with an index when the job is made. A trigger does it, so no
-- statement that makes a job can omit it, and one of a job without labels costs nothing.
--
-- The function runs with the rights of the role that makes the job, under row-level security.
CREATE FUNCTION copy_labels() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO job_label (job_id, name, subject_id, value)
  SELECT NEW.id, label.key, NEW.subject_id, label.value FROM jsonb_each_text(NEW.labels) AS label;
  RETURN NULL;
END $$;

CREATE TRIGGER copy_labels AFTER INSERT ON job
    FOR EACH ROW WHEN (NEW.labels <> '{}')
    EXECUTE FUNCTION copy_labels();


-- Labels are never changed, so the copy stays true.
CREATE FUNCTION refuse_other_labels() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the labels of job % are never changed', OLD.id;
END $$;

CREATE TRIGGER refuse_other_labels BEFORE UPDATE OF labels ON job
    FOR EACH ROW WHEN (NEW.labels <> OLD.labels)
    EXECUTE FUNCTION refuse_other_labels();
