"""Keep the secrets of jobs, and the better of two tokens"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TENANT, WORKER = "holdfast_tenant", "holdfast_worker"

# With the rights of whoever moves the job: a tenant may delete what is the subject's own.
WIPE_SECRETS = """
CREATE FUNCTION wipe_secrets() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM job_secret WHERE job_id = NEW.id;
  RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.add_column(
        "credential",
        sa.Column("grants", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column(
        "credential",
        sa.Column(
            "seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
    )
    op.execute(f"GRANT SELECT (grants, seen_at) ON credential TO {TENANT}")
    op.create_table(
        "job_secret",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("fk_job_secret_job_id_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_secret")),
    )
    own = "subject_id = (SELECT current_setting('holdfast.subject', true))"
    op.execute("ALTER TABLE job_secret ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE job_secret FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own ON job_secret TO {TENANT} USING ({own}) WITH CHECK ({own})")
    op.execute(f"CREATE POLICY work ON job_secret TO {WORKER} USING (true) WITH CHECK (true)")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON job_secret TO {WORKER}")
    # Put in, and thrown away; never read.
    op.execute(f"GRANT SELECT (job_id, subject_id), INSERT, DELETE ON job_secret TO {TENANT}")
    op.execute(WIPE_SECRETS)
    op.execute(
        "CREATE TRIGGER wipe_secrets AFTER UPDATE OF state ON job FOR EACH ROW"
        " WHEN (NEW.state NOT IN ('queued', 'launching')) EXECUTE FUNCTION wipe_secrets()"
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute("DROP TRIGGER wipe_secrets ON job")
    op.execute("DROP FUNCTION wipe_secrets()")
    op.drop_table("job_secret")
    op.drop_column("credential", "seen_at")
    op.drop_column("credential", "grants")
