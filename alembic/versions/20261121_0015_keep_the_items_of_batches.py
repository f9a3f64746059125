"""Keep the items of batches

A batch is one job and many calls. Each call is a row, marked in a commit before it is sent and
settled after it, so that whatever ends a worker, no item that is done is ever sent again.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TENANT, WORKER = "holdfast_tenant", "holdfast_worker"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.create_table(
        "batch_item",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("custom_id", sa.Text(), nullable=False),
        sa.Column("request", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=True),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'sent', 'done', 'failed', 'unknown')",
            name=op.f("ck_batch_item_state_known"),
        ),
        sa.CheckConstraint(
            "length(custom_id) BETWEEN 1 AND 200", name=op.f("ck_batch_item_custom_id_length")
        ),
        sa.CheckConstraint(
            "(state = 'done') = (result IS NOT NULL)", name=op.f("ck_batch_item_done_with_a_result")
        ),
        sa.CheckConstraint(
            "(state IN ('failed', 'unknown')) = (reason IS NOT NULL)",
            name=op.f("ck_batch_item_failed_for_a_reason"),
        ),
        sa.CheckConstraint(
            "state <> 'sent' OR run_id IS NOT NULL", name=op.f("ck_batch_item_sent_by_a_run")
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("fk_batch_item_job_id_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "position", name=op.f("pk_batch_item")),
        sa.UniqueConstraint("job_id", "custom_id", name=op.f("uq_batch_item_job_id_custom_id")),
        postgresql_with={"fillfactor": "70"},
    )
    own = "subject_id = (SELECT current_setting('holdfast.subject', true))"
    op.execute("ALTER TABLE batch_item ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE batch_item FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own ON batch_item TO {TENANT} USING ({own}) WITH CHECK ({own})")
    op.execute(f"CREATE POLICY work ON batch_item TO {WORKER} USING (true) WITH CHECK (true)")
    op.execute(f"GRANT SELECT, INSERT ON batch_item TO {TENANT}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON batch_item TO {WORKER}")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.drop_table("batch_item")
