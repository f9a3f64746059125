"""Let jobs wait for jobs

Which job waits for which. Whatever ends a job settles what waits for it, in the same statement; a
worker takes it from there. What waits and would never be looked at is unowned.
"""

from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TENANT, WORKER, ANALYST = "holdfast_tenant", "holdfast_worker", "holdfast_analyst"

# With the rights of whoever ends the parent: it and what waits for it are one subject's.
SETTLE = """
CREATE FUNCTION settle_waits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE job_dependency AS wait
     SET state = CASE WHEN NEW.state = 'succeeded' OR wait.on_end = 'finish' THEN 'met'
                      ELSE 'unmet' END
   WHERE wait.parent_id = NEW.id AND wait.state = 'waiting';
  RETURN NULL;
END $$
"""

WAITING = """
UNION ALL
SELECT job.id, NULL, 'waits for no job that is open'
  FROM job
 WHERE job.state = 'queued' AND job.due_at = 'infinity'
   AND NOT EXISTS (SELECT FROM job_dependency AS wait
                    WHERE wait.job_id = job.id AND NOT wait.told
                      AND (wait.state <> 'waiting'
                           OR EXISTS (SELECT FROM job AS parent WHERE parent.id = wait.parent_id
                                         AND parent.finished_at IS NULL)))
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.create_table(
        "job_dependency",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("on_end", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("told", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.CheckConstraint(
            "on_end IN ('success', 'finish')", name=op.f("ck_job_dependency_on_end_known")
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'met', 'unmet')", name=op.f("ck_job_dependency_state_known")
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("fk_job_dependency_job_id_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "parent_id", name=op.f("pk_job_dependency")),
    )
    op.create_index(
        "ix_job_dependency_parent",
        "job_dependency",
        ["parent_id"],
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index(
        "ix_job_dependency_untold",
        "job_dependency",
        ["job_id"],
        postgresql_where=sa.text("state <> 'waiting' AND NOT told"),
    )
    own = "subject_id = (SELECT current_setting('holdfast.subject', true))"
    op.execute("ALTER TABLE job_dependency ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE job_dependency FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own ON job_dependency TO {TENANT} USING ({own}) WITH CHECK ({own})")
    op.execute(f"CREATE POLICY work ON job_dependency TO {WORKER} USING (true) WITH CHECK (true)")
    op.execute(f"CREATE POLICY analysis ON job_dependency FOR SELECT TO {ANALYST} USING (true)")
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON job_dependency TO {TENANT}, {WORKER}")
    op.execute(f"GRANT DELETE ON job_dependency TO {WORKER}")
    op.execute(f"GRANT SELECT ON job_dependency TO {ANALYST}")
    op.execute(SETTLE)
    op.execute(
        "CREATE TRIGGER settle_waits AFTER UPDATE ON job FOR EACH ROW"
        " WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL)"
        " EXECUTE FUNCTION settle_waits()"
    )
    op.execute(f"CREATE OR REPLACE {_unowned()}{WAITING}")
    op.execute("ALTER VIEW v_unowned SET (security_invoker = true)")


def _unowned() -> str:
    """Return the statement that made the view, without its first word."""
    (path,) = Path(__file__).parent.glob("*_0002_*.py")
    loader = SourceFileLoader("guarded", str(path))
    module = ModuleType("guarded")
    loader.exec_module(module)
    return str(module.UNOWNED).strip().removeprefix("CREATE ")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute(f"CREATE OR REPLACE {_unowned()}")
    op.execute("ALTER VIEW v_unowned SET (security_invoker = true)")
    op.execute("DROP TRIGGER settle_waits ON job")
    op.execute("DROP FUNCTION settle_waits()")
    op.drop_table("job_dependency")
