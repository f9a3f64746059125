"""Bound what is spent

What a job may cost at most is held when it is launched, and settled by a trigger as soon as
nothing of it can cost any more; no move can forget to. Jobs that were there before have no price.
"""

from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TENANT, WORKER, ANALYST = "holdfast_tenant", "holdfast_worker", "holdfast_analyst"
READERS = f"{TENANT}, {WORKER}, {ANALYST}"

EVENTS = "created claimed begun rejected unconfirmed bound absent"
LAST_EVENTS = "surplus stage expired ended cancelled"

# Fired when the statement of the move is over, so it sees all that the move did. Money is locked
# last, a workspace before a month, as in a launch.
SETTLE = """
CREATE FUNCTION settle_cost() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  cost job_cost%ROWTYPE;
  total bigint;
BEGIN
  SELECT * INTO cost FROM job_cost WHERE job_id = NEW.id FOR UPDATE;
  IF NOT FOUND OR EXISTS (
      SELECT FROM remote_run
       WHERE job_id = NEW.id AND (state IN ('posting', 'unknown', 'bound')
                                  OR (state = 'absent' AND deadline_at IS NOT NULL))) THEN
    RETURN NULL;
  END IF;
  SELECT coalesce(sum(cost_micro_usd), 0) INTO total FROM remote_run WHERE job_id = NEW.id;
  IF cost.spent_micro_usd IS NULL THEN
    UPDATE job_cost
       SET held_micro_usd = 0, spent_micro_usd = least(total, cost.held_micro_usd),
           uncounted_micro_usd = greatest(total - cost.held_micro_usd, 0)
     WHERE job_id = NEW.id;
    UPDATE workspace
       SET held_micro_usd = held_micro_usd - cost.held_micro_usd,
           spent_micro_usd = spent_micro_usd + least(total, cost.held_micro_usd)
     WHERE id = NEW.workspace_id;
    UPDATE spending
       SET held_micro_usd = held_micro_usd - cost.held_micro_usd,
           spent_micro_usd = spent_micro_usd + least(total, cost.held_micro_usd)
     WHERE subject_id = NEW.subject_id AND month = cost.month;
  ELSIF total > cost.spent_micro_usd + cost.uncounted_micro_usd THEN
    UPDATE job_cost SET uncounted_micro_usd = total - spent_micro_usd WHERE job_id = NEW.id;
  END IF;
  RETURN NULL;
END $$
"""

LIVE = """CASE WHEN job.started_at IS NOT NULL THEN least(cost.held_micro_usd,
            cost.price_micro_usd * ceil(extract(epoch FROM greatest(
                coalesce(job.finished_at, now()) - job.started_at, interval '0')) / 60)) ELSE 0 END"""
SO_FAR = f"round(coalesce(cost.spent_micro_usd, {LIVE}) / 1e6, 6)"
JOINED = "LEFT JOIN job_cost AS cost ON cost.job_id = job.id"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    _create_tables()
    for table, columns in COUNTED.items():
        for column, kind in columns.items():
            default = sa.text("0") if kind == "counter" else None
            op.add_column(
                table,
                sa.Column(
                    column, sa.BigInteger(), server_default=default, nullable=default is None
                ),
            )
    for table, checks in CHECKS.items():
        for name, check in checks.items():
            op.create_check_constraint(
                op.f(f"ck_{table}_{name}"), table, sa.text(check), postgresql_not_valid=True
            )
    _know_events(f"{EVENTS} unwatched {LAST_EVENTS}")
    op.execute(SETTLE)
    op.execute(
        "CREATE TRIGGER settle_cost AFTER UPDATE ON job FOR EACH ROW"
        " WHEN (NEW.finished_at IS NOT NULL) EXECUTE FUNCTION settle_cost()"
    )
    _make_views(_with_cost(_shown()))
    with op.get_context().autocommit_block():
        for table, checks in CHECKS.items():
            for name in checks:
                op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT ck_{table}_{name}")
        op.execute("ALTER TABLE job_event VALIDATE CONSTRAINT ck_job_event_kind_known")
        op.create_index(
            "ix_remote_run_watched",
            "remote_run",
            ["deadline_at"],
            postgresql_where=sa.text("state = 'absent' AND deadline_at IS NOT NULL"),
            postgresql_concurrently=True,
        )


COUNTED = {
    "workspace": {
        "budget_micro_usd": "limit",
        "held_micro_usd": "counter",
        "spent_micro_usd": "counter",
    },
    "subject": {"monthly_budget_micro_usd": "limit"},
    "remote_run": {"cost_micro_usd": "limit"},
}
CHECKS = {
    "workspace": {
        "budget_counted": "budget_micro_usd >= 0",
        "held_counted": "held_micro_usd >= 0",
        "spent_counted": "spent_micro_usd >= 0",
    },
    "subject": {"budget_counted": "monthly_budget_micro_usd >= 0"},
    "remote_run": {"cost_counted": "cost_micro_usd >= 0"},
}


def _create_tables() -> None:
    op.create_table(
        "job_cost",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("price_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("ceiling_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("most_micro_usd", sa.BigInteger(), nullable=True),
        sa.Column("held_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("spent_micro_usd", sa.BigInteger(), nullable=True),
        sa.Column(
            "uncounted_micro_usd", sa.BigInteger(), server_default=sa.text("0"), nullable=False
        ),
        sa.CheckConstraint("price_micro_usd >= 0", name=op.f("ck_job_cost_priced")),
        sa.CheckConstraint("ceiling_micro_usd >= 0", name=op.f("ck_job_cost_bounded")),
        sa.CheckConstraint("held_micro_usd >= 0", name=op.f("ck_job_cost_held_counted")),
        sa.CheckConstraint(
            "held_micro_usd <= most_micro_usd", name=op.f("ck_job_cost_held_within_most")
        ),
        sa.CheckConstraint("spent_micro_usd >= 0", name=op.f("ck_job_cost_spent_counted")),
        sa.CheckConstraint(
            "spent_micro_usd IS NULL OR held_micro_usd = 0", name=op.f("ck_job_cost_settled_once")
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name=op.f("fk_job_cost_job_id_job"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_cost")),
    )
    op.create_table(
        "spending",
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("held_micro_usd", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("spent_micro_usd", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint("held_micro_usd >= 0", name=op.f("ck_spending_held_counted")),
        sa.CheckConstraint("spent_micro_usd >= 0", name=op.f("ck_spending_spent_counted")),
        sa.ForeignKeyConstraint(
            ["subject_id"], ["subject.id"], name=op.f("fk_spending_subject_id_subject")
        ),
        sa.PrimaryKeyConstraint("subject_id", "month", name=op.f("pk_spending")),
    )
    op.create_table(
        "price_list",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("entries", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "read_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_price_list")),
    )
    own = "subject_id = (SELECT current_setting('holdfast.subject', true))"
    for table, rows in {"job_cost": own, "spending": own, "price_list": "true"}.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own ON {table} TO {TENANT} USING ({rows}) WITH CHECK ({rows})")
        op.execute(f"CREATE POLICY work ON {table} TO {WORKER} USING (true) WITH CHECK (true)")
        op.execute(f"CREATE POLICY analysis ON {table} FOR SELECT TO {ANALYST} USING (true)")
        op.execute(f"GRANT SELECT ON {table} TO {READERS}")
        op.execute(f"GRANT INSERT, UPDATE ON {table} TO {TENANT}")
        op.execute(f"GRANT INSERT, UPDATE, DELETE ON {table} TO {WORKER}")


def _shown() -> ModuleType:
    """Load the revision that made the views, whose text the newer ones add to."""
    (path,) = Path(__file__).parent.glob("*_0008_*.py")
    loader = SourceFileLoader("shown", str(path))
    module = ModuleType("shown")
    loader.exec_module(module)
    return module


def _with_cost(shown: ModuleType) -> list[str]:
    """Add columns of money, in dollars, at the end of each view that has room for them."""
    job = (
        shown.JOB.replace(
            f"{shown.RAN_FOR} AS ran_for\n",
            f"{shown.RAN_FOR} AS ran_for,\n"
            "       round(cost.ceiling_micro_usd / 1e6, 6) AS ceiling_usd,\n"
            f"       CASE WHEN cost.job_id IS NOT NULL THEN {SO_FAR} END AS cost_usd,\n"
            "       cost.spent_micro_usd IS NOT NULL AS cost_final\n",
        )
        + f"  {JOINED}\n"
    )
    groups = [
        statement.replace(
            shown.SUMS,
            f"{shown.SUMS},\n       coalesce(sum(cost_usd), 0) AS cost_usd,\n"
            "       coalesce(sum(held_usd), 0) AS held_usd,\n"
            "       coalesce(sum(unpriced), 0)::bigint AS unpriced",
        )
        .replace(
            shown.SECONDS,
            f"{shown.SECONDS}, sum(round(cost.spent_micro_usd / 1e6, 6)) AS cost_usd,\n"
            "                    sum(round(cost.held_micro_usd / 1e6, 6)) AS held_usd,\n"
            "                    count(*) FILTER (WHERE cost.job_id IS NULL) AS unpriced",
        )
        .replace("FROM job WHERE", f"FROM job {JOINED} WHERE")
        .replace("FROM job GROUP", f"FROM job {JOINED} GROUP")
        for statement in (shown.WORKSPACE_COST, shown.SUBJECT_USAGE)
    ]
    return [job, *groups]


def _make_views(statements: list[str]) -> None:
    for view in ("v_job", "v_workspace_cost", "v_subject_usage"):
        op.execute(f"DROP VIEW {view}")
    for statement in statements:
        op.execute(statement)
    op.execute(f"GRANT SELECT ON v_job, v_workspace_cost, v_subject_usage TO {READERS}")


def _know_events(words: str) -> None:
    name = op.f("ck_job_event_kind_known")
    values = ", ".join(f"'{word}'" for word in words.split())
    op.drop_constraint(name, "job_event", type_="check")
    op.create_check_constraint(
        name, "job_event", sa.text(f"kind IN ({values})"), postgresql_not_valid=True
    )


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(
            "ix_remote_run_watched", table_name="remote_run", postgresql_concurrently=True
        )
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    shown = _shown()
    _make_views([shown.JOB, shown.WORKSPACE_COST, shown.SUBJECT_USAGE])
    op.execute("DROP TRIGGER settle_cost ON job")
    op.execute("DROP FUNCTION settle_cost()")
    # Events of the newer revision may break this rule, and stay as they are.
    _know_events(f"{EVENTS} {LAST_EVENTS}")
    for table, columns in COUNTED.items():
        for column in columns:
            op.drop_column(table, column)
    for table in ("price_list", "spending", "job_cost"):
        op.drop_table(table)
