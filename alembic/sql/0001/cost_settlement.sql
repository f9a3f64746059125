-- The launch of a job reserves its maximum cost. A trigger settles the reservation as soon as
-- nothing of the job can cost any more: it is final, none of its runs is open, and no absent run is
-- watched for. Several transitions can be the last one, in any order, so none of them does it
-- itself.
--
-- An AFTER trigger runs when the statement of the transition is complete, so it sees all of its
-- changes. The rows of money are locked last, the workspace before the month, as in a launch. Cost
-- above the reservation belongs to no budget; it is recorded as uncounted.
CREATE FUNCTION settle_cost() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  cost job_cost%ROWTYPE;
  total bigint;
BEGIN
  SELECT * INTO cost FROM job_cost WHERE job_id = NEW.id FOR UPDATE;
  IF NOT FOUND OR EXISTS (
      SELECT FROM remote_run
       WHERE job_id = NEW.id AND (state IN ('posting', 'unknown', 'bound')
                                  OR (state = 'absent' AND deadline_at IS NOT NULL))) THEN
    RETURN NULL;
  END IF;
  SELECT coalesce(sum(cost_micro_usd), 0) INTO total FROM remote_run WHERE job_id = NEW.id;
  IF cost.spent_micro_usd IS NULL THEN
    UPDATE job_cost
       SET held_micro_usd = 0, spent_micro_usd = least(total, cost.held_micro_usd),
           uncounted_micro_usd = greatest(total - cost.held_micro_usd, 0)
     WHERE job_id = NEW.id;
    UPDATE workspace
       SET held_micro_usd = held_micro_usd - cost.held_micro_usd,
           spent_micro_usd = spent_micro_usd + least(total, cost.held_micro_usd)
     WHERE id = NEW.workspace_id;
    UPDATE spending
       SET held_micro_usd = held_micro_usd - cost.held_micro_usd,
           spent_micro_usd = spent_micro_usd + least(total, cost.held_micro_usd)
     WHERE subject_id = NEW.subject_id AND month = cost.month;
  ELSIF total > cost.spent_micro_usd + cost.uncounted_micro_usd THEN
    UPDATE job_cost SET uncounted_micro_usd = total - spent_micro_usd WHERE job_id = NEW.id;
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER settle_cost AFTER UPDATE ON job
    FOR EACH ROW WHEN (NEW.finished_at IS NOT NULL)
    EXECUTE FUNCTION settle_cost();
