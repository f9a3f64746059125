"""Keep logs within bounds

How much of each job's log is kept, and where: its beginning, and a tail that rolls. The secrets of
a job stay sealed until its log is wholly captured, so that they can be looked for in it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TENANT, WORKER = "holdfast_tenant", "holdfast_worker"

# With the rights of whoever moves the job: a tenant may delete what is the subject's own.
WIPE_SECRETS = """
CREATE OR REPLACE FUNCTION wipe_secrets() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE over uuid;
BEGIN
  IF TG_TABLE_NAME = 'job' THEN over := NEW.id; ELSE over := NEW.job_id; END IF;
  DELETE FROM job_secret
   WHERE job_id = over
     AND EXISTS (SELECT FROM job WHERE job.id = over AND job.finished_at IS NOT NULL)
     AND NOT EXISTS (SELECT FROM remote_run AS run
                      WHERE run.job_id = over AND run.state IN ('posting', 'unknown', 'bound'));
  RETURN NULL;
END $$
"""
WIPE_AT_LAUNCH = """
CREATE OR REPLACE FUNCTION wipe_secrets() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM job_secret WHERE job_id = NEW.id;
  RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    for column in ("line_count", "bytes"):
        op.add_column(
            "log_chunk",
            sa.Column(column, sa.Integer(), server_default=sa.text("0"), nullable=False),
        )
    op.create_table(
        "job_log",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("head_lines", sa.BigInteger(), nullable=False),
        sa.Column("head_bytes", sa.BigInteger(), nullable=False),
        sa.Column("tail_start", sa.BigInteger(), nullable=False),
        sa.Column("tail_bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "0 <= head_lines AND head_lines <= tail_start AND tail_start <= length",
            name=op.f("ck_job_log_in_order"),
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("fk_job_log_job_id_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_log")),
    )
    # The wall would hide the rows from an owner who may not pass it.
    op.execute("ALTER TABLE log_chunk NO FORCE ROW LEVEL SECURITY")
    op.execute(
        "UPDATE log_chunk SET line_count = cardinality(lines), bytes ="
        " (SELECT coalesce(sum(octet_length(line) + 1), 0) FROM unnest(lines) AS line)"
    )
    op.execute(
        "INSERT INTO job_log (job_id, length, head_lines, head_bytes, tail_start, tail_bytes)"
        " SELECT job_id, sum(line_count), sum(line_count), sum(bytes), sum(line_count), 0"
        " FROM log_chunk GROUP BY job_id"
    )
    op.execute("ALTER TABLE log_chunk FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE job_log ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE job_log FORCE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY own ON job_log TO {TENANT}"
        " USING (EXISTS (SELECT FROM job WHERE job.id = job_log.job_id)) WITH CHECK (true)"
    )
    op.execute(f"CREATE POLICY work ON job_log TO {WORKER} USING (true) WITH CHECK (true)")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON job_log TO {WORKER}")
    op.execute(f"GRANT SELECT ON job_log TO {TENANT}")
    op.execute("DROP TRIGGER wipe_secrets ON job")
    op.execute(WIPE_SECRETS)
    op.execute(
        "CREATE TRIGGER wipe_secrets AFTER UPDATE OF state ON job FOR EACH ROW"
        " WHEN (NEW.finished_at IS NOT NULL) EXECUTE FUNCTION wipe_secrets()"
    )
    op.execute(
        "CREATE TRIGGER wipe_secrets AFTER UPDATE OF state ON remote_run FOR EACH ROW"
        " WHEN (NEW.state IN ('rejected', 'absent', 'ended')) EXECUTE FUNCTION wipe_secrets()"
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute("DROP TRIGGER wipe_secrets ON remote_run")
    op.execute("DROP TRIGGER wipe_secrets ON job")
    op.execute(WIPE_AT_LAUNCH)
    op.execute(
        "CREATE TRIGGER wipe_secrets AFTER UPDATE OF state ON job FOR EACH ROW"
        " WHEN (NEW.state NOT IN ('queued', 'launching')) EXECUTE FUNCTION wipe_secrets()"
    )
    op.drop_table("job_log")
    op.drop_column("log_chunk", "bytes")
    op.drop_column("log_chunk", "line_count")
