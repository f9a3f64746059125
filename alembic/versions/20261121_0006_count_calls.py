"""Count calls

What a subject may still call is counted here while Valkey is away. Unlogged: a crash forgets it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TENANT, WORKER = "holdfast_tenant", "holdfast_worker"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.create_table(
        "call_window",
        sa.Column("window_start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("window_start", "subject_id", name=op.f("pk_call_window")),
        prefixes=["UNLOGGED"],
    )
    own = "subject_id = (SELECT current_setting('holdfast.subject', true))"
    op.execute("ALTER TABLE call_window ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE call_window FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own ON call_window TO {TENANT} USING ({own}) WITH CHECK ({own})")
    op.execute(f"CREATE POLICY work ON call_window TO {WORKER} USING (true) WITH CHECK (true)")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON call_window TO {TENANT}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON call_window TO {WORKER}")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.drop_table("call_window")
