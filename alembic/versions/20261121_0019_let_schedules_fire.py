"""Let schedules fire

A request that is launched again and again, what became of each time, and the secrets its jobs are
given. People who ask by SQL see all of a schedule but the request.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TENANT, WORKER, ANALYST = "holdfast_tenant", "holdfast_worker", "holdfast_analyst"
TABLES = ("schedule", "schedule_firing", "schedule_secret")

ACTIONS = [
    *("workspace_made", "workspace_updated", "workspace_archived"),
    *("credential_lent", "credential_refused"),
]
NEW_ACTIONS = [
    *("workspace_made", "workspace_updated", "workspace_archived"),
    *("schedule_made", "schedule_updated", "schedule_deleted"),
    *("credential_lent", "credential_refused"),
]
KNOWN = "ck_audit_entry_action_known"

SHOWN = (
    "id, subject_id, name, cron, timezone, overlap, missed, workspace_id, kind, namespace, title,"
    " labels, most_micro_usd, ceiling_micro_usd, created_at, paused_at, next_at, asked_at"
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _create_schedule()
    _create_what_goes_with_it()
    own = "subject_id = (SELECT current_setting('holdfast.subject', true))"
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own ON {table} TO {TENANT} USING ({own}) WITH CHECK ({own})")
        op.execute(f"CREATE POLICY work ON {table} TO {WORKER} USING (true) WITH CHECK (true)")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {WORKER}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON schedule TO {TENANT}")
    op.execute(f"GRANT SELECT ON schedule_firing TO {TENANT}, {ANALYST}")
    # Put in, and thrown away with the schedule; never read.
    op.execute(f"GRANT SELECT (schedule_id, subject_id), INSERT ON schedule_secret TO {TENANT}")
    op.execute(f"GRANT SELECT ({SHOWN}) ON schedule TO {ANALYST}")
    for table in ("schedule", "schedule_firing"):
        op.execute(f"CREATE POLICY analysis ON {table} FOR SELECT TO {ANALYST} USING (true)")
    _know(NEW_ACTIONS)
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE audit_entry VALIDATE CONSTRAINT {KNOWN}")


def _create_schedule() -> None:
    op.create_table(
        "schedule",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("overlap", sa.Text(), nullable=False),
        sa.Column("missed", sa.Text(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("spec", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "labels",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("most_micro_usd", sa.BigInteger(), nullable=True),
        sa.Column("ceiling_micro_usd", sa.BigInteger(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind ~ '^[a-z][a-z_]{1,39}$'", name=op.f("ck_schedule_kind_word")),
        sa.CheckConstraint("overlap IN ('skip', 'allow')", name=op.f("ck_schedule_overlap_known")),
        sa.CheckConstraint("missed IN ('run_once', 'skip')", name=op.f("ck_schedule_missed_known")),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name=op.f("ck_schedule_name_length")),
        sa.CheckConstraint(
            "length(idempotency_key) BETWEEN 1 AND 200", name=op.f("ck_schedule_key_length")
        ),
        sa.CheckConstraint("pg_column_size(spec) < 1048576", name=op.f("ck_schedule_spec_size")),
        sa.CheckConstraint(
            "(paused_at IS NULL) = (next_at IS NOT NULL)",
            name=op.f("ck_schedule_next_unless_paused"),
        ),
        sa.CheckConstraint(
            "(due_at IS NULL) = (next_at IS NULL AND asked_at IS NULL)",
            name=op.f("ck_schedule_due_iff_awaited"),
        ),
        sa.ForeignKeyConstraint(
            ["subject_id"], ["subject.id"], name=op.f("fk_schedule_subject_id_subject")
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id", "subject_id"],
            ["workspace.id", "workspace.subject_id"],
            name=op.f("fk_schedule_workspace_id_subject_id_workspace"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule")),
        sa.UniqueConstraint(
            "subject_id", "idempotency_key", name=op.f("uq_schedule_subject_id_idempotency_key")
        ),
    )
    op.create_index("ix_schedule_list", "schedule", ["subject_id", "id"])
    op.create_index("ix_schedule_workspace", "schedule", ["workspace_id"])
    op.create_index(
        "ix_schedule_due",
        "schedule",
        ["due_at"],
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )


def _create_what_goes_with_it() -> None:
    op.create_table(
        "schedule_firing",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("fire_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("asked", sa.Boolean(), nullable=False),
        sa.Column("became", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "became IN ('launched', 'skipped', 'missed', 'refused')",
            name=op.f("ck_schedule_firing_became_known"),
        ),
        sa.CheckConstraint(
            "(became IN ('launched', 'skipped')) = (job_id IS NOT NULL)",
            name=op.f("ck_schedule_firing_job_iff_one"),
        ),
        sa.CheckConstraint(
            "(became = 'refused') = (message IS NOT NULL)",
            name=op.f("ck_schedule_firing_message_iff_refused"),
        ),
        sa.ForeignKeyConstraint(
            ["schedule_id"],
            ["schedule.id"],
            name=op.f("fk_schedule_firing_schedule_id_schedule"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("schedule_id", "fire_at", name=op.f("pk_schedule_firing")),
    )
    op.create_index("ix_schedule_firing_at", "schedule_firing", ["at"])
    op.create_table(
        "schedule_secret",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["schedule_id"],
            ["schedule.id"],
            name=op.f("fk_schedule_secret_schedule_id_schedule"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("schedule_id", name=op.f("pk_schedule_secret")),
    )


def _know(actions: list[str]) -> None:
    values = ", ".join(f"'{action}'" for action in actions)
    op.execute(
        f"ALTER TABLE audit_entry DROP CONSTRAINT {KNOWN},"
        f" ADD CONSTRAINT {KNOWN} CHECK (action IN ({values})) NOT VALID"
    )


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    # What was noted stays, and is not looked at again: it is never changed.
    _know(ACTIONS)
    for table in reversed(TABLES):
        op.drop_table(table)
