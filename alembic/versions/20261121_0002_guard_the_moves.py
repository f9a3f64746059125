"""Guard the moves

What the code promises, the database refuses to see broken, even from psql. `v_unowned` lists
whatever owes a step that nobody would take up; it is always empty.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JOB_GUARD = """
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
END $$
"""

RUN_GUARD = """
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
      ('absent', 'bound'), ('bound', 'ended')) THEN
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
END $$
"""

UNOWNED = """
CREATE VIEW v_unowned AS
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
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute(JOB_GUARD)
    op.execute(
        "CREATE TRIGGER job_guard BEFORE UPDATE ON job FOR EACH ROW EXECUTE FUNCTION job_guard()"
    )
    op.execute(RUN_GUARD)
    op.execute(
        "CREATE TRIGGER remote_run_guard BEFORE UPDATE OR DELETE ON remote_run"
        " FOR EACH ROW EXECUTE FUNCTION remote_run_guard()"
    )
    op.execute(UNOWNED)


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute("DROP VIEW v_unowned")
    op.execute("DROP TRIGGER remote_run_guard ON remote_run")
    op.execute("DROP FUNCTION remote_run_guard()")
    op.execute("DROP TRIGGER job_guard ON job")
    op.execute("DROP FUNCTION job_guard()")
