"""Set deadlines, and tell requests again

A stage of a run has a deadline, and a job the digest of its request. What the sender of a create
request knows is taken even after it was doubted; a run that was refused may be listed all the same.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

REASONS = (
    "exit_nonzero oom timed_out insufficient_credits missing_permission invalid_request"
    " launch_unconfirmed outcome_unknown upstream_deleted cancelled_upstream"
)
LAST_REASONS = "hub_unavailable internal"
EVENTS = "created claimed begun rejected unconfirmed bound absent surplus stage"
LAST_EVENTS = "ended cancelled"

RUN_GUARD = """
CREATE OR REPLACE FUNCTION remote_run_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF OLD.state IN ('posting', 'unknown', 'bound') THEN
      RAISE EXCEPTION 'run %% may be alive and cannot be forgotten', OLD.id;
    END IF;
    RETURN OLD;
  END IF;
  IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
      ('posting', 'unknown'), ('posting', 'rejected'), ('posting', 'bound'), ('posting', 'ended'),
      ('unknown', 'absent'), ('unknown', 'bound'),
      ('absent', 'bound'), ('bound', 'ended')%s) THEN
    RAISE EXCEPTION 'run %% cannot move from %% to %%', OLD.id, OLD.state, NEW.state;
  END IF;
  IF (OLD.state, NEW.state) = ('posting', 'ended') AND OLD.kind = 'hub_job' THEN
    RAISE EXCEPTION 'run %% ends only after it was bound', OLD.id;
  END IF;
  IF OLD.remote_id IS NOT NULL AND NEW.remote_id IS DISTINCT FROM OLD.remote_id THEN
    RAISE EXCEPTION 'the remote id of run %% is written once', OLD.id;
  END IF;
  IF OLD.desired = 'dead' AND NEW.desired <> 'dead' THEN
    RAISE EXCEPTION 'the kill order of run %% is never taken back', OLD.id;
  END IF;
  RETURN NEW;
END $$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.add_column("job", sa.Column("digest", sa.LargeBinary(), nullable=True))
    op.add_column("remote_run", sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True))
    known("job", "reason", f"{REASONS} stuck_scheduling {LAST_REASONS}")
    known("job_event", "kind", f"{EVENTS} expired {LAST_EVENTS}")
    op.execute(RUN_GUARD % ",\n      ('unknown', 'rejected'), ('rejected', 'bound')")
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE job VALIDATE CONSTRAINT ck_job_reason_known")
        op.execute("ALTER TABLE job_event VALIDATE CONSTRAINT ck_job_event_kind_known")
        op.create_index(
            "ix_job_digest",
            "job",
            ["subject_id", "digest", "created_at"],
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("ix_job_digest", table_name="job", postgresql_concurrently=True)
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute(RUN_GUARD % "")
    # Rows of the newer revision may break these rules, and stay as they are.
    known("job_event", "kind", f"{EVENTS} {LAST_EVENTS}")
    known("job", "reason", f"{REASONS} {LAST_REASONS}")
    op.drop_column("remote_run", "deadline_at")
    op.drop_column("job", "digest")


def known(table: str, column: str, words: str) -> None:
    name = op.f(f"ck_{table}_{column}_known")
    values = ", ".join(f"'{word}'" for word in words.split())
    op.drop_constraint(name, table, type_="check")
    op.create_check_constraint(
        name, table, sa.text(f"{column} IN ({values})"), postgresql_not_valid=True
    )
