"""Let workspaces have defaults, and jobs be run again

A workspace says what launches into it take where they do not say otherwise, and can be put away. A
job knows which one it repeats. That is no foreign key: the later job outlives the earlier one.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

ACTIONS = ["workspace_made", "credential_lent", "credential_refused"]
NEW_ACTIONS = ["workspace_made", "workspace_updated", "workspace_archived", *ACTIONS[1:]]
KNOWN = "ck_audit_entry_action_known"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.add_column(
        "workspace",
        sa.Column(
            "defaults",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
    )
    op.add_column("workspace", sa.Column("confirm_above_micro_usd", sa.BigInteger(), nullable=True))
    op.add_column("workspace", sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(
        "ALTER TABLE workspace ADD CONSTRAINT ck_workspace_confirm_above_positive"
        " CHECK (confirm_above_micro_usd >= 0) NOT VALID"
    )
    op.add_column("job", sa.Column("rerun_of", sa.Uuid(), nullable=True))
    _know(NEW_ACTIONS)
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE audit_entry VALIDATE CONSTRAINT {KNOWN}")
        op.execute("ALTER TABLE workspace VALIDATE CONSTRAINT ck_workspace_confirm_above_positive")
        op.create_index(
            "ix_job_rerun_of",
            "job",
            ["rerun_of", "id"],
            postgresql_where=sa.text("rerun_of IS NOT NULL"),
            postgresql_concurrently=True,
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
    op.drop_index("ix_job_rerun_of", "job")
    op.drop_column("job", "rerun_of")
    op.drop_constraint("ck_workspace_confirm_above_positive", "workspace")
    for column in ("archived_at", "confirm_above_micro_usd", "defaults"):
        op.drop_column("workspace", column)
