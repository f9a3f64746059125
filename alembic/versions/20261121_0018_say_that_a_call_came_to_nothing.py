"""Say that a call came to nothing

A provider may take a call and say later that it failed, or make what cannot be kept. That is
neither doubt nor a refusal: it was carried out, and may be paid for.
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

REASONS = (
    """exit_nonzero oom timed_out insufficient_credits missing_permission invalid_request
    launch_unconfirmed outcome_unknown upstream_deleted cancelled_upstream stuck_scheduling
    hub_unavailable outputs_missing dependency_failed""",
    "internal",
)
NAME = "ck_job_reason_known"


def upgrade() -> None:
    _know(" call_failed ".join(REASONS))
    with op.get_context().autocommit_block():
        op.execute(f"ALTER TABLE job VALIDATE CONSTRAINT {NAME}")


def downgrade() -> None:
    # Rows of the newer revision may break this rule, and stay as they are.
    _know(" ".join(REASONS))


def _know(words: str) -> None:
    values = ", ".join(f"'{word}'" for word in words.split())
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    op.execute(
        f"ALTER TABLE job DROP CONSTRAINT {NAME},"
        f" ADD CONSTRAINT {NAME} CHECK (reason IN ({values})) NOT VALID"
    )
