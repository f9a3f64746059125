"""Keep a job in its subject's workspace

A foreign key passes by row-level security, so it has to say itself whose workspace it means.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

OLD = "fk_job_workspace_id_workspace"
NEW = "fk_job_workspace_id_subject_id_workspace"
KEY = "uq_workspace_id_subject_id"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.create_index(
            KEY, "workspace", ["id", "subject_id"], unique=True, postgresql_concurrently=True
        )
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute(f"ALTER TABLE workspace ADD CONSTRAINT {KEY} UNIQUE USING INDEX {KEY}")
    op.execute(
        f"ALTER TABLE job ADD CONSTRAINT {NEW} FOREIGN KEY (workspace_id, subject_id)"
        " REFERENCES workspace (id, subject_id) NOT VALID"
    )
    op.execute(f"ALTER TABLE job DROP CONSTRAINT {OLD}")
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE job VALIDATE CONSTRAINT {NEW}")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute(
        f"ALTER TABLE job ADD CONSTRAINT {OLD} FOREIGN KEY (workspace_id)"
        " REFERENCES workspace (id) NOT VALID"
    )
    op.execute(f"ALTER TABLE job DROP CONSTRAINT {NEW}")
    op.execute(f"ALTER TABLE workspace DROP CONSTRAINT {KEY}")
