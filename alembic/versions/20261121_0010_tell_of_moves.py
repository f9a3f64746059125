"""Tell of moves

Whoever moves a job is told so by the row itself, in a notice on the connection that made the move:
no statement has to ask for it, and no move can forget to say it. And a function that reads how far
waited-for jobs are: as whoever asks, subject by subject, so that the wall stays where it is.
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TENANT = "holdfast_tenant"

TELL = """
CREATE FUNCTION tell_of_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE NOTICE USING ERRCODE = 'HFJOB', MESSAGE = NEW.id || ' ' || NEW.version;
  RETURN NULL;
END $$
"""

# Not SECURITY DEFINER: it can do nothing that its caller could not do by acting for each in turn.
MARKS = """
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
      SELECT job.subject_id, job.id, job.version, subject.hold
        FROM unnest(subject_ids, job_ids) AS asked (subject_id, job_id)
        JOIN job ON job.id = asked.job_id AND job.subject_id = asked.subject_id
        JOIN subject ON subject.id = job.subject_id
       WHERE asked.subject_id = acting;
  END LOOP;
  PERFORM set_config('holdfast.subject', before, true);
END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute(TELL)
    op.execute(
        "CREATE TRIGGER tell_of_move AFTER UPDATE ON job"
        " FOR EACH ROW EXECUTE FUNCTION tell_of_move()"
    )
    op.execute(MARKS)
    op.execute("REVOKE ALL ON FUNCTION job_marks(text[], uuid[]) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION job_marks(text[], uuid[]) TO {TENANT}")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute("DROP FUNCTION job_marks(text[], uuid[])")
    op.execute("DROP TRIGGER tell_of_move ON job")
    op.execute("DROP FUNCTION tell_of_move()")
