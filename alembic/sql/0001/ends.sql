-- What the end of a job sets off, whichever transition made it: the job enters the inbox of its subject,
-- and its webhook becomes pending. A trigger does it in the statement that ends the job, so no end is
-- lost, and none is announced that was not committed. A worker sends afterwards.


-- The webhook of a job, chosen when the job is made: that of the job it repeats, or of its workspace. A
-- launch that names another one replaces it in the same transaction. The function runs with the rights
-- of the role that makes the job, under row-level security.
CREATE FUNCTION choose_webhook() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO webhook_delivery (job_id, subject_id, target_id)
  SELECT NEW.id, NEW.subject_id, chosen.target_id
    FROM (SELECT coalesce(
                     (SELECT target_id FROM webhook_delivery
                       WHERE job_id = NEW.rerun_of AND subject_id = NEW.subject_id),
                     (SELECT webhook_target_id FROM workspace
                       WHERE id = NEW.workspace_id AND subject_id = NEW.subject_id)
                 ) AS target_id) AS chosen
   WHERE chosen.target_id IS NOT NULL;
  RETURN NULL;
END $$;

CREATE TRIGGER choose_webhook AFTER INSERT ON job
    FOR EACH ROW
    WHEN (NEW.finished_at IS NULL AND (NEW.rerun_of IS NOT NULL OR NEW.workspace_id IS NOT NULL))
    EXECUTE FUNCTION choose_webhook();


-- The row of the target is read and not locked: jobs of one target may end in any order.
CREATE FUNCTION announce_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO unseen_job (job_id, subject_id) VALUES (NEW.id, NEW.subject_id);
  UPDATE webhook_delivery
     SET state = 'pending', ended_at = now(), due_at = now()
   WHERE job_id = NEW.id AND state = 'waiting';
  RETURN NULL;
END $$;

CREATE TRIGGER announce_end AFTER UPDATE ON job
    FOR EACH ROW WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL)
    EXECUTE FUNCTION announce_end();


-- The targets with pending deliveries, each with the moment at which the first of them may be sent. It
-- looks at one row for each target, however many deliveries wait for a dead one.
CREATE FUNCTION pending_webhooks()
RETURNS TABLE (target_id uuid, subject_id text, due_at timestamptz)
LANGUAGE sql STABLE SECURITY INVOKER AS $$
WITH RECURSIVE first AS (
    (SELECT delivery.target_id, delivery.due_at
       FROM webhook_delivery AS delivery
      WHERE delivery.due_at IS NOT NULL
      ORDER BY delivery.target_id, delivery.due_at
      LIMIT 1)
    UNION ALL
    SELECT next.target_id, next.due_at
      FROM first
     CROSS JOIN LATERAL (
           SELECT delivery.target_id, delivery.due_at
             FROM webhook_delivery AS delivery
            WHERE delivery.due_at IS NOT NULL
              AND delivery.target_id > first.target_id
            ORDER BY delivery.target_id, delivery.due_at
            LIMIT 1) AS next
)
SELECT target.id, target.subject_id,
       greatest(first.due_at, target.due_at, target.leased_until)
  FROM first
  JOIN webhook_target AS target ON target.id = first.target_id
$$;
