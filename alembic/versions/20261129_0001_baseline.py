"""Baseline: the whole schema, as SQL files grouped by theme.

The files are in `alembic/sql/0001`. Start with `tables.sql`.
"""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
compatible_from = "0001"

# A later file may use what an earlier one creates.
UPGRADE = (
    "roles.sql",
    "tables.sql",
    "uploads.sql",
    "transition_guards.sql",
    "submission.sql",
    "label_copies.sql",
    "dependency_settlement.sql",
    "cost_settlement.sql",
    "secret_removal.sql",
    "ends.sql",
    "change_notifications.sql",
    "row_security.sql",
    "views.sql",
)
DOWNGRADE = ("downgrade.sql",)

# Beside `versions`, in a clone and in a wheel. A revision reads no other revision's folder.
SQL = Path(__file__).resolve().parents[1] / "sql" / revision


def upgrade() -> None:
    run(UPGRADE)


def downgrade() -> None:
    run(DOWNGRADE)


def run(names: tuple[str, ...]) -> None:
    # Also begins the transaction that the files run in.
    op.execute("SET LOCAL lock_timeout = '500ms'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    for name in names:
        execute((SQL / name).read_text(encoding="utf-8"))


def execute(script: str) -> None:
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(script)
        return
    # By the driver itself: SQLAlchemy prepares each statement, so it takes only one at a time, and
    # it would read `:name` in a script as a parameter.
    bind = op.get_bind()
    adapter = bind.connection.dbapi_connection
    try:
        adapter.run_async(lambda driver: driver.execute(script))
    except Exception:
        # A rollback on a lost connection would raise as well, and hide why it was lost.
        if adapter.driver_connection.is_closed():
            bind.invalidate()
        raise
