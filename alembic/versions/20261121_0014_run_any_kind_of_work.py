"""Run any kind of work

A kind is an open word: whoever adds an executor changes nothing here. A job says how far it is, and
which schedule fired it; what it leaves behind beside its result are files, here or in a bucket.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TENANT, WORKER = "holdfast_tenant", "holdfast_worker"

EVENTS = (
    "created claimed begun rejected unconfirmed bound absent unwatched surplus stage",
    "expired ended cancelled",
)
REASONS = (
    """exit_nonzero oom timed_out insufficient_credits missing_permission invalid_request
    launch_unconfirmed outcome_unknown upstream_deleted cancelled_upstream stuck_scheduling
    hub_unavailable""",
    "internal",
)
KINDS = "kind IN ('hub_job', 'inference')"
WORD = "kind ~ '^[a-z][a-z_]{1,39}$'"
VALID = {
    "job": ("kind_word", "reason_known"),
    "remote_run": ("kind_word",),
    "job_event": ("kind_known",),
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    for table in ("job", "remote_run"):
        _replace(table, "kind_known", "kind_word", WORD)
    _know("job_event", "kind", " progressed released ".join(EVENTS))
    _know("job", "reason", " outputs_missing dependency_failed ".join(REASONS))
    op.add_column(
        "job", sa.Column("progress", postgresql.JSONB(astext_type=sa.Text()), nullable=True)
    )
    op.add_column("job", sa.Column("schedule_id", sa.Uuid(), nullable=True))
    op.create_table(
        "job_file",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("revision", sa.Text(), nullable=True),
        sa.Column("uri", sa.Text(), nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint(
            "(uri IS NULL) <> (content IS NULL)", name=op.f("ck_job_file_one_place")
        ),
        sa.CheckConstraint("size_bytes >= 0", name=op.f("ck_job_file_size_counted")),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 1000", name=op.f("ck_job_file_name_length")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("fk_job_file_job_id_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_job_file")),
    )
    own = "subject_id = (SELECT current_setting('holdfast.subject', true))"
    op.execute("ALTER TABLE job_file ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE job_file FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own ON job_file TO {TENANT} USING ({own}) WITH CHECK ({own})")
    op.execute(f"CREATE POLICY work ON job_file TO {WORKER} USING (true) WITH CHECK (true)")
    op.execute(f"GRANT SELECT ON job_file TO {TENANT}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON job_file TO {WORKER}")
    with op.get_context().autocommit_block():
        for table, names in VALID.items():
            for name in names:
                op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT ck_{table}_{name}")
        op.create_index(
            "ix_job_schedule",
            "job",
            ["schedule_id", "id"],
            postgresql_where=sa.text("schedule_id IS NOT NULL"),
            postgresql_concurrently=True,
        )


def _replace(table: str, old: str, new: str, check: str) -> None:
    op.execute(
        f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{old},"
        f" ADD CONSTRAINT ck_{table}_{new} CHECK ({check}) NOT VALID"
    )


def _know(table: str, column: str, words: str) -> None:
    values = ", ".join(f"'{word}'" for word in words.split())
    name = f"{column}_known"
    _replace(table, name, name, f"{column} IN ({values})")


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_job_schedule", table_name="job", postgresql_concurrently=True)
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.drop_table("job_file")
    op.drop_column("job", "schedule_id")
    op.drop_column("job", "progress")
    # Rows of the newer revision may break these rules, and stay as they are.
    _know("job", "reason", " ".join(REASONS))
    _know("job_event", "kind", " ".join(EVENTS))
    for table in ("remote_run", "job"):
        _replace(table, "kind_word", "kind_known", KINDS)
