"""Note who did what

What is no move of a job, but was done by a subject, or to what they lent. Entries, and the events
of jobs, are appended: a trigger refuses to change one, and only retention deletes.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TENANT, WORKER, ANALYST = "holdfast_tenant", "holdfast_worker", "holdfast_analyst"

APPEND_ONLY = """
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'what stands in % is never changed', TG_TABLE_NAME;
END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.create_table(
        "audit_entry",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("handle", sa.Text(), nullable=True),
        sa.Column(
            "facts",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "action IN ('workspace_made', 'credential_lent', 'credential_refused')",
            name=op.f("ck_audit_entry_action_known"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entry")),
    )
    op.create_index("ix_audit_entry_subject", "audit_entry", ["subject_id", "id"])
    op.create_index(
        "ix_audit_entry_handle",
        "audit_entry",
        ["handle"],
        postgresql_where=sa.text("handle IS NOT NULL"),
    )
    op.create_index("ix_audit_entry_at", "audit_entry", ["at"])
    own = "subject_id = (SELECT current_setting('holdfast.subject', true))"
    op.execute("ALTER TABLE audit_entry ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE audit_entry FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own ON audit_entry TO {TENANT} USING ({own}) WITH CHECK ({own})")
    op.execute(f"CREATE POLICY work ON audit_entry TO {WORKER} USING (true) WITH CHECK (true)")
    op.execute(f"CREATE POLICY analysis ON audit_entry FOR SELECT TO {ANALYST} USING (true)")
    op.execute(f"GRANT SELECT, INSERT ON audit_entry TO {TENANT}")
    op.execute(f"GRANT SELECT, INSERT, DELETE ON audit_entry TO {WORKER}")
    op.execute(f"GRANT SELECT ON audit_entry TO {ANALYST}")
    # A dump is made as the worker, and has to say where the numbers have got to.
    op.execute(f"GRANT SELECT ON SEQUENCE audit_entry_id_seq TO {WORKER}")
    # An event goes with its job: a cascade has the rights of the table's owner, not of who began it.
    op.execute(f"REVOKE UPDATE, DELETE ON job_event FROM {WORKER}")
    op.execute(APPEND_ONLY)
    for table in ("job_event", "audit_entry"):
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION append_only()"
        )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute("DROP TRIGGER append_only ON job_event")
    op.drop_table("audit_entry")
    op.execute("DROP FUNCTION append_only()")
    op.execute(f"GRANT UPDATE, DELETE ON job_event TO {WORKER}")
